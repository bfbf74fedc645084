"""Batches of pairs from a source: the same ones whatever the number of processes and workers, restartable at each.

    loader = Loader(open_source(["shards/*.tar"]), tokenizer, Preprocessing(64), LoaderConfig(global_batch_size=256))
    for batch in loader: ...                                  # endless
    state = loader.state_dict()                               # ... and in another process
    loader.load_state_dict(state)                             # goes on with the batch after the last one yielded

The data is cut into lanes (lanes.py), of which each process serves some. A thread reads each lane's raw samples into
its shuffle buffer and cuts them into chunks (stream.py); workers decode chunks (workers.py); here good samples are
joined into batches (assembly.py), across chunks and epochs.
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
from diptych.data.lanes import LaneReader, check_lanes, count_lanes, dealt, lanes_of_rank, most_shards
from diptych.data.source import Source
from diptych.data.stream import Chunk, ChunkStream, Position, read_ahead
from diptych.data.tally import Tally
from diptych.data.transforms import Augmentation, Preprocessing
from diptych.data.workers import DecodedChunk, Tokenize, TrainingDecoder, decode_chunks
from diptych.errors import ConfigError
from diptych.records import Batch

_VERSION = 3
_MAX_AHEAD = 256  # chunks in flight
_AHEAD_BYTES = 512 << 20  # that their pixels may take


@dataclasses.dataclass(frozen=True)
class LoaderConfig:
    """How pairs are read.

    Attributes:
        global_batch_size: pairs per batch, over all processes.
        lanes: streams that the data is cut into, at most one for each shard: at least as many as processes, best a
            multiple of them and a divisor of the batch. It settles the order of samples, the number of processes does
            not.
        shuffle_buffer: raw samples (encoded files, in memory) that the next ones are drawn from, over all lanes; 0: no
            shuffling at all, and with one lane the source's own order.
        shuffle_buffer_bytes: what these may weigh together; where they reach it, fewer of them wait.
        num_workers: processes that decode; 0 decodes in the training process. It changes no batch.
        max_broken: the share of samples that may be broken, and of shards that may break off in the middle, before the
            run stops.
        seed: of the order, of captions and of the augmentation.
        chunk_size: samples that a worker takes at once; fewer where they are large.
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
    """Where a lane stands: after `used` good samples of the chunk at `position`; and what was counted until then."""

    position: Position
    used: int
    tally: Mapping[str, Any]


@dataclasses.dataclass(slots=True, eq=False)
class _Part:
    """A decoded chunk of which `used` good samples are out."""

    position: Position
    lane: int
    epoch: int
    last: bool
    content: DecodedChunk
    used: int
    counted: bool


class Loader:
    """Endless batches of pairs.

    Each sample comes once per epoch of its lane, with one of its captions drawn anew and its picture augmented anew.
    Broken samples are counted, logged and skipped. Iterating again goes on after the last batch yielded, also after an
    error.

    The batches of all ranks, one behind the other in the order of the ranks, are the batch that a single process gets.
    The loader keeps no batch: whoever lets go of the last one before asking for the next holds one at a time.

    Args:
        source: where samples come from.
        tokenizer: texts to ids; captions beyond the context are cut.
        preprocessing: the model's.
        config: sizes, lanes, workers, seed.
        augmentation: of the pictures.
        rank: this process among world_size, each with its own lanes. Its batches may differ by a few pairs in size.
        world_size: number of processes.
        pin_memory: hold batches where a GPU can fetch them while it computes; without CUDA it means nothing.
    Attributes:
        num_seen: pairs yielded, over all processes.
        seconds_waited: time that the consumer waited for data.
    Raises:
        ConfigError: there are fewer lanes than processes, or fewer pairs in a batch of several processes than lanes.
        DataError: from the iteration, if a shard cannot be read, too many samples are broken or none is usable. The
            state is then that of the last batch yielded.
    """

    def __init__(
        self,
        source: Source,
        tokenizer: Tokenize,
        preprocessing: Preprocessing,
        config: LoaderConfig,
        augmentation: Augmentation = Augmentation(),  # noqa: B008  (frozen)
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
        # Now, while the files are there: a run that lost them can still be saved.
        self._fingerprint, self._content = source.fingerprint, content_fingerprint(source)
        self._decoder = TrainingDecoder(tokenizer, preprocessing, augmentation, config.seed)
        self._lanes = lanes_of_rank(rank, world_size, self._num_lanes)
        mine = most_shards(num_shards, self._lanes, self._num_lanes)
        self._tally = Tally(config.max_broken, mine, self._lanes, self._num_lanes)
        self._places = {lane: _Place(Position(), 0, self._tally.state_dict(lane)) for lane in self._lanes}
        self._batches: weakref.ref[Generator[Batch]] | None = None
        self.num_seen, self.seconds_waited = 0, 0.0

    @property
    def epoch(self) -> int:
        """Of the last samples yielded, from 0: the lowest among this process's lanes."""
        return min(place.position.epoch for place in self._places.values())

    @property
    def broken(self) -> dict[str, int]:
        """Reason -> number of samples skipped for it in this process's lanes; digits in reasons stand as N."""
        return dict(self._tally.reasons)

    def __iter__(self) -> Generator[Batch]:
        self.close()
        batches = self._iterate()
        # Weakly, so that the workers end as soon as nobody iterates.
        self._batches = weakref.ref(batches)
        return batches

    def close(self) -> None:
        """End the workers; iterating again starts new ones where these stopped."""
        if self._batches is not None and (batches := self._batches()) is not None:
            batches.close()
        self._batches = None

    def state_dict(self) -> dict[str, Any]:
        """The point after the last batch yielded, of this process's lanes: plain ints, strings, lists and tensors."""
        lanes = {
            str(lane): {"position": place.position.to_dict(), "used": place.used, "tally": dict(place.tally)}
            for lane, place in self._places.items()
        }
        return {"version": _VERSION, "must_match": self._must_match(), "num_seen": self.num_seen, "lanes": lanes}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved point; the numbers of processes and workers may differ from the run that saved it.

        Args:
            state: of all lanes (`merge_states`), or at least of those of this process.
        Raises:
            ConfigError: the state belongs to another source, seed or configuration; names each difference. Or lanes of
                this process are missing in it.
        """
        if state.get("version") != _VERSION:
            raise ConfigError(f"the loader's state has version {state.get('version')!r}; this one reads {_VERSION}")
        ours = self._must_match()
        saved = {"content": ours["content"], **state["must_match"]}  # older versions did not know the content
        if saved["source"] != ours["source"] or saved["content"] != ours["content"]:
            what = "names or sizes" if saved["source"] != ours["source"] else "content"
            raise ConfigError(
                f"the pairs are not those that the run began with: the {what} of their files differ. Put those back, "
                "or start a new run in another folder (--out)"
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
                f"the loader's state has no lane {missing[0]}: it is that of one process among several; join those of "
                "all with merge_states"
            )
        self.close()
        for lane in self._lanes:
            values = state["lanes"][str(lane)]
            self._places[lane] = _Place(Position.from_dict(values["position"]), values["used"], values["tally"])
            self._tally.load_state_dict(lane, values["tally"])
        self.num_seen = state["num_seen"]

    def _must_match(self) -> dict[str, Any]:
        """What decides which pairs and pixels come."""
        ours = ("global_batch_size", "shuffle_buffer", "shuffle_buffer_bytes", "seed", "chunk_size")
        return {
            "source": self._fingerprint,
            "content": self._content,
            "preprocessing": self._decoder.preprocessing.to_dict(),
            "augmentation": self._decoder.augmentation.to_dict(),
            **{name: getattr(self.config, name) for name in ours},
            "lanes": self._num_lanes,
        }

    def _iterate(self) -> Generator[Batch]:
        for lane, place in self._places.items():
            self._tally.load_state_dict(lane, place.tally)  # an error may have come in the middle of a batch
        waiting: dict[int, collections.deque[_Part]] = {lane: collections.deque() for lane in self._lanes}
        with contextlib.closing(self._decoded()) as parts:
            while True:
                yield self._next_batch(parts, waiting)  # in no variable: the consumer alone holds it

    def _next_batch(self, parts: Iterator[_Part], waiting: dict[int, collections.deque[_Part]]) -> Batch:
        """What waits of each lane and then what comes, put in its place; then the loader stands behind this batch."""
        size = self.config.global_batch_size
        counts = {lane: dealt(self.num_seen, size, lane, self._num_lanes) for lane in self._lanes}
        batch = Assembly(counts, self._decoder.preprocessing.image_size, pin_memory=self._pin_memory)
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
        """The decoded chunks of all lanes from their places on; what was used of the first ones is marked."""
        config = self.config
        streams = {
            lane: ChunkStream(
                self.source,
                seed=config.seed,
                # Of all lanes together there are as many as configured.
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
                # The run that saved a place has counted its chunk already.
                yield _Part(position, chunk.lane, chunk.epoch, chunk.last, content, first, counted=first > 0)
                began = time.perf_counter()

    def _chunks_ahead(self) -> int:
        """Two batches, one to be taken at once and one that ripens while the model works, if they are not too large."""
        size, mine = self.config.chunk_size, len(self._lanes)
        pairs = -(-self.config.global_batch_size * mine // self._num_lanes)
        bytes_per_chunk = size * 3 * self._decoder.preprocessing.image_size**2
        # The lanes' chunks may all be used up with the same batch, so each counts for one more.
        return max(1, min(_MAX_AHEAD, mine - (-2 * pairs // size), _AHEAD_BYTES // bytes_per_chunk))


def merge_states(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The states of all ranks' loaders as one, from which loaders of any number of ranks go on.

    Args:
        states: `Loader.state_dict()` of every rank, after the same batch.
    Raises:
        ConfigError: they are of different runs or batches, or not of all lanes.
    """
    first = states[0]
    lanes: dict[str, Any] = {}
    for state in states:
        differing = [name for name in ("version", "must_match", "num_seen") if state[name] != first[name]]
        if differing or lanes.keys() & state["lanes"].keys():
            what = differing[0] if differing else "the lanes of one process came twice"
            raise ConfigError(f"the states of the processes' loaders do not belong together: {what}")
        lanes.update(state["lanes"])
    if len(lanes) < first["must_match"]["lanes"]:
        raise ConfigError(
            f"the loaders' states have {len(lanes)} of {first['must_match']['lanes']} lanes; hand in those of all ranks"
        )
    return {**first, "lanes": dict(sorted(lanes.items(), key=lambda item: int(item[0])))}
