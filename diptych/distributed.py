"""Ranks: the rank of this process under torchrun, and the collective operations that other modules build on.

    device = distributed.start(device)       # joins the processes that torchrun started; does nothing without torchrun
    distributed.rank(), distributed.world_size()
    distributed.stop()

All functions also work in a single process, at no cost. Tensors are exchanged on their own device: gloo carries
CPU tensors, NCCL carries GPU tensors.
"""

import datetime
import os
import sys
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

import torch
import torch.distributed as dist

from diptych.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

T = TypeVar("T")

# A rank that waits longer than this for the others fails, so that torchrun can restart all of them.
_TIMEOUT = datetime.timedelta(minutes=10)


def is_sharded(tensor: Any) -> "TypeGuard[DTensor]":
    """Whether a tensor is a DTensor, which FSDP2 shards over the ranks.

    Importing the DTensor module takes half a second and is not needed here: if a DTensor exists, the module is already
    imported.
    """
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def start(device: torch.device) -> torch.device:
    """Join the process group, if torchrun started this process; return this process's device.

    Raises:
        ConfigError: this machine has fewer GPUs than processes.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ or dist.is_initialized():
        return device
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"process {local} of this machine has no GPU of its own: there are {torch.cuda.device_count()}. "
                "Start as many processes as GPUs (torchrun --nproc-per-node), or use --device cpu"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    store, rank, world_size = next(dist.rendezvous("env://", timeout=_TIMEOUT))
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=_store_of_live_processes(store, rank, world_size),
        rank=rank,
        world_size=world_size,
        timeout=_TIMEOUT,
    )
    return device


def _store_of_live_processes(store: dist.Store, rank: int, world_size: int) -> dist.Store:
    """A prefix of torchrun's store that contains no entries of dead processes.

    After a restart torchrun passes the same store to the new processes. It still contains the addresses of the dead
    ones, and the new processes would wait for them (pytorch issue 135712). torchrun's restart count cannot serve as
    the prefix, because it differs between machines. So each process announces a random name. Rank 0 offers its own name
    as the group's name to each announced process until all ranks have accepted it; dead processes accept nothing.
    """
    own_name = uuid.uuid4().hex
    if rank > 0:
        store.set(f"diptych/hello/{rank}", own_name)
        group = store.get(f"diptych/offer/{own_name}").decode()
        store.set(f"diptych/accepted/{group}/{rank}", "yes")
        return dist.PrefixStore(group, store)
    missing, offered = set(range(1, world_size)), dict.fromkeys(range(world_size), "")
    deadline = time.monotonic() + _TIMEOUT.total_seconds()
    while missing:
        if time.monotonic() > deadline:
            raise ConfigError(f"processes {sorted(missing)} of {world_size} did not join; see their output")
        for other in sorted(missing):
            if not store.check([f"diptych/hello/{other}"]):
                continue
            name = store.get(f"diptych/hello/{other}").decode()
            if offered[other] != name:
                offered[other] = name
                store.set(f"diptych/offer/{name}", own_name)
            if store.check([f"diptych/accepted/{own_name}/{other}"]):
                missing.remove(other)
        time.sleep(0.01)
    return dist.PrefixStore(own_name, store)


def stop() -> None:
    """Leave the process group; does nothing if there is none."""
    if dist.is_initialized():
        barrier()  # a process that leaves during the others' collective operation makes them fail
        dist.destroy_process_group()


def leave(status: int | str | None) -> None:
    """End this process with that exit status if there are several processes; return if it is the only one.

    The interpreter's normal shutdown is skipped: gloo's threads may abort it (torch 2.13, "terminate called without an
    active exception"), and torchrun would report a finished run as failed.
    """
    if world_size() == 1:
        return
    if not status:
        stop()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else bool(status))


def rank() -> int:
    """The number of this process, from 0 to `world_size() - 1`."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """The number of processes that train together; 1 for a single process."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is rank 0, which writes files and prints."""
    return rank() == 0


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        sum_over_ranks(torch.zeros(()))


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """The elementwise sum over all ranks, on every rank; a new tensor, without gradient."""
    total = tensor.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on at least one rank; the same result on all ranks."""
    return bool(sum_over_ranks(torch.tensor(float(flag))) > 0)


def gather_counts(count: int) -> list[int]:
    """The number of rows of each rank."""
    if world_size() == 1:
        return [count]
    mine = torch.tensor([count])
    counts = [torch.zeros_like(mine) for _ in range(world_size())]
    dist.all_gather(counts, mine)
    return [int(rank_count) for rank_count in counts]


def gather_rows(tensor: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """The rows of all ranks, in rank order, on every rank; without gradient.

    Args:
        tensor: (n, *); only n may differ between ranks.
        counts: n of each rank, from gather_counts.
    Returns:
        (sum of counts, *).
    """
    if len(counts) == 1:
        return tensor.detach()
    longest = max(counts)
    padded = tensor.detach().new_zeros((longest, *tensor.shape[1:]))
    padded[: len(tensor)] = tensor.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def gather_objects(value: Any) -> list[Any]:
    """A small picklable value of each rank, on every rank. The ranks of one job trust each other."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def from_main(value: Any) -> Any:
    """Rank 0's value, on every rank; the values that other ranks pass are ignored."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def on_main(work: Callable[[], T]) -> T:
    """Call `work` on rank 0 only; every rank returns its result or raises its error, so that no rank waits."""
    if world_size() == 1:
        return work()
    outcome: tuple[Any, BaseException | None] = (None, None)
    if is_main():
        try:
            outcome = (work(), None)
        except Exception as error:
            outcome = (None, error)
    value, failure = from_main(outcome)
    if failure is not None:
        raise failure
    return value
