"""Batches of pairs from a source: one deterministic stream, whatever the number of workers, restartable at every batch.

    loader = Loader(open_source(["shards/*.tar"]), tokenizer, Preprocessing(64), LoaderConfig(global_batch_size=256))
    for batch in loader: ...                                  # endless
    state = loader.state_dict()                               # ... and in another process
    loader.load_state_dict(state)                             # goes on with the batch after the last one yielded

A thread reads raw samples into the shuffle buffer and cuts the stream into chunks (stream.py); workers decode chunks
(workers.py); here good samples are joined into batches of exactly global_batch_size, across chunks and epochs.
"""

import collections
import contextlib
import dataclasses
import itertools
import time
import weakref
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from diptych.data.sources import Source
from diptych.data.stream import Chunk, ChunkStream, Position, read_ahead
from diptych.data.tally import Tally
from diptych.data.transforms import Augmentation, Preprocessing
from diptych.data.workers import DecodedChunk, EvaluationDecoder, Tokenize, TrainingDecoder, decode_chunks
from diptych.errors import ConfigError
from diptych.records import Batch

_VERSION = 2
_MAX_AHEAD = 256  # chunks in flight: each holds one file descriptor of shared memory


@dataclasses.dataclass(frozen=True)
class LoaderConfig:
    """How pairs are read.

    Attributes:
        global_batch_size: pairs per batch, over all processes.
        shuffle_buffer: raw samples (encoded files, in memory) that the next one is drawn from; 0: no shuffling at all.
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
    shuffle_buffer: int = 4096
    shuffle_buffer_bytes: int = 2**30
    num_workers: int = 1
    max_broken: float = 0.1
    seed: int = 0
    chunk_size: int = 32

    def __post_init__(self) -> None:
        limits = {
            "global_batch_size": (1, 2**20),
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


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """Where the last sample yielded came from: the chunk after `position`, of which `used` good samples are out."""

    position: Position = dataclasses.field(default_factory=Position)
    used: int = 0


class Loader:
    """Endless batches of pairs.

    Each sample comes once per epoch, with one of its captions drawn anew and its picture augmented anew. Broken
    samples are counted, logged and skipped. Iterating again goes on after the last batch yielded.

    Args:
        source: where samples come from.
        tokenizer: texts to ids; captions beyond the context are cut.
        preprocessing: the model's.
        config: sizes, workers, seed.
        augmentation: of the pictures.
        rank: this process among world_size, each with its own shards.
        world_size: number of processes.
    Attributes:
        epoch: of the last sample yielded, from 0.
        num_seen: pairs yielded.
        seconds_waited: time that the consumer waited for data.
    Raises:
        DataError: from the iteration, if too many samples are broken or none is usable.
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
    ) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank is {rank}; it must be from 0 to world_size - 1 = {world_size - 1}")
        self.source, self.config = source, config
        self._decoder = TrainingDecoder(tokenizer, preprocessing, augmentation, config.seed, rank)
        self._rank, self._world_size = rank, world_size
        self._place = _Place()
        self._tally = Tally(config.max_broken, num_shards=len(range(rank, len(source.shards), world_size)))
        self._batches: weakref.ref[Generator[Batch]] | None = None
        self.epoch, self.num_seen, self.seconds_waited = 0, 0, 0.0

    @property
    def broken(self) -> dict[str, int]:
        """Reason -> number of samples skipped for it; digits in reasons stand as N."""
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
        """The point after the last batch yielded, as plain ints, strings, lists and one tensor."""
        return {
            "version": _VERSION,
            "must_match": self._must_match(),
            "position": self._place.position.to_dict(),
            "used": self._place.used,
            "epoch": self.epoch,
            "num_seen": self.num_seen,
            "tally": self._tally.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a saved point; the number of workers may differ from the run that saved it.

        Raises:
            ConfigError: the state belongs to another source, seed or configuration; names each difference.
        """
        if state.get("version") != _VERSION:
            raise ConfigError(f"the loader's state has version {state.get('version')!r}; this one reads {_VERSION}")
        saved, ours = state["must_match"], self._must_match()
        different = [
            f"{name} was {saved.get(name)!r} and is {value!r}"
            for name, value in ours.items()
            if saved.get(name) != value
        ]
        if different:
            raise ConfigError("the loader's state belongs to another run: " + "; ".join(different))
        self.close()
        self._place = _Place(Position.from_dict(state["position"]), state["used"])
        self._tally.load_state_dict(state["tally"])
        self.epoch, self.num_seen = state["epoch"], state["num_seen"]

    def _must_match(self) -> dict[str, Any]:
        """What decides which pairs and pixels come."""
        ours = ("global_batch_size", "shuffle_buffer", "shuffle_buffer_bytes", "seed", "chunk_size")
        return {
            "source": self.source.fingerprint,
            "preprocessing": self._decoder.preprocessing.to_dict(),
            "augmentation": self._decoder.augmentation.to_dict(),
            **{name: getattr(self.config, name) for name in ours},
            "rank": self._rank,
            "world_size": self._world_size,
        }

    def _iterate(self) -> Generator[Batch]:
        size = self.config.global_batch_size
        pieces: list[tuple[DecodedChunk, int, int]] = []
        missing, used = size, self._place.used
        with contextlib.closing(self._decoded()) as parts:
            for position, epoch, part in parts:
                while used < len(part.keys):
                    take = min(missing, len(part.keys) - used)
                    pieces.append((part, used, used + take))
                    used, missing = used + take, missing - take
                    if missing == 0:
                        batch = _join(pieces)
                        self._place, self.epoch, self.num_seen = _Place(position, used), epoch, self.num_seen + size
                        pieces, missing = [], size
                        yield batch
                used = 0

    def _decoded(self) -> Generator[tuple[Position, int, DecodedChunk]]:
        """Position before, epoch and content of each decoded chunk, counted, from the current place on."""
        config = self.config
        stream = ChunkStream(
            self.source,
            seed=config.seed,
            shuffle_buffer=config.shuffle_buffer,
            shuffle_buffer_bytes=config.shuffle_buffer_bytes,
            chunk_size=config.chunk_size,
            rank=self._rank,
            world_size=self._world_size,
            position=self._place.position,
        )
        in_work: collections.deque[tuple[Position, int, bool]] = collections.deque()

        def send() -> Generator[Chunk]:
            with contextlib.closing(read_ahead(stream, depth=4)) as chunks:
                for position, chunk in chunks:
                    in_work.append((position, chunk.epoch, chunk.last))
                    yield chunk

        # Two batches ahead: one to be taken at once, one that ripens while the model works.
        ahead = min(_MAX_AHEAD, -(-2 * config.global_batch_size // config.chunk_size))
        counted = self._place.used > 0  # the run that saved this place has counted its chunk already
        began = time.perf_counter()
        with contextlib.closing(decode_chunks(send(), self._decoder, config.num_workers, ahead)) as parts:
            for part in parts:
                self.seconds_waited += time.perf_counter() - began
                position, epoch, epoch_ends = in_work.popleft()
                if not counted:
                    self._tally.add(len(part.keys), part.broken, epoch, epoch_ends)
                counted = False
                yield position, epoch, part
                began = time.perf_counter()


def _join(pieces: list[tuple[DecodedChunk, int, int]]) -> Batch:
    """One batch from rows begin to end of each chunk; tokens are padded to the longest caption among them."""
    lengths = torch.from_numpy(np.concatenate([part.lengths[begin:end] for part, begin, end in pieces]))
    tokens = torch.zeros((len(lengths), int(lengths.max())), dtype=torch.int32)
    row = 0
    for part, begin, end in pieces:
        width = min(tokens.shape[1], part.tokens.shape[1])
        tokens[row : row + end - begin, :width] = torch.from_numpy(part.tokens[begin:end, :width])
        row += end - begin
    return Batch(
        images=torch.cat([part.images[begin:end] for part, begin, end in pieces]),
        tokens=tokens,
        lengths=lengths,
        keys=tuple(itertools.chain.from_iterable(part.keys[begin:end] for part, begin, end in pieces)),
    )


def evaluation_batches(
    source: Source, preprocessing: Preprocessing, batch_size: int = 256, num_workers: int = 0
) -> Iterator[tuple[tuple[str, ...], torch.Tensor, torch.Tensor]]:
    """One pass over a labelled source in its own order, with the evaluation's preprocessing.

    Broken samples are left out; each is named in the log, and their number at the end.

    Args:
        source: samples with labels.
        preprocessing: the model's.
        batch_size: the most samples per batch; batches with broken samples are smaller, and none is empty.
        num_workers: processes that decode; 0 decodes here. It changes nothing in the result.
    Yields:
        (keys, images uint8 (N, 3, R, R), labels int64 (N,)).
    Raises:
        DataError: no sample is usable.
    """
    tally = Tally(max_broken=1.0, num_shards=len(source.shards))
    lasts: collections.deque[bool] = collections.deque()

    def send() -> Generator[Chunk]:
        stream = ChunkStream(source, seed=0, shuffle_buffer=0, shuffle_buffer_bytes=1, chunk_size=batch_size)
        with contextlib.closing(read_ahead(stream, depth=2)) as chunks:
            for _, chunk in chunks:
                lasts.append(chunk.last)
                yield chunk
                if chunk.last:
                    return

    decoder = EvaluationDecoder(preprocessing)
    with contextlib.closing(decode_chunks(send(), decoder, num_workers, ahead=2 * max(1, num_workers))) as parts:
        for part in parts:
            tally.add(len(part.keys), part.broken, epoch=0, epoch_ends=lasts.popleft())
            if part.keys:
                yield part.keys, part.images, torch.from_numpy(part.labels)
