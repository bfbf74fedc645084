"""Lanes: the data is split into a fixed number of streams that does not depend on the number of processes.

Assignment is round-robin, like dealing cards. The shards of all epochs, in order, go to the lanes in turn (stream.py);
the pairs of all batches, in order, come from the lanes in turn. A process serves a block of consecutive lanes. So the
batches of all processes, concatenated, equal the batch of a single process.
"""

from collections.abc import Iterator, Mapping, Sequence

from diptych.data.stream import Chunk, ChunkStream, Position
from diptych.errors import ConfigError


def count_lanes(wanted: int, num_shards: int) -> int:
    """The number of lanes: as many as wanted, but at most one per shard."""
    return max(1, min(wanted, num_shards))


def lanes_of_rank(rank: int, world_size: int, num_lanes: int) -> range:
    """The consecutive lanes that a process serves; their number differs by at most one between processes."""
    return range(rank * num_lanes // world_size, (rank + 1) * num_lanes // world_size)


def dealt(first: int, count: int, lane: int, num_lanes: int) -> int:
    """How many of `count` items, numbered from `first` on, a lane gets if all are assigned round-robin."""
    return (first + count - lane - 1) // num_lanes - (first - lane - 1) // num_lanes


def most_shards(num_shards: int, lanes: Sequence[int], num_lanes: int) -> int:
    """The largest number of shards that consecutive lanes together get in one epoch."""
    whole, rest = divmod(num_shards, num_lanes)
    return whole * len(lanes) + min(rest, len(lanes))


def check_lanes(num_lanes: int, wanted: int, num_shards: int, global_batch_size: int, world_size: int) -> None:
    """Check that every process has work.

    Raises:
        ConfigError: fewer lanes than processes; or several processes and fewer pairs in a batch than lanes.
    """
    if world_size > num_lanes:
        ways = [f"set loader.lanes to {world_size} or a multiple"] if wanted < world_size else []
        if num_shards < world_size:
            ways.append(f"the data has {num_shards} shards: write it as more shards, or start fewer processes")
        raise ConfigError(
            f"{world_size} processes need at least {world_size} lanes, and there are {num_lanes}: {'; '.join(ways)}"
        )
    if world_size > 1 and global_batch_size < num_lanes:
        raise ConfigError(
            f"with {world_size} processes, a batch of {global_batch_size} pairs cannot come from {num_lanes} lanes: "
            f"set loader.lanes to {global_batch_size} or less, or loader.global_batch_size to {num_lanes} or more"
        )


class LaneReader:
    """The chunks of several lanes, roughly in the order in which batches need them; one thread iterates.

    The next chunk comes from the lane with the fewest good samples read so far. The order between lanes does not change
    batches, only how many chunks wait. Within a lane, the order is that of its stream.

    Args:
        streams: each lane's stream, positioned where reading continues.
        used: how many samples of each lane's first chunk were already yielded.
    """

    def __init__(self, streams: Mapping[int, ChunkStream], used: Mapping[int, int]) -> None:
        self._streams = streams
        self._read = {lane: -used[lane] for lane in streams}
        # Two separate counts, so that each has one writer: `_read` the reader thread, `_broken` the consumer.
        self._broken = dict.fromkeys(streams, 0)

    def __iter__(self) -> Iterator[tuple[Position, Chunk]]:
        chunks = {lane: iter(stream) for lane, stream in self._streams.items()}
        while True:
            lane = min(chunks, key=lambda lane: (self._read[lane] - self._broken[lane], lane))
            position, chunk = next(chunks[lane])
            self._read[lane] += len(chunk.items)
            yield position, chunk

    def count_broken(self, lane: int, count: int) -> None:
        """Record that `count` of the samples read could not be used: the lane needs that many more."""
        self._broken[lane] += count
