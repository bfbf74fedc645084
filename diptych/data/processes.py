"""An ordered map over worker processes that no dead, stuck or orphaned process can stop or outlive.

Each worker has one unnamed socket pair to its parent. It needs no folder for temporary files, no name in /dev/shm and
no helper process. Task n goes to worker n modulo their number, so each worker's results come in order. Pixels come back
through memory that is mapped before the fork and has no file (containers limit /dev/shm, not this); where processes are
spawned instead, or so much cannot be mapped, they follow their message.

A worker notes which item it is at. Where that item's decoder crashes or never returns, the item is marked as broken, a
new worker takes over, and the work goes on.
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
"""Processor time after which the system ends a worker that is still at the same item."""

# A decoder that crashes dies of these; SIGPROF is the end of its time. SIGKILL and SIGTERM come from elsewhere.
_OF_THE_ITEM = ("SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL", "SIGBUS", "SIGPROF")
NO_ITEM = -1
_PLACE = struct.Struct("q")
_CONTEXT = "fork" if sys.platform == "linux" else "spawn"
_starting = threading.Lock()  # no worker may inherit another one's side of its socket: its end would go unnoticed


@dataclasses.dataclass(eq=False)
class _Worker:
    """One process, the tasks that it has not answered, and the thread that sends them."""

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
        """Hand over a task; never waits."""
        self.unanswered.append((slot, task))
        self.outbox.put((slot, task))

    def _send_all(self) -> None:
        """The thread's work: a worker takes its next task when it is free, and nobody else should wait for that."""
        while (entry := self.outbox.get()) is not None:
            try:
                self.connection.send(entry)
            except OSError:
                return  # it died, which whoever awaits its result finds out
            except Exception as error:
                self.unsent = error
                return

    def end(self) -> None:
        """Now: a worker has nothing to lose."""
        self.process.kill()
        self.outbox.put(None)
        self.process.join()
        self.sender.join(timeout=5)  # its socket is broken now; closed under its hands, the number could be another's
        self.connection.close()


class Pool:
    """Worker processes for one pass over tasks.

    Args:
        work: what they do; spawned workers get it pickled.
        num_workers: how many.
        tasks_per_worker: that each has at a time.
        slot_bytes: the most that a result's pixels usually take; larger ones take a slower way.
        without: (task, place, reason) -> the task with that item marked as broken.
        context: "fork" or "spawn"; by default what suits the system.
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
        """Results in the order of their tasks, so many tasks ahead as the workers may have at a time."""
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
        """Of a worker: the place that it is at, and a piece for the pixels of each task that it may have."""
        place = mmap.mmap(-1, mmap.PAGESIZE)
        _PLACE.pack_into(place, 0, NO_ITEM)
        if not self._slot_bytes:
            return place, []
        try:
            memory = mmap.mmap(-1, self._slot_bytes * self._tasks_per_worker)
        except (OSError, ValueError, OverflowError):
            return place, []  # so much cannot be promised; pixels go through the socket
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
                pass  # it died, perhaps in the middle of its answer
            self._replace(index)
        worker.unanswered.popleft()
        self._num_received += 1
        return result, pixels

    def _replace(self, index: int) -> None:
        """Start a new worker in place of one that died of an item, without that item.

        Raises:
            WorkerError: it died of something else.
        """
        dead = self._workers[index]
        dead.process.join(timeout=5)
        code = dead.process.exitcode
        name = signal.Signals(-code).name if code is not None and code < 0 else ""
        place = _PLACE.unpack_from(dead.place)[0] if dead.place is not None else NO_ITEM
        if name not in _OF_THE_ITEM or place == NO_ITEM:
            how = f"it was ended by {name}" if name else f"its exit code is {code}"
            raise WorkerError(
                f"a process that decodes pictures died: {how}. If memory ran out (SIGKILL), use fewer workers or "
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
    """Wait until an answer comes (True) or the worker is dead (False)."""
    while not worker.connection.poll(0):  # what it sent before it died still counts
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
        pixels.view(-1).copy_(worker.slots[slot][: pixels.numel()])  # the worker may use its piece again
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
    # Ctrl-C and a closed terminal reach the whole process group; the parent decides what they mean.
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    for name in ("SIGTERM", "SIGPROF"):  # a handler of the parent's would swallow them
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    torch.set_num_threads(1)

    armed = -math.inf

    def begin(item: int) -> None:
        nonlocal armed
        if place is not None:
            _PLACE.pack_into(place, 0, item)
        # Not at every item: setting a timer is slower than looking at a clock, and a second more or less is no matter.
        if hasattr(signal, "setitimer") and (item == NO_ITEM or time.monotonic() > armed + 1):
            armed = -math.inf if item == NO_ITEM else time.monotonic()
            # Its default action ends the process in any code, whoever holds the GIL.
            signal.setitimer(signal.ITIMER_PROF, MAX_ITEM_SECONDS if item != NO_ITEM else 0)

    with contextlib.suppress(EOFError, OSError):  # the parent closed its side
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
    """The error itself, if it is ours; others may not survive the way, so only their words travel."""
    if isinstance(error, DiptychError):
        return error
    return WorkerError("a process that decodes pictures failed:\n" + "".join(traceback.format_exception(error)))
