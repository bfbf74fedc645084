"""Several ranks on this machine, for tests: each is a separate process, joined by gloo."""

import io
import multiprocessing
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.distributed as dist

# What a rank or a training imports is imported once, in the server that all are forked from: DTensors need _dynamo, the
# playground's digits scikit-learn, the log TensorBoard.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        *("torch.distributed.fsdp", "torch._dynamo", "torch.utils.tensorboard", "sklearn.datasets", "diptych.train"),
        *("diptych.run_page", "diptych.model.modified_resnet", "training", "pytest"),
    ]
)


def run_ranks(world_size: int, function: Callable[..., Any], *arguments: Any, timeout: float = 120) -> list[Any]:
    """The function's return value in each rank. Its first exception is raised here, with the rank's traceback.

    Args:
        function: a function of a module that the ranks can import. It is called with the arguments after the process
            group is ready, and returns tensors, numbers, strings, and lists and dicts of them.
        timeout: seconds for each rank; a rank that hangs fails the test.
    """
    pipes, processes = [], []
    with tempfile.TemporaryDirectory() as folder:
        for rank in range(world_size):
            here, there = PROCESSES.Pipe(duplex=False)
            words = (there, f"file://{folder}/rendezvous", rank, world_size, function, arguments)
            processes.append(PROCESSES.Process(target=_rank, args=words))
            processes[-1].start()
            there.close()
            pipes.append(here)
        try:
            answers = [pipe.recv() if pipe.poll(timeout) else ("a rank hangs", None) for pipe in pipes]
        finally:
            for process in processes:
                process.join(5)
                process.kill()
    if errors := [error for error, _ in answers if error]:
        raise AssertionError("\n".join(errors))
    return [torch.load(io.BytesIO(value), weights_only=True) for _, value in answers]


def _rank(pipe: Connection, rendezvous: str, rank: int, world_size: int, function: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)
    try:
        # Inside the process: a rank that fails at once leaves the others while they still connect.
        dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world_size)
        answer = io.BytesIO()  # a tensor in a pipe refers to shared memory, which ends with its process
        torch.save(function(*arguments), answer)
        pipe.send((None, answer.getvalue()))
    except BaseException:
        pipe.send((f"rank {rank} of {world_size}:\n{traceback.format_exc()}", None))
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
