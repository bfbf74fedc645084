"""Encode a whole source into a store: in bounded memory, with several processes, and resumable.

The source's shards form units, and each process encodes one unit at a time. A unit is written in parts of
`rows_per_shard` samples. A killed run loses at most the unfinished parts. Batches never cross a part, so an
interruption changes neither the composition of the batches nor any vector.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image

from diptych import distributed
from diptych.data.content import content_fingerprint
from diptych.data.source import Source
from diptych.embed.about import about
from diptych.embed.broken_samples import BrokenSamples
from diptych.embed.encoder import Encoder
from diptych.embed.engine import KINDS, EncodedBatch, PixelEncoder, encode_source, image_function
from diptych.embed.executor import Executor, map_shards
from diptych.embed.shard_writer import ShardWriter
from diptych.embed.store import Store, StoreManifest, open_store, shard_name
from diptych.errors import ConfigError, DataError
from diptych.files import expanded, new_folder, remove_unfinished, writing
from diptych.progress import progress_bar
from diptych.records import Broken, Sample

ROWS_PER_SHARD = 65_536
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
    executor: Executor = map_shards,
) -> Store:
    """Encode all images of a source into a store. Call it again to resume an interrupted run.

    Broken samples are left out, named in the log, and counted (`Store.num_broken`); `broken_samples` names the first.

    Args:
        source: images; captions and labels are optional.
        encoder: computes the vectors. A resumed run recognizes it by its `image_fingerprint`.
        folder: folder of the store; created if it is missing.
        kind: "embeddings" of unit norm, or "features" before the projection.
        batch_size: images per batch.
        rows_per_shard: samples per shard, a multiple of batch_size.
        num_workers: decoding processes per encoding process; they do not change the vectors.
        num_processes: encoding processes, on the CPU, with one torch thread each.
        executor: maps a function over the units.
    Returns:
        The complete store.
    Raises:
        ConfigError: the settings contradict each other, or the encoder does not compute vectors of that kind.
        DataError: the folder holds vectors of something else, or cannot be written.
        InputError: a vector is not finite.
        WorkerError: a process was killed twice on the same unit.
    """
    _check(kind, batch_size, rows_per_shard, num_processes)
    folder = expanded(folder)
    units = _units(source, rows_per_shard)
    manifest = _manifest(source, encoder, kind, batch_size, rows_per_shard, len(units))
    store = _open_or_create(folder, manifest)

    encode = _EncodeUnit(source, encoder, store, tuple(units), kind, batch_size, rows_per_shard, num_workers)
    counts: Iterator[int]
    try:
        if num_processes == 1 and executor is map_shards:  # in this process: the progress bar moves batch by batch
            pending = (unit for unit in range(len(units)) if not encode.is_finished(unit))
            counts = itertools.chain.from_iterable(map(encode.parts, pending))
        else:
            done = executor(encode, range(len(units)), is_finished=encode.is_finished, num_processes=num_processes)
            counts = (count for _, count in done)
        for _ in progress_bar(counts, f"{encoder.name} (images)", _num_left(source, store), lambda count: count):
            pass
    finally:  # an error kills the other processes while they write
        remove_unfinished(folder)
    return open_store(folder)


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
    store: Store
    units: tuple[_Span, ...]
    kind: str
    batch_size: int
    rows_per_shard: int
    num_workers: int

    def is_finished(self, unit: int) -> bool:
        """Whether the unit was complete when the run began."""
        return self.store.num_parts(unit)[1]

    def __call__(self, unit: int) -> int:
        """Encode a unit; returns the number of vectors."""
        return sum(self.parts(unit))

    def parts(self, unit: int) -> Iterator[int]:
        """Encode a unit; yields the number of vectors of each batch."""
        folder, rows, (done, _) = self.store.folder, self.rows_per_shard, self.store.num_parts(unit)
        rest = _Unit(self.source, self.units[unit], done * rows)
        broken = BrokenSamples()
        batches = encode_source(
            self.encoder,
            rest,
            self.batch_size,
            self.num_workers,
            self.kind,
            where=str(folder),
            strict=False,
            on_broken=broken.add,
        )
        with writing(folder):
            yield from _write_parts(batches, folder, unit, done, rows, self.store.manifest.dim, broken)


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
) -> Iterator[int]:
    """Write a unit's batches as shards of `rows` samples each, from shard `done` on; yields the size of each batch.

    Batches are read one ahead, so a shard may name broken samples of the next one. A resumed run names them again.
    """
    stream = _Lookahead(batches)
    for number in itertools.count():
        path = folder / shard_name(unit, done + number)
        with new_folder(path, stays=(path / "shard.json").exists) as unfinished, ShardWriter(unfinished, dim) as writer:
            while stream.batch is not None and stream.batch.places[0] // rows == number:
                writer.add(stream.batch)
                yield len(stream.batch.samples)
                stream.advance()
            is_last = stream.batch is None
            num_items = stream.num_items - number * rows if is_last else rows
            writer.finish(num_items, is_last=is_last, broken=broken.take())
        if is_last:
            return


def _check(kind: str, batch_size: int, rows_per_shard: int, num_processes: int) -> None:
    if kind not in KINDS:
        raise ConfigError(f"kind must be {' or '.join(KINDS)}, not {kind!r}")
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


def _manifest(
    source: Source, encoder: Encoder, kind: str, batch_size: int, rows_per_shard: int, num_units: int
) -> StoreManifest:
    origin = encoder_manifest(encoder)
    data = hashlib.sha256(f"{source.fingerprint} {content_fingerprint(source)}".encode()).hexdigest()
    identity = [kind, origin["model_fingerprint"], origin["precision"], data, batch_size, rows_per_shard, num_units]
    fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    dim = _vector_dim(encoder, kind)
    return StoreManifest(fingerprint=fingerprint, kind=kind, data=data, dim=dim, num_units=num_units, **origin)


def encoder_manifest(encoder: Encoder) -> dict[str, str]:
    """The fields of a store's manifest that describe the encoder."""
    record = about(encoder)
    return {
        "model": encoder.name,
        "model_fingerprint": record.image_fingerprint or "",
        "preprocessing": str(encoder.preprocessing) if isinstance(encoder, PixelEncoder) else "",
        "precision": record.precision or "",
        "backend": f"torch {torch.__version__}",
    }


def _vector_dim(encoder: Encoder, kind: str) -> int:
    """Numbers per vector, measured on a black image, so that a broken encoder fails before the first shard."""
    function = image_function(encoder, kind)
    if isinstance(encoder, PixelEncoder):
        size = encoder.preprocessing.image_size
        return function(torch.zeros(1, 3, size, size, dtype=torch.uint8)).shape[1]
    return function([Image.new("RGB", (64, 64))]).shape[1]


def _open_or_create(folder: Path, manifest: StoreManifest) -> Store:
    """The store of an earlier run, or a new one."""
    if not (folder / "manifest.json").exists():
        if folder.exists() and (not folder.is_dir() or any(folder.glob("[!.]*"))):
            raise DataError(f"{folder} holds something else; choose a new folder for the embeddings")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            manifest.write(folder)
        return open_store(folder)
    store = open_store(folder)
    if store.manifest.fingerprint != manifest.fingerprint:
        ours, theirs = dataclasses.asdict(manifest), dataclasses.asdict(store.manifest)
        fields = [name for name in ours if ours[name] != theirs[name] and name != "fingerprint"]
        raise DataError(
            f"{folder} holds vectors of something else: {', '.join(fields) or 'batch_size or rows_per_shard'} differ; "
            "choose another folder"
        )
    if not manifest.model_fingerprint and store.shards:
        raise ConfigError(
            f"{manifest.model} has no image_fingerprint, so it is unknown whether {folder} holds its vectors; "
            "choose a new folder, or define image_fingerprint"
        )
    return store


def _num_left(source: Source, store: Store) -> int | None:
    """Samples that are not encoded yet; None if unknown."""
    num_samples = source.num_samples
    return None if num_samples is None else max(0, num_samples - sum(shard.num_items for shard in store.shards))
