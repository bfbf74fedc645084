"""Ranks: which of torchrun's processes this one is, and the few exchanges that the others build on.

    device = distributed.start("auto")       # joins the processes that torchrun started; alone it only picks a device
    distributed.rank(), distributed.world_size()
    distributed.stop()

Everything here also works alone, where it costs nothing. Tensors are exchanged on their own device: gloo carries
those of processors, NCCL those of GPUs.
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

# A rank that waits longer than this for the others gives up, so that torchrun can start all of them anew.
_TIMEOUT = datetime.timedelta(minutes=10)


def is_sharded(tensor: Any) -> "TypeGuard[DTensor]":
    """Whether a tensor is a DTensor, which FSDP2 cut up over the ranks.

    Asks for no import, which takes half a second: where there is a DTensor, its module has been imported.
    """
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def start(device: torch.device) -> torch.device:
    """Join the processes that torchrun started, if it did; returns the device of this one.

    Raises:
        ConfigError: there are more processes than GPUs on this machine.
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
        store=_among_the_living(store, rank, world_size),
        rank=rank,
        world_size=world_size,
        timeout=_TIMEOUT,
    )
    return device


def _among_the_living(store: dist.Store, rank: int, world_size: int) -> dist.Store:
    """A part of torchrun's store that holds nothing of processes that are gone.

    torchrun hands the same store to the processes that it starts again, where the addresses of those that died still
    stand, and the new ones would wait for them (pytorch issue 135712). Its count of restarts differs between machines.
    So each process says hello under a name of its own; rank 0 offers its own as the group's name to whoever says hello,
    until all ranks have accepted it: the dead accept nothing.
    """
    me = uuid.uuid4().hex
    if rank > 0:
        store.set(f"diptych/hello/{rank}", me)
        group = store.get(f"diptych/offer/{me}").decode()
        store.set(f"diptych/accepted/{group}/{rank}", "yes")
        return dist.PrefixStore(group, store)
    missing, offered = set(range(1, world_size)), dict.fromkeys(range(world_size), "")
    deadline = time.monotonic() + _TIMEOUT.total_seconds()
    while missing:
        if time.monotonic() > deadline:
            raise ConfigError(f"processes {sorted(missing)} of {world_size} did not come; see their output")
        for other in sorted(missing):
            if not store.check([f"diptych/hello/{other}"]):
                continue
            name = store.get(f"diptych/hello/{other}").decode()
            if offered[other] != name:
                offered[other] = name
                store.set(f"diptych/offer/{name}", me)
            if store.check([f"diptych/accepted/{me}/{other}"]):
                missing.remove(other)
        time.sleep(0.01)
    return dist.PrefixStore(me, store)


def stop() -> None:
    """Leave the other processes; nothing where there are none."""
    if dist.is_initialized():
        barrier()  # who leaves while others still exchange would end them
        dist.destroy_process_group()


def leave(status: int | str | None) -> None:
    """End a process of several with that status; returns where there is only one.

    The interpreter's own end is left out: gloo's threads may abort it (torch 2.13, "terminate called without an active
    exception"), and torchrun would take a run that is done for one that failed.
    """
    if world_size() == 1:
        return
    if not status:
        stop()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else bool(status))


def rank() -> int:
    """This process among `world_size`, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """How many processes train together; 1 alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this is the process that writes files and talks."""
    return rank() == 0


def barrier() -> None:
    """Wait for all ranks."""
    if world_size() > 1:
        sum_over_ranks(torch.zeros(()))


def sum_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """The elementwise sum over all ranks, in every rank; a new tensor, without gradient."""
    total = tensor.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def any_rank(flag: bool) -> bool:
    """Whether the flag is set in one rank at least; the same answer in all."""
    return bool(sum_over_ranks(torch.tensor(float(flag))) > 0)


def gather_counts(count: int) -> list[int]:
    """The number of rows of each rank."""
    if world_size() == 1:
        return [count]
    mine = torch.tensor([count])
    counts = [torch.zeros_like(mine) for _ in range(world_size())]
    dist.all_gather(counts, mine)
    return [int(one) for one in counts]


def gather_rows(tensor: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """Rows of all ranks, in the order of the ranks, in every rank; without gradient.

    Args:
        tensor: (n, *), the same shape but for n in all ranks.
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
    """A small picklable value of each rank, in every rank. The ranks of one job trust each other."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def from_main(value: Any) -> Any:
    """Rank 0's value in every rank; what the others hand in is ignored."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def on_main(work: Callable[[], T]) -> T:
    """Let rank 0 do it and tell the others: its result or its error comes out in every rank, so that none waits."""
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
