"""Several ranks on this machine: processes that train together over gloo, for tests.

def losses(seed):                       # a function of a test module; runs in every rank
    ...
    return tensor

of_rank_0, of_rank_1 = run_ranks(2, losses, seed)
"""

import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def run_ranks(world_size: int, function: Callable[..., Any], *arguments: Any, seconds: float = 120) -> list[Any]:
    """Call a function in each of several new processes that have joined one process group on the CPU.

    Args:
        function: defined at the top of a module, so that the processes can import it.
        arguments: what it is called with, the same in all ranks; diptych.distributed.rank() tells them apart.
        seconds: after which all are ended.
    Returns:
        What each rank returned: tensors, numbers, strings, and lists and dicts of them.
    Raises:
        AssertionError: a rank failed, with its traceback, or the time is up.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ranks = [
            context.Process(target=_rank, args=(rank, world_size, name, function, arguments), daemon=True)
            for rank in range(world_size)
        ]
        try:
            for process in ranks:
                process.start()
            end = time.monotonic() + seconds
            while any(process.is_alive() for process in ranks) and time.monotonic() < end:
                if any(process.exitcode for process in ranks):
                    break
                time.sleep(0.02)
            late = [rank for rank, process in enumerate(ranks) if process.is_alive()]
        finally:
            for process in ranks:
                if process.pid is not None:
                    process.kill()
                    process.join()
        errors = [path.read_text() for path in sorted(folder.glob("error-*"))]
        assert not errors, "\n".join(errors)
        assert not late, f"ranks {late} of {world_size} did not end within {seconds} seconds"
        assert not any(process.exitcode for process in ranks), [process.exitcode for process in ranks]
        return [torch.load(folder / f"result-{rank}.pt", weights_only=True) for rank in range(world_size)]


def _rank(rank: int, world_size: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """The life of one process."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    torch.set_num_threads(1)
    try:
        dist.init_process_group("gloo", init_method=f"file://{folder}/join", rank=rank, world_size=world_size)
        torch.save(function(*arguments), Path(folder) / f"result-{rank}.pt")
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        # Whoever fails first writes why; the others only lost their connection to it.
        (Path(folder) / f"error-{rank}").write_text(f"rank {rank} of {world_size}:\n{traceback.format_exc()}")
        sys.exit(1)
