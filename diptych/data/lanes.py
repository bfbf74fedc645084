"""Lanes: the fixed number of streams that the data is cut into, whatever the number of processes.

Everything is dealt in turn, like cards. The shards of all epochs, one order after the other, go to the lanes in turn
(stream.py); the pairs of all batches, one batch after the other, come from the lanes in turn. A process serves a block
of neighbouring lanes, so that the batches of all processes, one behind the other, are the batch of a single one.
"""

from collections.abc import Iterator, Mapping, Sequence

from diptych.data.stream import Chunk, ChunkStream, Position
from diptych.errors import ConfigError


def count_lanes(wanted: int, num_shards: int) -> int:
    """Lanes that the data has: as many as wanted, but each needs a shard."""
    return max(1, min(wanted, num_shards))


def lanes_of_rank(rank: int, world_size: int, num_lanes: int) -> range:
    """The neighbouring lanes that a process serves; their numbers differ by at most one between processes."""
    return range(rank * num_lanes // world_size, (rank + 1) * num_lanes // world_size)


def dealt(first: int, count: int, lane: int, num_lanes: int) -> int:
    """How many of `count` things, numbered from `first` on, a lane gets where all are dealt in turn."""
    return (first + count - lane - 1) // num_lanes - (first - lane - 1) // num_lanes


def most_shards(num_shards: int, lanes: Sequence[int], num_lanes: int) -> int:
    """The most shards that neighbouring lanes get together in one epoch."""
    whole, rest = divmod(num_shards, num_lanes)
    return whole * len(lanes) + min(rest, len(lanes))


def check_lanes(num_lanes: int, wanted: int, num_shards: int, global_batch_size: int, world_size: int) -> None:
    """Refuse numbers under which a process would have nothing to do.

    Raises:
        ConfigError: fewer lanes than processes, or, with several processes, fewer pairs in a batch than lanes.
    """
    if world_size > num_lanes:
        ways = [f"set loader.lanes to {world_size} or a multiple"] if wanted < world_size else []
        if num_shards < world_size:
            ways.append(f"the data has {num_shards} shards: write it into more, or start fewer processes")
        raise ConfigError(
            f"{world_size} processes need at least {world_size} lanes, and there are {num_lanes}: {'; '.join(ways)}"
        )
    if world_size > 1 and global_batch_size < num_lanes:
        raise ConfigError(
            f"with {world_size} processes, a batch of {global_batch_size} pairs cannot come from {num_lanes} lanes: "
            f"set loader.lanes to {global_batch_size} or less, or loader.global_batch_size to {num_lanes} or more"
        )


class LaneReader:
    """The chunks of several lanes, in about the order in which batches need them; one thread iterates.

    Next comes the lane of which the fewest good samples were read. The order between lanes changes no batch, only how
    many chunks wait; that of each lane is its stream's.

    Args:
        streams: of each lane, where it is to go on.
        used: samples of each lane's first chunk that are out already.
    """

    def __init__(self, streams: Mapping[int, ChunkStream], used: Mapping[int, int]) -> None:
        self._streams = streams
        self._read = {lane: -used[lane] for lane in streams}
        # Two counts, because each is written by one thread alone: the reader's here, the consumer's there.
        self._broken = dict.fromkeys(streams, 0)

    def __iter__(self) -> Iterator[tuple[Position, Chunk]]:
        chunks = {lane: iter(stream) for lane, stream in self._streams.items()}
        while True:
            lane = min(chunks, key=lambda lane: (self._read[lane] - self._broken[lane], lane))
            position, chunk = next(chunks[lane])
            self._read[lane] += len(chunk.items)
            yield position, chunk

    def count_broken(self, lane: int, count: int) -> None:
        """So many of the samples read could not be used: the lane needs as many more."""
        self._broken[lane] += count
