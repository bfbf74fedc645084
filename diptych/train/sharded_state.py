"""A run's state as the shards of its ranks, put together again by any number of ranks.

    write_shard(folder, state)      # every rank: rank-R-of-W.pt with its own rows; rank 0 adds what all ranks share
    read_shards(folder)             # the whole state, from any number of ranks
    gathered(state)                 # every rank; rank 0 gets the whole state, the others None

torch.distributed.checkpoint is not used: its .metadata file is a pickle, which could run code when it is read. Here
every file is read with weights_only, and states which rows of which tensors it holds.
"""

import copy
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from diptych import distributed
from diptych.files import utf8
from diptych.model.claims import check_stored, refuse_bombs
from diptych.train.state_check import DIGEST, state_digest

# The position of a value in the nested state: the keys and indices that lead to it.
_Place = tuple[str | int, ...]


def write_file(path: Path, value: Any) -> None:
    """Write plain data and tensors, and flush them to disk; a dict gets a digest.

    Raises:
        OSError, RuntimeError: the disk is full; torch raises the latter.
    """
    content = {**value, DIGEST: state_digest(value)} if isinstance(value, dict) else value
    with path.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def read_file(path: Path, *, mmap: bool = False) -> Any:
    """The inverse of write_file, on the CPU.

    Args:
        mmap: leave the tensors in the file; it must stay as long as they are in use.
    Raises:
        Exception: of many kinds, if the file is truncated, damaged or changed.
    """
    # torch.load does not check the checksums that torch.save wrote; a flipped bit would become a wrong weight.
    refuse_bombs(path)
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
    mmap &= utf8(str(path)) == str(path)  # torch cannot map a file whose name is not UTF-8
    value = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    check_stored(value, path.stat().st_size, "")
    # Older versions wrote no digest.
    if isinstance(value, dict) and DIGEST in value and value.pop(DIGEST) != state_digest(value):
        raise ValueError("it was changed after it was written: its digest does not match")
    return value


def write_shard(folder: Path, state: dict[str, Any]) -> None:
    """Write this rank's rows of the sharded tensors; rank 0 adds everything else.

    Args:
        folder: exists, and is the same in all ranks.
        state: nested dicts, lists and tuples of tensors, DTensors and plain values. Everything that is not a DTensor
            must be the same in all ranks: rank 0's is written.
    Raises:
        OSError, RuntimeError: the disk is full.
    """
    rank, ranks = distributed.rank(), distributed.world_size()
    rows: dict[_Place, dict[str, Any]] = {}

    def keep(place: _Place, value: Any) -> Any:
        if not _is_dtensor(value):
            return value
        if (shard := _rows_here(value)) is None:  # replicated, or sharded along another dimension: whole in rank 0
            return _whole(value)
        rows[place] = shard
        return None

    rest = _changed(state, keep)
    shard = {"rank": rank, "ranks": ranks, "step": state["step"], "rows": rows, "rest": rest if rank == 0 else None}
    write_file(folder / _name(rank, ranks), shard)


def read_shards(folder: Path) -> dict[str, Any]:
    """The whole state in CPU tensors, from the shards of any number of ranks.

    Raises:
        Exception: of many kinds, if a shard is missing, truncated, damaged or of another step.
    """
    first = next(iter(sorted(folder.glob(_name(0, "*")))), folder / _name(0, "*"))
    main = read_file(first)
    whole: dict[_Place, torch.Tensor] = {}
    filled: dict[_Place, int] = {}
    for rank in range(main["ranks"]):
        # Mapped and copied row by row, so that no shard is in memory as a whole.
        shard = read_file(folder / _name(rank, main["ranks"]), mmap=True)
        if (shard["rank"], shard["ranks"], shard["step"]) != (rank, main["ranks"], main["step"]):
            raise ValueError(f"{_name(rank, main['ranks'])} is of rank {shard['rank']} and step {shard['step']}")
        for place, part in shard["rows"].items():
            tensor, begin = part["tensor"], part["begin"]
            if list(tensor.shape[1:]) != list(part["shape"])[1:] or (len(tensor) and begin != filled.get(place, 0)):
                raise ValueError(f"rows of {place} do not follow those of the rank before")
            if place not in whole:
                whole[place] = torch.empty(part["shape"], dtype=tensor.dtype)
            whole[place][begin : begin + len(tensor)] = tensor
            filled[place] = filled.get(place, 0) + len(tensor)
    if short := [place for place, tensor in whole.items() if filled[place] != len(tensor)]:
        raise ValueError(f"rows are missing of {len(short)} tensors, the first is {short[0]}")
    return _changed(main["rest"], lambda place, value: whole.get(place, value))


def gathered(state: dict[str, Any] | None) -> dict[str, Any] | None:
    """The state with whole CPU tensors instead of DTensors, in rank 0; None in the others.

    All ranks call it, with the same DTensors. Ranks without DTensors may pass None.
    """
    whole = _changed(state, lambda _, value: _whole(value) if _is_dtensor(value) else value)
    return whole if distributed.is_main() else None


def _name(rank: int, ranks: int | str) -> str:
    return f"rank-{rank}-of-{ranks}.pt"


def _is_dtensor(value: Any) -> bool:
    """Whether value is a DTensor; a single process need not import torch's module for it, which takes a second."""
    if not dist.is_initialized():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)


def _whole(value: Any) -> torch.Tensor | None:
    """A DTensor gathered from all ranks, on the CPU of rank 0; the others drop it at once."""
    tensor = value.full_tensor()
    return tensor.cpu() if distributed.is_main() else None


def _rows_here(value: Any) -> dict[str, Any] | None:
    """The rows of a DTensor that this rank holds; None unless it is sharded exactly once, along dimension 0.

    If groups of ranks hold copies of the same rows (hybrid sharding), only the first group writes them.
    """
    sharded = [index for index, placement in enumerate(value.placements) if not placement.is_replicate()]
    if (
        len(sharded) != 1
        or type(value.placements[sharded[0]]).__name__ != "Shard"
        or value.placements[sharded[0]].dim != 0
    ):
        return None
    coordinates = value.device_mesh.get_coordinate()
    # As torch.chunk splits: all shards have equal length except the last ones, which may be shorter or empty.
    length = -(-len(value) // value.device_mesh.size(sharded[0]))
    begin = min(coordinates[sharded[0]] * length, len(value))
    end = min(begin + length, len(value))
    tensor = value.to_local().detach()
    if len(tensor) != end - begin:
        raise RuntimeError(f"a shard of {len(value)} rows has {len(tensor)} in rank {distributed.rank()}")
    if any(coordinate for index, coordinate in enumerate(coordinates) if index != sharded[0]):
        tensor = tensor[:0]
    # torch.save writes a view with its whole storage.
    if tensor.untyped_storage().nbytes() > 2 * tensor.nbytes:
        tensor = tensor.clone()
    return {"tensor": tensor, "begin": begin, "shape": list(value.shape)}


def _changed(tree: Any, change: Callable[[_Place, Any], Any], place: _Place = ()) -> Any:
    """A copy of nested dicts, lists and tuples with `change` applied to every value."""
    if isinstance(tree, dict):
        copied = copy.copy(tree)  # keeps an OrderedDict's attributes
        for key, value in tree.items():
            copied[key] = _changed(value, change, (*place, key))
        return copied
    if isinstance(tree, list | tuple):
        return type(tree)(_changed(value, change, (*place, index)) for index, value in enumerate(tree))
    return change(place, tree)
