"""A lane's stream of raw samples: shuffled, endless, and resumable at every chunk.

The order of samples depends only on seed, epoch, lane and source, never on processes, workers or timing. A `Position`
describes the state of the stream without storing images: the shuffle buffer is a list of (shard, item) references. A
resumed stream rereads the shards that it names and decodes nothing.
"""

import contextlib
import dataclasses
import queue
import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch

from diptych.data.source import Source
from diptych.errors import DataError
from diptych.records import Broken, Sample

T = TypeVar("T")

# A chunk that reaches this size is complete, because many chunks are in flight at once. Saved states count samples
# within chunks, so a change of this value needs a new version of the loader's state.
_MAX_CHUNK_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Position:
    """The state of a stream.

    Attributes:
        epoch: number of complete passes over the lane's part of the source.
        shard: index of the current shard in the epoch's order.
        item: number of items of that shard already read.
        emitted: number of items of the epoch already emitted.
        buffer: int32 (n, 2), index in the epoch's order and item of each sample in the shuffle buffer.
    """

    epoch: int = 0
    shard: int = 0
    item: int = 0
    emitted: int = 0
    buffer: torch.Tensor = dataclasses.field(default_factory=lambda: torch.zeros((0, 2), dtype=torch.int32))

    def to_dict(self) -> dict[str, Any]:
        """The fields: ints and one tensor."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Position":
        """The inverse of to_dict."""
        return cls(**values)


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive items of a lane's stream, decoded together by one worker.

    Attributes:
        epoch: the epoch of all items.
        start: index of the first item in the epoch's stream.
        items: each with the name of its shard; empty if all shards of the lane's epoch are empty.
        last: whether the lane's epoch ends with this chunk.
        lane: number of the lane.
    """

    epoch: int
    start: int
    items: list[tuple[str, Sample | Broken]]
    last: bool
    lane: int = 0


class ChunkStream:
    """Endless chunks of one lane of a source, in seeded order; iterating gives (position before the chunk, chunk).

    The shards of all epochs, in order, are assigned to the lanes round-robin. So in each epoch every shard belongs to
    one lane, and no lane ever gets more than one shard more than another.

    Args:
        source: provides the samples.
        seed: seed of the order of shards and of the shuffle buffer.
        shuffle_buffer: number of samples in the buffer; 0 keeps the source's own order of shards and samples.
        shuffle_buffer_bytes: no sample is added to a buffer of this size; the last one may exceed it.
        chunk_size: items per chunk; the last chunk of an epoch, and chunks of large files, may be smaller.
        lane: index of the lane.
        num_lanes: number of lanes, at most the number of shards.
        position: where to start.
        keep_metadata: keep the samples' metadata; training does not use it, and it takes memory in the buffer.
        part_size: no chunk crosses a multiple of this number of items, so that a reader which starts at such a multiple
            gets the same chunks.
    Raises:
        DataError: a shard cannot be read, the lane has no item, or the source changed since `position`.
    """

    def __init__(
        self,
        source: Source,
        *,
        seed: int,
        shuffle_buffer: int,
        shuffle_buffer_bytes: int,
        chunk_size: int,
        lane: int = 0,
        num_lanes: int = 1,
        position: Position | None = None,
        keep_metadata: bool = False,
        part_size: int | None = None,
    ) -> None:
        self._keep_metadata, self._part_size = keep_metadata, part_size
        self._source, self._seed, self._chunk_size = source, seed, chunk_size
        self._shuffle, self._capacity = shuffle_buffer > 0, max(1, shuffle_buffer)
        # Counts only the items in the buffer, so that a resumed stream, which has the same items, fills it equally.
        self._bytes, self._max_bytes = 0, shuffle_buffer_bytes
        self._lane, self._num_lanes = lane, num_lanes
        self._empty_epochs = 0  # in a row
        self._items: list[tuple[str, Sample | Broken]] = []
        self._references = np.zeros((self._capacity, 2), dtype=np.int32)
        self._begin(0)
        if position is not None:
            self._restore(position)

    def __iter__(self) -> Iterator[tuple[Position, Chunk]]:
        while True:
            before = self.position()
            items: list[tuple[str, Sample | Broken]] = []
            weight, room = 0, self._chunk_size
            if self._part_size is not None:
                room = min(room, self._part_size - before.emitted % self._part_size)
            while len(items) < room and weight < _MAX_CHUNK_BYTES and (item := self._draw()) is not None:
                items.append(item)
                weight += _size(item[1])
            # Fill now and not at the next draw: only further reading shows whether this is the end of the epoch.
            self._fill()
            last = not self._items
            if last:
                self._check_not_empty()
            yield before, Chunk(before.epoch, before.emitted, items, last, self._lane)
            if last:
                self._begin(self._epoch + 1)

    def position(self) -> Position:
        """The current state of the stream."""
        references = torch.from_numpy(self._references[: len(self._items)].copy())
        return Position(self._epoch, self._shard, self._item, self._emitted, references)

    def _check_not_empty(self) -> None:
        """Raise DataError after too many epochs without a sample; called at the end of each epoch."""
        self._empty_epochs = self._empty_epochs + 1 if self._emitted == 0 else 0
        if self._empty_epochs < enough_epochs(self._num_lanes):
            return
        if self._num_lanes == 1:
            raise NoSampleError(f"the source has no samples: {len(self._order)} shards, all of them empty")
        raise DataError(
            f"the source has too few samples: in {self._empty_epochs} epochs lane {self._lane} got none "
            f"({len(self._source.shards)} shards, {self._num_lanes} lanes); leave out empty shards, or use fewer lanes"
        )

    def _begin(self, epoch: int, emitted: int = 0) -> None:
        """Start an epoch: its order of shards, and its random draws, after the first `emitted` of them."""
        order, *draws = np.random.SeedSequence([self._seed, epoch]).spawn(2 + self._lane)
        count = len(self._source.shards)
        shards = np.random.default_rng(order).permutation(count) if self._shuffle else np.arange(count)
        # The assignment continues where the previous epoch ended, after epoch * count shards in total.
        first = (self._lane - epoch * count) % self._num_lanes
        self._order = [int(shard) for shard in shards[first :: self._num_lanes]]
        # Each draw advances the generator by one step, so a position stores the number of draws, not a generator state.
        self._rng = np.random.Generator(np.random.PCG64(draws[-1]).advance(emitted))
        self._epoch, self._emitted = epoch, emitted
        self._shard, self._item = 0, 0
        self._reader: Iterator[Sample | Broken] | None = None

    def _read(self) -> tuple[str, Sample | Broken] | None:
        """The next item of the shards in order; None at their end."""
        while self._shard < len(self._order):
            item = self._read_shard(self._order[self._shard])
            if item is not None:
                self._item += 1
                if isinstance(item, Sample) and item.metadata and not self._keep_metadata:
                    item = dataclasses.replace(item, metadata={})
                return self._source.shards[self._order[self._shard]], item
            self._shard, self._item, self._reader = self._shard + 1, 0, None
        return None

    def _read_shard(self, index: int) -> Sample | Broken | None:
        """The next item of the current shard, which is opened if needed; None at its end."""
        try:
            if self._reader is None:
                self._reader = iter(self._source.read(index))
            return next(self._reader, None)
        except (DataError, OSError) as error:
            name, message = self._source.shards[index], str(error)
            where = "" if name in message else f"cannot read the shard {name}: "
            raise DataError(
                f"{where}{message}. Restore it or repair the disk, then start again: a training run that is resumed "
                "(--resume) continues where it stopped"
            ) from error

    def _fill(self) -> None:
        while len(self._items) < self._capacity and self._bytes < self._max_bytes:
            if (item := self._read()) is None:
                return
            self._references[len(self._items)] = self._shard, self._item - 1
            self._items.append(item)
            self._bytes += _size(item[1])

    def _draw(self) -> tuple[str, Sample | Broken] | None:
        """Draw a random item from the filled buffer; the buffer's last item takes its place."""
        self._fill()
        if not self._items:
            return None
        drawn = int(self._rng.random() * len(self._items))
        item = self._items[drawn]
        last = self._items.pop()
        if drawn < len(self._items):
            self._items[drawn] = last
            self._references[drawn] = self._references[len(self._items)]
        self._emitted += 1
        self._bytes -= _size(item[1])
        return item

    def _restore(self, position: Position) -> None:
        """Read the buffer's items again, shard by shard, and leave the current shard open at its position."""
        self._begin(position.epoch, position.emitted)
        slots: dict[int, dict[int, int]] = {}
        for slot, (shard, item) in enumerate(position.buffer.tolist()):
            slots.setdefault(shard, {})[item] = slot
        items: dict[int, tuple[str, Sample | Broken]] = {}
        for shard in sorted(slots.keys() | {position.shard}):
            wanted = slots.get(shard, {})
            stop = position.item if shard == position.shard else max(wanted) + 1
            self._shard, self._item, self._reader = shard, 0, None
            while self._item < stop:
                item = self._read()
                if item is None or self._shard != shard:
                    raise DataError(
                        f"{self._source.shards[self._order[shard]]} has fewer than the {stop} items it had when the "
                        "state was saved; resume on the data that the run started with"
                    )
                if (slot := wanted.get(self._item - 1, -1)) >= 0:
                    items[slot] = item
        self._items = [items[slot] for slot in range(len(position.buffer))]
        self._references[: len(self._items)] = position.buffer.numpy()
        self._bytes = sum(_size(item) for _, item in self._items)


class NoSampleError(DataError):
    """A source has no sample, or none that is usable."""


def enough_epochs(num_lanes: int) -> int:
    """The number of epochs without a sample after which a lane gives up.

    A single lane sees every shard in one epoch. With several lanes, each sees a random part per epoch: if at least one
    shard had samples, the lane would have got it with probability 1 - exp(-16).
    """
    return 1 if num_lanes == 1 else 16 * num_lanes


def _size(item: Sample | Broken) -> int:
    """Approximate size in bytes of an item in the buffer: its image and its captions."""
    if isinstance(item, Broken):
        return 0
    image = len(item.image) if isinstance(item.image, bytes) else item.image.nbytes
    return image + sum(map(len, item.texts))


def read_ahead(stream: Iterable[T], depth: int) -> Generator[T]:
    """Iterate `stream` in a background thread, at most `depth` items ahead; its errors are raised to the consumer.

    The thread starts when the first item is requested. It ends with the stream, or when this generator is closed.
    """
    items: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(entry: tuple[T | None, BaseException | None]) -> bool:
        while not stop.is_set():
            try:
                items.put(entry, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            for item in stream:
                if not put((item, None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:  # the consumer must get every error
            put((None, error))

    thread = threading.Thread(target=run, name="diptych-reader", daemon=True)
    thread.start()
    try:
        while True:
            item, error = items.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        with contextlib.suppress(queue.Empty):  # make room, so that the thread sees the stop without waiting
            while True:
                items.get_nowait()
        thread.join(timeout=5)
