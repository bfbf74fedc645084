"""Map a function over shards in local processes.

    for shard, result in map_shards(function, shards, is_finished=..., num_processes=8): ...

The function writes its output to disk atomically and returns a small value. A second run skips the shards that are
finished. Results come in the order of the shards for any number of processes.
"""

import collections
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, Protocol, TypeVar

import torch

from diptych.data.lifeline import end_with_parent
from diptych.errors import DiptychError, WorkerError

S = TypeVar("S")
R = TypeVar("R")

_CONTEXT = "fork" if sys.platform == "linux" else "spawn"
_ATTEMPTS = 2


class Executor(Protocol):
    """Maps a function over shards: `map_shards`, or a user-defined executor, for example on other machines."""

    def __call__(
        self,
        function: Callable[[S], R],
        shards: Sequence[S],
        /,
        *,
        is_finished: Callable[[S], bool] | None = None,
        num_processes: int = 1,
    ) -> Iterator[tuple[S, R]]:
        """Yield each unfinished shard with its result, in the order of the shards."""
        ...


def map_shards(
    function: Callable[[S], R],
    shards: Sequence[S],
    /,
    *,
    is_finished: Callable[[S], bool] | None = None,
    num_processes: int = 1,
) -> Iterator[tuple[S, R]]:
    """Call a function for each shard. With several processes, each has one torch thread.

    A shard whose process is killed is tried once more. When the caller stops (Ctrl-C, an error, SIGTERM), all
    processes end.

    Args:
        function: takes a shard and returns plain values. On Linux it may be a closure; elsewhere it is pickled.
        shards: plain values; each is sent to one process.
        is_finished: called for each shard before the first one starts; finished shards are skipped.
        num_processes: 1 runs in the calling process.
    Yields:
        a shard and the function's result, in the order of the shards.
    Raises:
        WorkerError: a shard's process was killed twice, or the function raised another error than a DiptychError.
        DiptychError: raised by the function.
    """
    pending = [shard for shard in shards if is_finished is None or not is_finished(shard)]
    if num_processes <= 1 or len(pending) <= 1:
        for shard in pending:
            yield shard, function(shard)
        return
    with contextlib.closing(_in_processes(function, pending, min(num_processes, len(pending)))) as results:
        yield from results


@dataclasses.dataclass(eq=False)
class _Process:
    """A worker process and the index of its current shard."""

    process: Any
    connection: Connection
    shard: int | None = None

    def end(self) -> str:
        """Kill the process if it is alive; returns how it ended."""
        self.process.join(timeout=0)
        if self.process.exitcode is None:
            self.process.kill()
        self.process.join()
        self.connection.close()
        code = self.process.exitcode
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _in_processes(function: Callable[[S], R], shards: list[S], num_processes: int) -> Generator[tuple[S, R]]:
    waiting, results, attempts = collections.deque(range(len(shards))), dict[int, R](), collections.Counter[int]()
    workers: list[_Process] = []
    try:
        for number in range(len(shards)):
            while number not in results:
                while waiting and (worker := _idle_worker(workers, function, num_processes)) is not None:
                    worker.shard = waiting.popleft()
                    with contextlib.suppress(OSError):  # it died; recv below fails and the shard is tried again
                        worker.connection.send(shards[worker.shard])
                for worker in _ready(workers):
                    assert worker.shard is not None
                    try:
                        value, error = worker.connection.recv()
                    except (EOFError, OSError):
                        workers.remove(worker)
                        attempts[worker.shard] += 1
                        _check_attempts(attempts[worker.shard], shards[worker.shard], worker.end())
                        waiting.appendleft(worker.shard)
                        continue
                    if error is not None:
                        raise error
                    results[worker.shard], worker.shard = value, None
            yield shards[number], results.pop(number)
    finally:
        for worker in workers:
            worker.end()


def _check_attempts(attempts: int, shard: Any, ending: str) -> None:
    if attempts >= _ATTEMPTS:
        raise WorkerError(
            f"the process that worked on {shard!r:.80} was ended {attempts} times, the last time by {ending}. If "
            "memory ran out (SIGKILL), use fewer processes. Run it again to resume; finished shards are kept"
        )


def _idle_worker(workers: list[_Process], function: Callable[..., Any], max_workers: int) -> _Process | None:
    """A worker without a shard. A new one is started while there are fewer than `max_workers`."""
    idle = next((worker for worker in workers if worker.shard is None), None)
    if idle is None and len(workers) < max_workers:
        context: Any = multiprocessing.get_context(_CONTEXT)
        parent_end, child_end = context.Pipe()
        in_main_thread = threading.current_thread() is threading.main_thread()
        inherited_end = parent_end if _CONTEXT == "fork" else None  # the child must close it
        arguments = (child_end, inherited_end, function, os.getpid(), in_main_thread)
        # Not a daemon: it may start processes that decode images.
        process = context.Process(target=_serve, args=arguments, name="diptych-executor")
        try:
            process.start()
        except OSError as error:
            raise WorkerError(f"no process can be started: {error}; use fewer processes") from error
        child_end.close()
        workers.append(idle := _Process(process, parent_end))
    return idle


def _ready(workers: list[_Process]) -> list[_Process]:
    """Wait until a worker has answered or died; returns these workers. An answer sent before the death still counts."""
    busy = [worker for worker in workers if worker.shard is not None]
    ends = {worker.process.sentinel: worker for worker in busy} | {worker.connection: worker for worker in busy}
    ready_ends = multiprocessing.connection.wait(list(ends))
    return list({id(worker): worker for worker in (ends[end] for end in ready_ends)}.values())


# ---- in the worker process


def _serve(
    connection: Connection, parent_end: Connection | None, function: Callable[..., Any], parent: int, by_signal: bool
) -> None:
    end_with_parent(parent, by_signal=by_signal)
    if parent_end is not None:
        parent_end.close()
    for name in ("SIGINT", "SIGHUP"):  # they reach the whole process group; the parent handles them
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)  # OpenMP threads do not survive a fork
    os.environ["OMP_NUM_THREADS"] = "1"  # for other back ends, which this process opens itself
    with contextlib.suppress(EOFError, OSError):  # the parent closed its end
        while True:
            shard = connection.recv()
            answer: tuple[Any, Exception | None]
            try:
                answer = function(shard), None
            except Exception as error:
                answer = None, portable(error)
            connection.send(answer)


def portable(error: Exception) -> Exception:
    """An error that can be sent to another process.

    A DiptychError as it is. Other exceptions may not be picklable, so only their traceback is sent, as text.
    """
    if isinstance(error, DiptychError):
        return error
    return WorkerError("a process failed:\n" + "".join(traceback.format_exception(error)))
