"""Weights in several files: the index next to them (model.safetensors.index.json) and all files that it names."""

import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diptych.errors import WeightsError
from diptych.files import absence, is_there
from diptych.model.layouts import Tensors

logger = logging.getLogger(__name__)

INDEX_SUFFIX = ".index.json"
_MAX_INDEX_BYTES = 64 * 2**20
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}(?P<suffix>\.\w+)")


def find_index(path: Path) -> Path | None:
    """path itself if it is an index, the index of path if it is a shard, None for a single whole file.

    Raises:
        WeightsError: path is a shard, and the index is not next to it.
    """
    if path.name.endswith(INDEX_SUFFIX):
        return path
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return None
    index = path.with_name(match["stem"] + match["suffix"] + INDEX_SUFFIX)
    if not index.is_file():
        raise WeightsError(f"{path} is one of several shards, and their index {index.name} is not next to it")
    logger.warning("%s is one of several shards; reading all files that %s lists", path, index.name)
    return index


def read_shards(index: Path, read: Callable[[Path], Tensors]) -> Tensors:
    """All tensors that an index lists, each from the file that it names.

    Args:
        read: reads one file.
    Raises:
        WeightsError: the index is damaged or names a file outside its folder, or a shard or a tensor is missing.
    """
    files = whole_index(index)
    result: Tensors = {}
    for shard in sorted(set(files.values())):
        tensors = read(index.parent / shard)
        wanted = [name for name, file in files.items() if file == shard]
        if lacking := [name for name in wanted if name not in tensors]:
            raise WeightsError(f"{index.parent / shard} lacks {', '.join(lacking[:8])}, which {index.name} puts there")
        result |= {name: tensors[name] for name in wanted}
    return result


def whole_index(index: Path) -> dict[str, str]:
    """Like read_index, and check that all files exist.

    Raises:
        WeightsError: as in read_index, or a file is missing or not a regular file.
    """
    files = read_index(index)
    shards = sorted(set(files.values()))
    # os.path: its isfile does not raise on a name that is too long.
    if missing := [name for name in shards if not os.path.isfile(index.parent / name)]:  # noqa: PTH113
        if irregular := [name for name in missing if is_there(index.parent / name)]:
            raise WeightsError(f"{absence(index.parent / irregular[0])}; {index.name} lists it")
        names = ", ".join(name[:80] for name in missing[:8])
        raise WeightsError(f"{index} lists {len(shards)} files, and {len(missing)} of them are missing: {names}")
    return files


def is_beside(name: Any) -> bool:
    """Whether a name can only mean a file in the same folder, on any operating system."""
    # Also refuse what other systems read as a path: a backslash, a drive letter.
    return isinstance(name, str) and bool(name) and not set(name) & set("/\\:\0") and name not in (".", "..")


def read_index(index: Path) -> dict[str, str]:
    """Each tensor's name -> the name of the file next to the index that holds it.

    Raises:
        WeightsError: the index is damaged, or names a file outside its folder.
    """
    try:
        if index.stat().st_size > _MAX_INDEX_BYTES:
            raise WeightsError(f"{index} has {index.stat().st_size:,} bytes, too many for an index")
        files = json.loads(index.read_bytes())["weight_map"]
        names = set(files.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{index} is not an index of weights with an object weight_map: {error!r:.200}") from error
    for name in names:
        if not is_beside(name):
            raise WeightsError(f"{index} names {name!r:.80}, which is not a file next to it; refusing to read it")
        if name.endswith(INDEX_SUFFIX):
            raise WeightsError(f"{index} names another index, {name}, as a file of weights")
    if not files:
        raise WeightsError(f"{index} lists no tensors")
    return dict(files)
