"""An ordered map over worker processes that survives dead and stuck workers and leaves no orphans.

Each worker has one unnamed socket pair to its parent. It needs no folder for temporary files, no name in /dev/shm and
no helper process. Task n goes to worker n modulo the number of workers, so each worker's results arrive in order.
Pixels come back through anonymous memory that is mapped before the fork (containers limit /dev/shm, but not this). If
processes are spawned instead, or the memory cannot be mapped, pixels follow their message through the socket.

A worker records the index of its current item. If that item's decoder crashes or never returns, the item is marked as
broken, and a new worker continues.
"""

import collections
import contextlib
import dataclasses
import math
import mmap
import multiprocessing
import multiprocessing.connection
import os
import queue
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import Connection
from typing import Any

import torch

from diptych.data.lifeline import end_with_parent
from diptych.errors import DiptychError, WorkerError

Work = Callable[[Any, Callable[[int], None]], tuple[Any, torch.Tensor]]
"""(task, begin) -> a result and its pixels (uint8, contiguous); calls `begin(index)` before each item of the task,
and `begin(NO_ITEM)` after the last."""

MAX_ITEM_SECONDS = 60
"""CPU time after which the system ends a worker that is still at the same item."""

# Signals that an item causes: a crashing decoder, or SIGPROF at the time limit. SIGKILL and SIGTERM come from outside.
_OF_THE_ITEM = ("SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL", "SIGBUS", "SIGPROF")
NO_ITEM = -1
_PLACE = struct.Struct("q")
_CONTEXT = "fork" if sys.platform == "linux" else "spawn"
_starting = threading.Lock()  # a worker must not inherit another worker's socket: that worker's end would be missed


@dataclasses.dataclass(eq=False)
class _Worker:
    """A process, the tasks that it has not answered, and the thread that sends tasks to it."""

    process: Any
    connection: Connection
    place: mmap.mmap | None
    slots: list[torch.Tensor]
    sender: threading.Thread = dataclasses.field(init=False)
    unanswered: collections.deque[tuple[int, Any]] = dataclasses.field(default_factory=collections.deque)
    outbox: "queue.SimpleQueue[tuple[int, Any] | None]" = dataclasses.field(default_factory=queue.SimpleQueue)
    unsent: Exception | None = None  # why a task could not be sent

    def __post_init__(self) -> None:
        self.sender = threading.Thread(target=self._send_all, name="diptych-sender", daemon=True)
        self.sender.start()

    def send(self, slot: int, task: Any) -> None:
        """Queue a task; never blocks."""
        self.unanswered.append((slot, task))
        self.outbox.put((slot, task))

    def _send_all(self) -> None:
        """Run in the sender thread: sending blocks until the worker is free, and no other thread should wait for it."""
        while (entry := self.outbox.get()) is not None:
            try:
                self.connection.send(entry)
            except OSError:
                return  # the worker died; the thread that waits for its result detects this
            except Exception as error:
                self.unsent = error
                return

    def end(self) -> None:
        """Kill the process at once; a worker has no state to save."""
        self.process.kill()
        self.outbox.put(None)
        self.process.join()
        # The sender's socket is broken now, so it ends. Closing first could give its file descriptor to another file.
        self.sender.join(timeout=5)
        self.connection.close()


class Pool:
    """Worker processes for one pass over tasks.

    Args:
        work: the function that workers call; it is pickled for spawned workers.
        num_workers: number of processes.
        tasks_per_worker: tasks that each worker has at a time.
        slot_bytes: usual maximum size of a result's pixels; larger results use a slower path.
        without: (task, index, reason) -> the task with that item marked as broken.
        context: "fork" or "spawn"; the default depends on the system.
    Raises:
        WorkerError: a process cannot be started.
    """

    def __init__(
        self,
        work: Work,
        num_workers: int,
        tasks_per_worker: int,
        slot_bytes: int,
        without: Callable[[Any, int, str], Any],
        context: str = _CONTEXT,
    ) -> None:
        self._work, self._without, self._context = work, without, context
        self._tasks_per_worker, self._slot_bytes = tasks_per_worker, slot_bytes
        self._workers: list[_Worker] = []
        self._num_sent = self._num_received = 0
        try:
            for _ in range(num_workers):
                self._workers.append(self._start())
        except BaseException:
            self.close()
            raise

    def map(self, tasks: Iterator[Any]) -> Generator[tuple[Any, torch.Tensor]]:
        """Results in task order; the workers together have at most num_workers * tasks_per_worker tasks at a time."""
        try:
            for task in tasks:
                self._send(task)
                if self._num_sent - self._num_received == len(self._workers) * self._tasks_per_worker:
                    yield self._receive()
            while self._num_received < self._num_sent:
                yield self._receive()
        finally:
            self.close()

    def close(self) -> None:
        """End all workers at once."""
        for worker in self._workers:
            worker.end()
        self._workers = []

    def _start(self) -> _Worker:
        context: Any = multiprocessing.get_context(self._context)
        forked = self._context == "fork"
        place, slots = self._shared_memory() if forked else (None, [])
        main = threading.current_thread() is threading.main_thread()
        with _starting:
            try:
                ours, theirs = context.Pipe()
                arguments = (theirs, ours if forked else None, self._work, place, slots, os.getpid(), main)
                process = context.Process(target=_serve, args=arguments, name="diptych-worker", daemon=True)
                process.start()
            except OSError as error:
                raise WorkerError(f"no process can be started to decode: {error}; use fewer workers") from error
            theirs.close()
        return _Worker(process, ours, place, slots)

    def _shared_memory(self) -> tuple[mmap.mmap | None, list[torch.Tensor]]:
        """A worker's shared memory: the index of its current item, and one slot of pixels per task."""
        place = mmap.mmap(-1, mmap.PAGESIZE)
        _PLACE.pack_into(place, 0, NO_ITEM)
        if not self._slot_bytes:
            return place, []
        try:
            memory = mmap.mmap(-1, self._slot_bytes * self._tasks_per_worker)
        except (OSError, ValueError, OverflowError):
            return place, []  # not enough memory; pixels go through the socket
        pieces = torch.frombuffer(memory, dtype=torch.uint8).view(self._tasks_per_worker, self._slot_bytes)
        return place, list(pieces)

    def _send(self, task: Any) -> None:
        turn, index = divmod(self._num_sent, len(self._workers))
        self._workers[index].send(turn % self._tasks_per_worker, task)
        self._num_sent += 1

    def _receive(self) -> tuple[Any, torch.Tensor]:
        index = self._num_received % len(self._workers)
        while True:
            worker = self._workers[index]
            try:
                if _has_answered(worker):
                    result, pixels = _take(worker)
                    break
            except (EOFError, OSError):
                pass  # the worker died, perhaps in the middle of its answer
            self._replace(index)
        worker.unanswered.popleft()
        self._num_received += 1
        return result, pixels

    def _replace(self, index: int) -> None:
        """Replace a worker that an item killed; the new worker gets the same tasks without that item.

        Raises:
            WorkerError: the worker died for another reason.
        """
        dead = self._workers[index]
        dead.process.join(timeout=5)
        code = dead.process.exitcode
        name = signal.Signals(-code).name if code is not None and code < 0 else ""
        place = _PLACE.unpack_from(dead.place)[0] if dead.place is not None else NO_ITEM
        if name not in _OF_THE_ITEM or place == NO_ITEM:
            how = f"it was ended by {name}" if name else f"its exit code is {code}"
            raise WorkerError(
                f"a process that decodes images died: {how}. If memory ran out (SIGKILL), use fewer workers or "
                "smaller batches"
            )
        reason = "its decoder crashes" if name != "SIGPROF" else f"decoding takes more than {MAX_ITEM_SECONDS} seconds"
        slot, task = dead.unanswered.popleft()
        dead.end()
        worker = self._workers[index] = self._start()
        worker.send(slot, self._without(task, place, f"{reason} ({name})"))
        for entry in dead.unanswered:
            worker.send(*entry)


def _has_answered(worker: _Worker) -> bool:
    """Wait until an answer arrives (True) or the worker is dead (False)."""
    while not worker.connection.poll(0):  # an answer sent before the worker died still counts
        if not worker.process.is_alive():
            return worker.connection.poll(0)
        if worker.unsent is not None:
            raise WorkerError(f"samples cannot be sent to the process that decodes them: {worker.unsent}")
        multiprocessing.connection.wait([worker.connection, worker.process.sentinel], timeout=1)
    return True


def _take(worker: _Worker) -> tuple[Any, torch.Tensor]:
    result, shape, slot, error = worker.connection.recv()
    if error is not None:
        raise error
    pixels = torch.empty(shape, dtype=torch.uint8)
    if slot is not None:
        pixels.view(-1).copy_(worker.slots[slot][: pixels.numel()])  # a copy, so that the worker can reuse the slot
    elif pixels.numel():
        data = worker.connection.recv_bytes(pixels.numel())
        pixels.view(-1).copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return result, pixels


# ---- in the worker


def _serve(
    connection: Connection,
    parents_side: Connection | None,
    work: Work,
    place: mmap.mmap | None,
    slots: list[torch.Tensor],
    parent: int,
    by_signal: bool,
) -> None:
    end_with_parent(parent, by_signal=by_signal)
    if parents_side is not None:
        parents_side.close()
    # Ctrl-C and a closed terminal signal the whole process group; only the parent handles them.
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    for name in ("SIGTERM", "SIGPROF"):  # an inherited handler of the parent would swallow them
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    torch.set_num_threads(1)

    armed = -math.inf

    def begin(item: int) -> None:
        nonlocal armed
        if place is not None:
            _PLACE.pack_into(place, 0, item)
        # At most once per second: setting a timer is slower than reading a clock, and a second of error is acceptable.
        if hasattr(signal, "setitimer") and (item == NO_ITEM or time.monotonic() > armed + 1):
            armed = -math.inf if item == NO_ITEM else time.monotonic()
            # The signal's default action ends the process even if native code holds the GIL.
            signal.setitimer(signal.ITIMER_PROF, MAX_ITEM_SECONDS if item != NO_ITEM else 0)

    with contextlib.suppress(EOFError, OSError):  # the parent closed its end of the socket
        while True:
            slot, task = connection.recv()
            try:
                result, pixels = work(task, begin)
            except Exception as error:
                begin(NO_ITEM)
                connection.send((None, (0,), None, _portable(error)))
                continue
            begin(NO_ITEM)
            fits = slots and pixels.numel() <= slots[slot].numel()
            if fits:
                slots[slot][: pixels.numel()] = pixels.view(-1)
            connection.send((result, tuple(pixels.shape), slot if fits else None, None))
            if not fits and pixels.numel():
                connection.send_bytes(pixels.numpy().data.cast("B"))


def _portable(error: Exception) -> Exception:
    """The error itself if it is a DiptychError; of others only the traceback's text, as they may not be picklable."""
    if isinstance(error, DiptychError):
        return error
    return WorkerError("a process that decodes images failed:\n" + "".join(traceback.format_exception(error)))
