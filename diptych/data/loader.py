"""Batches of pairs from a source: independent of the number of processes and workers, resumable after every batch.

    loader = Loader(open_source(["shards/*.tar"]), tokenizer, Preprocessing(64), LoaderConfig(global_batch_size=256))
    for batch in loader: ...                                  # endless
    state = loader.state_dict()                               # ... and in another process
    loader.load_state_dict(state)                             # continues after the last batch yielded

The data is split into lanes (lanes.py), and each process serves some of them. A thread reads each lane's raw samples
into a shuffle buffer and splits them into chunks (stream.py). Workers decode the chunks (workers.py). The loader joins
the good samples into batches (assembly.py), across chunks and epochs.
"""

import collections
import contextlib
import dataclasses
import time
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any

from diptych.data.assembly import Assembly
from diptych.data.content import content_fingerprint
from diptych.data.copies import CopyAugmentation
from diptych.data.lanes import LaneReader, check_lanes, count_lanes, dealt, lanes_of_rank, most_shards
from diptych.data.source import Source
from diptych.data.stream import Chunk, ChunkStream, Position, read_ahead
from diptych.data.tally import Tally
from diptych.data.transforms import Augmentation, Preprocessing
from diptych.data.workers import DecodedChunk, Tokenize, decode_chunks, training_decoder
from diptych.errors import ConfigError
from diptych.records import Batch

_VERSION = 3
_MAX_AHEAD = 256  # chunks in flight
_AHEAD_BYTES = 512 << 20  # limit for their pixels


@dataclasses.dataclass(frozen=True)
class LoaderConfig:
    """How pairs are read.

    Attributes:
        global_batch_size: pairs per batch, over all processes.
        lanes: number of streams that the data is split into, at most one per shard and at least one per process; best a
            multiple of the number of processes and a divisor of the batch size. The order of samples depends on the
            number of lanes, not on the number of processes.
        shuffle_buffer: number of raw samples (encoded files, in memory) that the next sample is drawn from, over all
            lanes. 0 turns shuffling off; with one lane this gives the source's own order.
        shuffle_buffer_bytes: maximum size of these samples together; if they reach it, the buffer holds fewer samples.
        num_workers: processes that decode; 0 decodes in the training process. Batches do not depend on it.
        max_broken: the share of samples that may be broken, and of shards that may break off in the middle, before the
            run stops.
        seed: seed of the order, the choice of captions and the augmentation.
        chunk_size: samples that a worker takes at once; fewer if they are large.
    Raises:
        ConfigError: a value is out of its range.
    """

    global_batch_size: int = 256
    lanes: int = 8
    shuffle_buffer: int = 4096
    shuffle_buffer_bytes: int = 2**30
    num_workers: int = 1
    max_broken: float = 0.1
    seed: int = 0
    chunk_size: int = 32

    def __post_init__(self) -> None:
        limits = {
            "global_batch_size": (1, 2**20),
            "lanes": (1, 2**16),
            "shuffle_buffer": (0, 2**24),
            "shuffle_buffer_bytes": (1, 2**50),
            "num_workers": (0, 1024),
            "seed": (0, 2**63 - 1),
            "chunk_size": (1, 2**14),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ConfigError(f"LoaderConfig.{name} is {value!r}; it must be a whole number from {low} to {high}")
        if not isinstance(self.max_broken, int | float) or not 0 <= self.max_broken <= 1:
            raise ConfigError(f"LoaderConfig.max_broken is {self.max_broken!r}; it must be a share from 0 to 1")


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """A lane's state: after `used` good samples of the chunk at `position`; `tally` has the counts up to there."""

    position: Position
    used: int
    tally: Mapping[str, Any]


@dataclasses.dataclass(slots=True, eq=False)
class _Part:
    """A decoded chunk; `used` of its good samples are already in batches."""

    position: Position
    lane: int
    epoch: int
    last: bool
    content: DecodedChunk
    used: int
    counted: bool


class Loader:
    """Endless batches of pairs.

    Each sample occurs once per epoch of its lane. Each time, one of its captions is drawn and its image is augmented
    anew. Broken samples are counted, logged and skipped. A new iteration continues after the last batch yielded, also
    after an error.

    The batches of all ranks, concatenated in rank order, equal the batch that a single process gets. The loader keeps
    no reference to a batch: a consumer that drops the last batch before it requests the next has one in memory.

    Args:
        source: provides the samples.
        tokenizer: texts to ids; captions longer than the context are truncated. None for pairs of images.
        preprocessing: the model's preprocessing.
        config: sizes, lanes, workers, seed.
        augmentation: applied to the images; a CopyAugmentation makes pairs of an image and its copy.
        rank: number of this process, from 0. Each rank has its own lanes; batch sizes may differ by a few pairs.
        world_size: number of processes.
        pin_memory: allocate batches in pinned memory, so that a GPU can copy them while it computes; has no effect
            without CUDA.
    Attributes:
        num_seen: pairs yielded, over all processes.
        seconds_waited: time that the consumer waited for data.
    Raises:
        ConfigError: there are fewer lanes than processes, or several processes and fewer pairs in a batch than lanes.
        DataError: during iteration, if a shard cannot be read, too many samples are broken or none can be used. The
            state is then that of the last batch yielded.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: Tokenize | None,
        preprocessing: Preprocessing,
        config: LoaderConfig,
        augmentation: Augmentation | CopyAugmentation = Augmentation(),  # noqa: B008  (frozen)
        *,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool = False,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank is {rank}; it must be from 0 to world_size - 1 = {world_size - 1}")
        num_shards = len(source.shards)
        self._num_lanes = count_lanes(config.lanes, num_shards)
        check_lanes(self._num_lanes, config.lanes, num_shards, config.global_batch_size, world_size)
        self.source, self.config, self._pin_memory = source, config, pin_memory
        # Computed now, while the files exist: a run whose files disappear can still be saved.
        self._fingerprint, self._content = source.fingerprint, content_fingerprint(source)
        self._decoder = training_decoder(tokenizer, preprocessing, augmentation, config.seed)
        self._lanes = lanes_of_rank(rank, world_size, self._num_lanes)
        mine = most_shards(num_shards, self._lanes, self._num_lanes)
        self._tally = Tally(config.max_broken, mine, self._lanes, self._num_lanes)
        self._places = {lane: _Place(Position(), 0, self._tally.state_dict(lane)) for lane in self._lanes}
        self._batches: weakref.ref[Generator[Batch]] | None = None
        self.num_seen, self.seconds_waited = 0, 0.0

    @property
    def epoch(self) -> int:
        """The epoch of the last samples yielded, from 0; the lowest one among this process's lanes."""
        return min(place.position.epoch for place in self._places.values())

    @property
    def broken(self) -> dict[str, int]:
        """Reason -> number of samples skipped for it in this process's lanes; digits in reasons are replaced by N."""
        return dict(self._tally.reasons)

    def __iter__(self) -> Generator[Batch]:
        self.close()
        batches = self._iterate()
        # A weak reference, so that the workers end as soon as the iterator is dropped.
        self._batches = weakref.ref(batches)
        return batches

    def close(self) -> None:
        """End the workers; a new iteration starts new ones and continues after the last batch."""
        if self._batches is not None and (batches := self._batches()) is not None:
            batches.close()
        self._batches = None

    def state_dict(self) -> dict[str, Any]:
        """The state after the last batch yielded, for this process's lanes: plain ints, strings, lists and tensors."""
        lanes = {
            str(lane): {"position": place.position.to_dict(), "used": place.used, "tally": dict(place.tally)}
            for lane, place in self._places.items()
        }
        return {"version": _VERSION, "must_match": self._must_match(), "num_seen": self.num_seen, "lanes": lanes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state; the numbers of processes and workers may differ from the run that saved it.

        Args:
            state: the state of all lanes (`merge_states`), or at least of this process's lanes.
        Raises:
            ConfigError: the state belongs to another source, seed or configuration (the message lists each difference),
                or lacks lanes of this process.
        """
        if state.get("version") != _VERSION:
            raise ConfigError(f"the loader's state has version {state.get('version')!r}; this one reads {_VERSION}")
        ours = self._must_match()
        saved = {"content": ours["content"], **state["must_match"]}  # states of older versions lack the content
        if saved["source"] != ours["source"] or saved["content"] != ours["content"]:
            what = "names or sizes" if saved["source"] != ours["source"] else "content"
            raise ConfigError(
                f"the pairs are not those that the run started with: the {what} of their files differ. Restore those "
                "files, or start a new run in another folder (--out)"
            )
        different = [
            f"{name} was {saved.get(name)!r} and is {value!r}"
            for name, value in ours.items()
            if saved.get(name) != value
        ]
        if different:
            raise ConfigError("the loader's state belongs to another run: " + "; ".join(different))
        if missing := [lane for lane in self._lanes if str(lane) not in state["lanes"]]:
            raise ConfigError(
                f"the loader's state has no lane {missing[0]}: it comes from one of several processes; join the states "
                "of all processes with merge_states"
            )
        self.close()
        for lane in self._lanes:
            values = state["lanes"][str(lane)]
            self._places[lane] = _Place(Position.from_dict(values["position"]), values["used"], values["tally"])
            self._tally.load_state_dict(lane, values["tally"])
        self.num_seen = state["num_seen"]

    def _must_match(self) -> dict[str, Any]:
        """Everything that determines the order of pairs and their pixels."""
        names = ("global_batch_size", "shuffle_buffer", "shuffle_buffer_bytes", "seed", "chunk_size")
        return {
            "source": self._fingerprint,
            "content": self._content,
            "preprocessing": self._decoder.preprocessing.to_dict(),
            "augmentation": self._decoder.augmentation.to_dict(),
            **{name: getattr(self.config, name) for name in names},
            "lanes": self._num_lanes,
        }

    def _iterate(self) -> Generator[Batch]:
        for lane, place in self._places.items():
            self._tally.load_state_dict(lane, place.tally)  # an error may have occurred in the middle of a batch
        waiting: dict[int, collections.deque[_Part]] = {lane: collections.deque() for lane in self._lanes}
        with contextlib.closing(self._decoded()) as parts:
            while True:
                yield self._next_batch(parts, waiting)  # no variable: only the consumer keeps a reference

    def _next_batch(self, parts: Iterator[_Part], waiting: dict[int, collections.deque[_Part]]) -> Batch:
        """Fill a batch from each lane's waiting parts and then from new ones; the state moves behind this batch."""
        size = self.config.global_batch_size
        counts = {lane: dealt(self.num_seen, size, lane, self._num_lanes) for lane in self._lanes}
        decoder = self._decoder
        batch = Assembly(
            counts, decoder.preprocessing.image_size, num_views=decoder.num_views, pin_memory=self._pin_memory
        )
        reached: dict[int, tuple[Position, int]] = {}

        def use(lane: int) -> None:
            while batch.missing[lane] and waiting[lane]:
                part = waiting[lane][0]
                if not part.counted:
                    content = part.content
                    self._tally.add(len(content.keys), content.broken, part.epoch, part.last, lane)
                    part.counted = True
                if part.used < len(part.content.keys):
                    part.used += batch.add(lane, part.content, part.used)
                    reached[lane] = part.position, part.used
                if part.used == len(part.content.keys):
                    waiting[lane].popleft()

        for lane in self._lanes:
            use(lane)
        while not batch.complete:
            part = next(parts)
            waiting[part.lane].append(part)
            use(part.lane)
        for lane, (position, used) in reached.items():
            self._places[lane] = _Place(position, used, self._tally.state_dict(lane))
        self.num_seen += size
        return batch.finish()

    def _decoded(self) -> Generator[_Part]:
        """The decoded chunks of all lanes from their positions on; the first ones carry how much of them was used."""
        config = self.config
        streams = {
            lane: ChunkStream(
                self.source,
                seed=config.seed,
                # The configured size is the total over all lanes.
                shuffle_buffer=dealt(0, config.shuffle_buffer, lane, self._num_lanes) or min(1, config.shuffle_buffer),
                shuffle_buffer_bytes=max(1, config.shuffle_buffer_bytes // self._num_lanes),
                chunk_size=config.chunk_size,
                lane=lane,
                num_lanes=self._num_lanes,
                position=place.position,
            )
            for lane, place in self._places.items()
        }
        used = {lane: place.used for lane, place in self._places.items()}
        reader = LaneReader(streams, used)
        in_work: collections.deque[tuple[Position, Chunk]] = collections.deque()

        def send() -> Generator[Chunk]:
            with contextlib.closing(read_ahead(reader, depth=4)) as chunks:
                for position, chunk in chunks:
                    in_work.append((position, dataclasses.replace(chunk, items=[])))
                    yield chunk

        began = time.perf_counter()
        with contextlib.closing(
            decode_chunks(send(), self._decoder, config.num_workers, self._chunks_ahead(), config.chunk_size)
        ) as contents:
            for content in contents:
                self.seconds_waited += time.perf_counter() - began
                position, chunk = in_work.popleft()
                reader.count_broken(chunk.lane, len(content.broken))
                first = used.pop(chunk.lane, 0)
                # The run that saved this state has already counted its first chunk.
                yield _Part(position, chunk.lane, chunk.epoch, chunk.last, content, first, counted=first > 0)
                began = time.perf_counter()

    def _chunks_ahead(self) -> int:
        """Chunks in flight: enough for two batches, one to use now and one to prepare meanwhile, unless too large."""
        size, mine = self.config.chunk_size, len(self._lanes)
        pairs = -(-self.config.global_batch_size * mine // self._num_lanes)
        bytes_per_chunk = size * 3 * self._decoder.num_views * self._decoder.preprocessing.image_size**2
        # One more chunk per lane, because all lanes' chunks may be used up with the same batch.
        return max(1, min(_MAX_AHEAD, mine - (-2 * pairs // size), _AHEAD_BYTES // bytes_per_chunk))


def merge_states(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the states of all ranks' loaders into one, from which any number of ranks can continue.

    Args:
        states: `Loader.state_dict()` of every rank, after the same batch.
    Raises:
        ConfigError: the states come from different runs or batches, or lanes are missing.
    """
    first = states[0]
    lanes: dict[str, Any] = {}
    for state in states:
        differing = [name for name in ("version", "must_match", "num_seen") if state[name] != first[name]]
        if differing or lanes.keys() & state["lanes"].keys():
            what = differing[0] if differing else "the lanes of one process occur twice"
            raise ConfigError(f"the states of the processes' loaders do not belong together: {what}")
        lanes.update(state["lanes"])
    if len(lanes) < first["must_match"]["lanes"]:
        raise ConfigError(
            f"the loaders' states have {len(lanes)} of {first['must_match']['lanes']} lanes; pass those of all ranks"
        )
    return {**first, "lanes": dict(sorted(lanes.items(), key=lambda item: int(item[0])))}
