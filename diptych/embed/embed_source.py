"""Encode a whole source into a store: in bounded memory, with several processes, and resumable.

The source's shards form units, and each process encodes one unit at a time. A unit is written in parts of
`rows_per_shard` samples. A killed run loses at most the unfinished parts. Batches never cross a part, so an
interruption changes neither the composition of the batches nor any vector.
"""

import dataclasses
import itertools
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from diptych import distributed
from diptych.data.evaluation_batches import Decoding
from diptych.data.source import Source
from diptych.embed.backends.backend_model import BackendModel
from diptych.embed.broken_samples import BrokenSamples
from diptych.embed.encoder import Encoder
from diptych.embed.engine import KINDS, TEXT_EMBEDDINGS, EncodedBatch, encode_source
from diptych.embed.executor import Executor, map_shards
from diptych.embed.shard_writer import ShardWriter
from diptych.embed.stage_times import StageTimes
from diptych.embed.store import Store, StoreManifest, open_store, shard_name
from diptych.embed.store_origin import open_or_create, source_manifest
from diptych.errors import ConfigError
from diptych.files import expanded, new_folder, remove_unfinished, writing
from diptych.processor import num_cores
from diptych.progress import progress_bar
from diptych.records import Broken, Sample

ROWS_PER_SHARD = 65_536
_COMPARED = 16  # stored vectors that another back end must agree with before it adds to them
_MAX_UNITS = 1_000_000  # a shard's name has six digits for the unit


def embed_source(
    source: Source,
    encoder: Encoder,
    folder: str | Path,
    *,
    kind: str = "embeddings",
    batch_size: int = 256,
    rows_per_shard: int = ROWS_PER_SHARD,
    num_workers: int = 0,
    num_processes: int = 1,
    num_threads: int | None = None,
    fast_decoding: bool = False,
    allow_other_backend: bool = False,
    executor: Executor = map_shards,
    times: StageTimes | None = None,
    seconds_per_line: float | None = None,
) -> Store:
    """Encode all images or texts of a source into a store. Call it again to resume an interrupted run.

    Broken samples are left out, named in the log, counted (`Store.num_broken`), and listed (`all_broken_samples`).

    Args:
        source: images; captions and labels are optional.
        encoder: computes the vectors. A resumed run recognizes it by its `image_fingerprint`.
        folder: folder of the store; created if it is missing.
        kind: "embeddings" of unit norm, "features" before the projection, or "text embeddings" of each sample's first
            text.
        batch_size: images per batch.
        rows_per_shard: samples per shard, a multiple of batch_size.
        num_workers: decoding processes per encoding process; they do not change the vectors.
        num_processes: encoding processes, on the CPU, with one torch thread each.
        num_threads: decoding threads in this process; by default one per core, and none beside decoding or encoding
            processes. They do not change the vectors.
        fast_decoding: decode JPEGs at a reduced size, see `EvaluationDecoder`; the vectors differ slightly.
        allow_other_backend: let a model that differs in back end or precision alone add to the store, if its vectors of
            some stored images have cosines of 0.999 or more with the stored ones. The manifest records both.
        executor: maps a function over the units.
        times: the seconds of each stage are added to it.
        seconds_per_line: also print the progress as lines on stderr, at most one in this many seconds.
    Returns:
        The complete store.
    Raises:
        ConfigError: the settings contradict each other, or the encoder does not compute vectors of that kind.
        DataError: the folder holds vectors of something else, or cannot be written.
        InputError: a vector is not finite.
        WorkerError: a process was killed twice on the same unit.
    """
    _check(kind, batch_size, rows_per_shard, num_processes)
    if num_threads is None:
        num_threads = num_cores() if num_workers == 0 and num_processes == 1 and executor is map_shards else 0
    decoding, units = Decoding(num_threads, fast_decoding, rows_per_shard), tuple(_units(source, rows_per_shard))
    encode = _EncodeUnit(source, encoder, None, units, kind, batch_size, rows_per_shard, num_workers, decoding)
    store = open_or_create(expanded(folder), encode.manifest(), encode.worst_cosine if allow_other_backend else None)
    times = StageTimes() if times is None else times
    if num_processes > 1 and isinstance(encoder, BackendModel):
        encoder.release()
    _run(dataclasses.replace(encode, store=store), num_processes, executor, times, seconds_per_line)
    return open_store(store.folder)


def _run(
    encode: "_EncodeUnit", num_processes: int, executor: Executor, times: StageTimes, seconds_per_line: float | None
) -> None:
    """Encode the unfinished units and show the progress."""
    assert encode.store is not None
    what = "texts" if encode.kind == TEXT_EMBEDDINGS else "images"
    try:
        for _ in progress_bar(
            _counts(encode, num_processes, executor, times),
            f"{encode.encoder.name} ({what})",
            _num_left(encode.source, encode.store),
            lambda count: count,
            status=lambda: f"limited by {times.limit}",
            seconds_per_line=seconds_per_line,
        ):
            pass
    finally:  # an error kills the other processes while they write
        remove_unfinished(encode.store.folder)


def _counts(encode: "_EncodeUnit", num_processes: int, executor: Executor, times: StageTimes) -> Iterator[int]:
    """The number of vectors of each batch, or of each unit that another process encodes."""
    units = range(len(encode.units))
    if num_processes == 1 and executor is map_shards:  # in this process: the progress moves batch by batch
        for unit in units:
            if not encode.is_finished(unit):
                yield from encode.parts(unit, times)
        return
    for _, report in executor(encode, units, is_finished=encode.is_finished, num_processes=num_processes):
        times.add(report.times)
        yield report.num_vectors


@dataclasses.dataclass(frozen=True)
class UnitReport:
    """What an executor returns of one unit: the number of vectors, and the seconds of each stage."""

    num_vectors: int
    times: StageTimes


@dataclasses.dataclass(frozen=True)
class _Span:
    """Shards `first` to `end` (exclusive) of a source."""

    first: int
    end: int


@dataclasses.dataclass(frozen=True)
class _EncodeUnit:
    """Encodes one unit from its first unfinished part on. Executors pass it to their processes."""

    source: Source
    encoder: Encoder
    store: Store | None
    units: tuple[_Span, ...]
    kind: str
    batch_size: int
    rows_per_shard: int
    num_workers: int
    decoding: Decoding

    def manifest(self) -> StoreManifest:
        """The manifest of the whole store."""
        return source_manifest(
            self.source,
            self.encoder,
            self.kind,
            batch_size=self.batch_size,
            rows_per_shard=self.rows_per_shard,
            num_units=len(self.units),
            fast_decoding=self.decoding.fast,
        )

    def is_finished(self, unit: int) -> bool:
        """Whether the unit was complete when the run began."""
        assert self.store is not None
        return self.store.num_parts(unit)[1]

    def __call__(self, unit: int) -> UnitReport:
        """Encode a unit."""
        times = StageTimes()
        return UnitReport(sum(self.parts(unit, times)), times)

    def parts(self, unit: int, times: StageTimes) -> Iterator[int]:
        """Encode a unit; yields the number of vectors of each batch."""
        assert self.store is not None
        folder, rows, (done, _) = self.store.folder, self.rows_per_shard, self.store.num_parts(unit)
        rest, broken = _Unit(self.source, self.units[unit], done * rows), BrokenSamples()
        batches = encode_source(
            self.encoder,
            rest,
            self.batch_size,
            self.num_workers,
            self.kind,
            where=str(folder),
            strict=False,
            on_broken=lambda sample, place: broken.add(sample, place // rows),
            decoding=self.decoding,
            times=times,
        )
        with writing(folder):
            yield from _write_parts(batches, folder, unit, done, rows, self.store.manifest.dim, broken, times)

    def worst_cosine(self, store: Store) -> float | None:
        """The lowest cosine of some stored vectors with the encoder's own; None if the store is empty."""
        shard = next((shard for shard in store.shards if shard.num_rows), None)
        if shard is None:
            return None
        unit = _Unit(self.source, self.units[shard.unit], shard.part * self.rows_per_shard)
        stored = dict(zip(shard.keys[:_COMPARED], shard.vectors[:_COMPARED], strict=True))
        items = itertools.chain.from_iterable(map(unit.read, range(len(unit.shards))))
        again = (item for item in items if isinstance(item, Sample) and item.key in stored)
        samples = _Samples(tuple(itertools.islice(again, len(stored))))
        cosines = [
            float(vector @ stored[key] / np.linalg.norm(vector) / np.linalg.norm(stored[key]))
            for batch in encode_source(self.encoder, samples, self.batch_size, 0, self.kind, strict=False)
            for key, vector in zip(batch.keys, batch.vectors.float().cpu().numpy(), strict=True)
        ]
        return min(cosines) if len(cosines) == len(stored) else -1.0


class _Unit(Source):
    """Consecutive shards of a source, without the first `skip` items, which are already encoded."""

    def __init__(self, source: Source, span: _Span, skip: int) -> None:
        self._source, self._span, self._skip, self._left = source, span, skip, skip

    @property
    def shards(self) -> Sequence[str]:
        return self._source.shards[self._span.first : self._span.end]

    @property
    def fingerprint(self) -> str:
        return self._source.fingerprint

    def read(self, index: int) -> Iterator[Sample | Broken]:
        if index == 0:  # shards are read in order, from the first one on
            self._left = self._skip
        for item in self._source.read(self._span.first + index):
            if self._left:
                self._left -= 1
            else:
                yield item


@dataclasses.dataclass(frozen=True)
class _Samples(Source):
    """Samples in memory."""

    samples: tuple[Sample, ...]
    shards = ("stored",)
    fingerprint = ""

    def read(self, index: int) -> Iterator[Sample | Broken]:
        return iter(self.samples)


class _Lookahead:
    """Holds the next batch, so that the caller can look at it before taking it.

    Attributes:
        batch: the next batch; None at the end. num_items: samples of the unit, known at the end.
    """

    def __init__(self, batches: Generator[EncodedBatch, None, tuple[int, int]]) -> None:
        self._batches, self.num_items = batches, 0
        self.batch: EncodedBatch | None = None
        self.advance()

    def advance(self) -> None:
        try:
            self.batch = next(self._batches)
        except StopIteration as end:
            self.batch, self.num_items = None, end.value[1]


def _write_parts(
    batches: Generator[EncodedBatch, None, tuple[int, int]],
    folder: Path,
    unit: int,
    done: int,
    rows: int,
    dim: int,
    broken: BrokenSamples,
    times: StageTimes,
) -> Iterator[int]:
    """Write a unit's batches as shards of `rows` samples each, from shard `done` on; yields the size of each batch.

    Batches are read one ahead, so that the last shard is known. An unfinished shard leaves nothing behind.
    """
    stream = _Lookahead(batches)
    for number in itertools.count():
        path = folder / shard_name(unit, done + number)
        with new_folder(path, stays=(path / "shard.json").exists) as unfinished, ShardWriter(unfinished, dim) as writer:
            while stream.batch is not None and stream.batch.places[0] // rows == number:
                with times.measure("writing"):
                    writer.add(stream.batch)
                yield len(stream.batch.samples)
                stream.advance()
            is_last = stream.batch is None
            num_items = stream.num_items - number * rows if is_last else rows
            with times.measure("writing"):
                writer.finish(num_items, is_last=is_last, broken=broken.take(number, is_last=is_last))
        if is_last:
            return


def _check(kind: str, batch_size: int, rows_per_shard: int, num_processes: int) -> None:
    if kind not in (*KINDS, TEXT_EMBEDDINGS):
        raise ConfigError(f"kind must be {', '.join(KINDS)} or {TEXT_EMBEDDINGS}, not {kind!r}")
    if batch_size < 1 or rows_per_shard < 1 or rows_per_shard % batch_size:
        raise ConfigError(f"rows_per_shard ({rows_per_shard}) must be a multiple of batch_size ({batch_size})")
    if num_processes < 1:
        raise ConfigError(f"num_processes must be at least 1, not {num_processes}")
    if num_processes > 1 and torch.cuda.is_initialized():
        raise ConfigError("only one process can use the GPU; set num_processes=1, and num_workers for decoding")
    if distributed.world_size() > 1:
        raise ConfigError("embed_source does not run under torchrun; set num_processes instead")


def _units(source: Source, rows_per_shard: int) -> list[_Span]:
    """One unit per shard; small shards are joined until a unit holds about `rows_per_shard` samples."""
    count = len(source.shards)
    shards_per_unit = max(1, count * rows_per_shard // max(1, source.num_samples or count * rows_per_shard))
    shards_per_unit = max(shards_per_unit, -(-count // _MAX_UNITS))
    return [_Span(first, min(first + shards_per_unit, count)) for first in range(0, count, shards_per_unit)]


def _num_left(source: Source, store: Store) -> int | None:
    """Samples that are not encoded yet; None if unknown."""
    num_samples = source.num_samples
    return None if num_samples is None else max(0, num_samples - sum(shard.num_items for shard in store.shards))
