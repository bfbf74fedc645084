"""A lane's stream of raw samples: shuffled, endless, and restartable at every chunk.

Which sample comes when depends on seed, epoch, lane and source alone, never on processes, workers or timing. A
`Position` says where the stream stands without holding any picture: the shuffle buffer is a list of (shard, item)
references, so a restart rereads the shards it names and decodes nothing.
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

# A chunk that holds this much is complete: many are on their way at once. Saved places count samples within chunks, so
# a change here needs a new version of the loader's state.
_MAX_CHUNK_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Position:
    """Where a stream stands.

    Attributes:
        epoch: passes over the lane's part of the source that are complete.
        shard: place in the epoch's order of the shard being read.
        item: items of that shard already read.
        emitted: items that the epoch has already given out.
        buffer: int32 (n, 2), place in the order and item of what waits in the shuffle buffer.
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
    """Neighbours in a lane's stream, decoded together by one worker.

    Attributes:
        epoch: that all items belong to.
        start: index of the first item in the epoch's stream.
        items: each with the name of its shard; none where the lane's shards of an epoch are empty.
        last: the lane's epoch ends here.
        lane: whose stream it is.
    """

    epoch: int
    start: int
    items: list[tuple[str, Sample | Broken]]
    last: bool
    lane: int = 0


class ChunkStream:
    """Endless chunks of one lane of a source, in seeded order; iterating gives (position before the chunk, chunk).

    The shards of all epochs, one order after the other, are dealt to the lanes in turn. So in each epoch every shard
    belongs to one lane, and no lane ever gets more than one shard beyond another.

    Args:
        source: where samples come from.
        seed: of the order of shards and of the shuffle buffer.
        shuffle_buffer: samples that wait to be drawn from; 0 keeps the source's own order, shards included.
        shuffle_buffer_bytes: no sample is added to a buffer that holds this much; the last one may go beyond it.
        chunk_size: items per chunk; the last one of an epoch, and those of large files, may be smaller.
        lane: of num_lanes.
        num_lanes: at most the number of shards.
        position: where to start.
        keep_metadata: leave the samples' metadata on them; training does not read it, and in the buffer it takes room.
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
    ) -> None:
        self._keep_metadata = keep_metadata
        self._source, self._seed, self._chunk_size = source, seed, chunk_size
        self._shuffle, self._capacity = shuffle_buffer > 0, max(1, shuffle_buffer)
        # Of the items in the buffer alone, so that a restart, which has the same ones, goes on filling it as before.
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
            weight = 0
            while len(items) < self._chunk_size and weight < _MAX_CHUNK_BYTES and (item := self._draw()) is not None:
                items.append(item)
                weight += _size(item[1])
            # Filled here and not at the next draw, because only reading on tells whether this was the epoch's end.
            self._fill()
            last = not self._items
            if last:
                self._check_not_empty()
            yield before, Chunk(before.epoch, before.emitted, items, last, self._lane)
            if last:
                self._begin(self._epoch + 1)

    def position(self) -> Position:
        """Where the stream stands now."""
        references = torch.from_numpy(self._references[: len(self._items)].copy())
        return Position(self._epoch, self._shard, self._item, self._emitted, references)

    def _check_not_empty(self) -> None:
        """Called at an epoch's end."""
        self._empty_epochs = self._empty_epochs + 1 if self._emitted == 0 else 0
        if self._empty_epochs < enough_epochs(self._num_lanes):
            return
        if self._num_lanes == 1:
            raise NoSampleError(f"the source has no samples: {len(self._order)} shards, none with an item")
        raise DataError(
            f"the source has too few samples: in {self._empty_epochs} epochs lane {self._lane} got none "
            f"({len(self._source.shards)} shards, {self._num_lanes} lanes); leave out empty shards, or use fewer lanes"
        )

    def _begin(self, epoch: int, emitted: int = 0) -> None:
        """Start an epoch: its order of shards, and its draws from the buffer, of which `emitted` are used up."""
        order, *draws = np.random.SeedSequence([self._seed, epoch]).spawn(2 + self._lane)
        count = len(self._source.shards)
        shards = np.random.default_rng(order).permutation(count) if self._shuffle else np.arange(count)
        # Dealing goes on where the epoch before ended, which is at shard epoch * count of all that were ever dealt.
        first = (self._lane - epoch * count) % self._num_lanes
        self._order = [int(shard) for shard in shards[first :: self._num_lanes]]
        # One step of the generator per draw: a position needs the number of draws and no generator state.
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
        """The next item of the shard that is open, or is opened here; None at its end."""
        try:
            if self._reader is None:
                self._reader = iter(self._source.read(index))
            return next(self._reader, None)
        except (DataError, OSError) as error:
            name, said = self._source.shards[index], str(error)
            where = "" if name in said else f"cannot read the shard {name}: "
            raise DataError(
                f"{where}{said}. Put it back or mend the disk, then start again: a training run that is resumed "
                "(--resume) goes on where it stopped"
            ) from error

    def _fill(self) -> None:
        while len(self._items) < self._capacity and self._bytes < self._max_bytes:
            if (item := self._read()) is None:
                return
            self._references[len(self._items)] = self._shard, self._item - 1
            self._items.append(item)
            self._bytes += _size(item[1])

    def _draw(self) -> tuple[str, Sample | Broken] | None:
        """A random item of the full buffer; its place is taken by the buffer's last one."""
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
        """Read the buffer's items back, shard by shard, and leave the current shard open at its place."""
        self._begin(position.epoch, position.emitted)
        slots: dict[int, dict[int, int]] = {}
        for slot, (shard, item) in enumerate(position.buffer.tolist()):
            slots.setdefault(shard, {})[item] = slot
        found: dict[int, tuple[str, Sample | Broken]] = {}
        for shard in sorted(slots.keys() | {position.shard}):
            wanted = slots.get(shard, {})
            stop = position.item if shard == position.shard else max(wanted) + 1
            self._shard, self._item, self._reader = shard, 0, None
            while self._item < stop:
                item = self._read()
                if item is None or self._shard != shard:
                    raise DataError(
                        f"{self._source.shards[self._order[shard]]} has fewer than the {stop} items it had when the "
                        "state was saved; resume on the data that the run began with"
                    )
                if (slot := wanted.get(self._item - 1, -1)) >= 0:
                    found[slot] = item
        self._items = [found[slot] for slot in range(len(position.buffer))]
        self._references[: len(self._items)] = position.buffer.numpy()
        self._bytes = sum(_size(item) for _, item in self._items)


class NoSampleError(DataError):
    """A source has no sample, or none that is usable."""


def enough_epochs(num_lanes: int) -> int:
    """Epochs without a sample after which a lane expects none.

    A single lane has met every shard in one. Of several, each meets a random part: if a single shard had samples, it
    would have come the way of the lane with probability 1 - exp(-16).
    """
    return 1 if num_lanes == 1 else 16 * num_lanes


def _size(item: Sample | Broken) -> int:
    """What an item weighs in the buffer, up to some hundred bytes: its picture and its captions."""
    if isinstance(item, Broken):
        return 0
    image = len(item.image) if isinstance(item.image, bytes) else item.image.nbytes
    return image + sum(map(len, item.texts))


def read_ahead(stream: Iterable[T], depth: int) -> Generator[T]:
    """Iterate `stream` in a background thread, at most `depth` items ahead; its errors are raised here.

    The thread starts at the first item asked for and ends with the stream or when this generator is closed.
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
        except BaseException as error:  # whatever it is, the consumer must hear of it
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
        with contextlib.suppress(queue.Empty):  # make room, so that the thread need not wait to see the stop
            while True:
                items.get_nowait()
        thread.join(timeout=5)
