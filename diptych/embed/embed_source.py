"""A whole source encoded into a store: bounded memory, several processes, resumed where it was stopped.

The source's shards form units, which processes take in turn; a unit is written in parts of `rows_per_shard` samples. A
killed run loses at most the parts in hand. Batches never cross a part, so that their composition, and with it every
vector, is the same after any interruption.
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
from diptych.embed.encoder import Encoder
from diptych.embed.engine import KINDS, EncodedBatch, PixelEncoder, encode_source, image_function
from diptych.embed.executor import Executor, map_shards
from diptych.embed.shard_writer import ShardWriter
from diptych.embed.store import Store, StoreManifest, open_store, shard_name
from diptych.errors import ConfigError, DataError
from diptych.files import expanded, new_folder, writing
from diptych.progress import progress_bar
from diptych.records import Broken, Sample

ROWS_PER_SHARD = 65_536
_MOST_UNITS = 1_000_000  # six digits in a shard's name


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
    """Encode all images of a source into a store; run again, it goes on where it was stopped.

    Broken samples are left out, named in the log, and counted (`Store.num_broken`).

    Args:
        source: images, with captions and labels or without.
        encoder: gives the vectors. Its `image_fingerprint` is what tells a resumed run that it is the same one.
        folder: of the store; made if it is missing.
        kind: "embeddings" of unit norm, or "features" before the projection.
        batch_size: images per batch.
        rows_per_shard: samples per shard, a multiple of batch_size.
        num_workers: processes that decode, for each process that encodes; they change no number.
        num_processes: processes that encode, on the CPU, with one torch thread each.
        executor: maps a function over the units.
    Returns:
        The store, complete.
    Raises:
        ConfigError: the settings contradict each other, or the encoder gives no vectors of that kind.
        DataError: the folder holds vectors of something else, or cannot be written.
        InputError: a vector is not finite.
        WorkerError: a process was killed twice at the same unit.
    """
    _check(kind, batch_size, rows_per_shard, num_processes)
    folder = expanded(folder)
    units = _units(source, rows_per_shard)
    manifest = _manifest(source, encoder, kind, batch_size, rows_per_shard, len(units))
    store = _begun(folder, manifest)

    encode = _EncodeUnit(source, encoder, store, tuple(units), kind, batch_size, rows_per_shard, num_workers)
    counts: Iterator[int]
    if num_processes == 1 and executor is map_shards:  # here, so that progress is shown batch by batch
        pending = (unit for unit in range(len(units)) if not encode.is_finished(unit))
        counts = itertools.chain.from_iterable(map(encode.parts, pending))
    else:
        done = executor(encode, range(len(units)), is_finished=encode.is_finished, num_processes=num_processes)
        counts = (count for _, count in done)
    for _ in progress_bar(counts, f"{encoder.name} (images)", _num_left(source, store), lambda count: count):
        pass
    return open_store(folder)


@dataclasses.dataclass(frozen=True)
class _Span:
    """Shards of a source: from `first` up to `end`."""

    first: int
    end: int


@dataclasses.dataclass(frozen=True)
class _EncodeUnit:
    """Encodes one unit, from its first unfinished part on; what an executor hands to its processes."""

    source: Source
    encoder: Encoder
    store: Store
    units: tuple[_Span, ...]
    kind: str
    batch_size: int
    rows_per_shard: int
    num_workers: int

    def is_finished(self, unit: int) -> bool:
        """As the store was when the run began."""
        return self.store.num_parts(unit)[1]

    def __call__(self, unit: int) -> int:
        """Encode it; returns how many vectors came."""
        return sum(self.parts(unit))

    def parts(self, unit: int) -> Iterator[int]:
        """Encode it; yields how many vectors came, batch by batch."""
        folder, rows, (done, _) = self.store.folder, self.rows_per_shard, self.store.num_parts(unit)
        rest = _Unit(self.source, self.units[unit], done * rows)
        batches = encode_source(
            self.encoder, rest, self.batch_size, self.num_workers, self.kind, where=str(folder), strict=False
        )
        with writing(folder):
            yield from _write_parts(batches, folder, unit, done, rows, self.store.manifest.dim)


class _Unit(Source):
    """Some neighbouring shards of a source, without the first items, which are encoded already."""

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


class _Ahead:
    """Batches, the next one always at hand.

    Attributes:
        batch: the next one; None at the end. num_items: samples of the unit, known at the end.
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
    batches: Generator[EncodedBatch, None, tuple[int, int]], folder: Path, unit: int, done: int, rows: int, dim: int
) -> Iterator[int]:
    """Write a unit's batches as shards of `rows` samples each, from shard `done` on; yields how many vectors came."""
    stream = _Ahead(batches)
    for number in itertools.count():
        path = folder / shard_name(unit, done + number)
        with new_folder(path, stays=(path / "shard.json").exists) as unfinished, ShardWriter(unfinished, dim) as writer:
            while stream.batch is not None and stream.batch.places[0] // rows == number:
                writer.add(stream.batch)
                yield len(stream.batch.samples)
                stream.advance()
            is_last = stream.batch is None
            writer.finish(stream.num_items - number * rows if is_last else rows, is_last=is_last)
        if is_last:
            return


def _check(kind: str, batch_size: int, rows_per_shard: int, num_processes: int) -> None:
    if kind not in KINDS:
        raise ConfigError(f"there are {' and '.join(KINDS)} of images, no {kind!r}")
    if batch_size < 1 or rows_per_shard < 1 or rows_per_shard % batch_size:
        raise ConfigError(f"rows_per_shard ({rows_per_shard}) must be a multiple of batch_size ({batch_size})")
    if num_processes < 1:
        raise ConfigError(f"num_processes must be at least 1, not {num_processes}")
    if num_processes > 1 and torch.cuda.is_initialized():
        raise ConfigError("a GPU is used by one process; take num_processes=1, and num_workers for decoding")
    if distributed.world_size() > 1:
        raise ConfigError("embed_source does not run under torchrun; take num_processes")


def _units(source: Source, rows_per_shard: int) -> list[_Span]:
    """A shard each; where the source knows that its shards are small, as many as hold `rows_per_shard` samples."""
    count = len(source.shards)
    together = max(1, count * rows_per_shard // max(1, source.num_samples or count * rows_per_shard))
    together = max(together, -(-count // _MOST_UNITS))
    return [_Span(first, min(first + together, count)) for first in range(0, count, together)]


def _manifest(
    source: Source, encoder: Encoder, kind: str, batch_size: int, rows_per_shard: int, num_units: int
) -> StoreManifest:
    origin = encoder_manifest(encoder)
    data = hashlib.sha256(f"{source.fingerprint} {content_fingerprint(source)}".encode()).hexdigest()
    decides = [kind, origin["model_fingerprint"], origin["precision"], data, batch_size, rows_per_shard, num_units]
    fingerprint = hashlib.sha256(json.dumps(decides).encode()).hexdigest()
    dim = _vector_dim(encoder, kind)
    return StoreManifest(fingerprint=fingerprint, kind=kind, data=data, dim=dim, num_units=num_units, **origin)


def encoder_manifest(encoder: Encoder) -> dict[str, str]:
    """What a store's manifest says of an encoder: name, fingerprint, preprocessing, precision and backend."""
    known = about(encoder)
    return {
        "model": encoder.name,
        "model_fingerprint": known.image_fingerprint or "",
        "preprocessing": str(encoder.preprocessing) if isinstance(encoder, PixelEncoder) else "",
        "precision": known.precision or "",
        "backend": f"torch {torch.__version__}",
    }


def _vector_dim(encoder: Encoder, kind: str) -> int:
    """Numbers per vector, asked of a black image: an encoder that fails does so before the first shard."""
    function = image_function(encoder, kind)
    if isinstance(encoder, PixelEncoder):
        size = encoder.preprocessing.image_size
        return function(torch.zeros(1, 3, size, size, dtype=torch.uint8)).shape[1]
    return function([Image.new("RGB", (64, 64))]).shape[1]


def _begun(folder: Path, manifest: StoreManifest) -> Store:
    """The store as an earlier run left it, or a new one."""
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
        others = [name for name in ours if ours[name] != theirs[name] and name != "fingerprint"]
        raise DataError(
            f"{folder} holds vectors of something else: {', '.join(others) or 'batch_size or rows_per_shard'} differ; "
            "choose another folder"
        )
    if not manifest.model_fingerprint and store.shards:
        raise ConfigError(
            f"{manifest.model} has no image_fingerprint, so nothing tells whether {folder} holds its vectors; "
            "choose a new folder, or define image_fingerprint"
        )
    return store


def _num_left(source: Source, store: Store) -> int | None:
    """Samples that are not encoded yet, where that is known."""
    num_samples = source.num_samples
    return None if num_samples is None else max(0, num_samples - sum(shard.num_items for shard in store.shards))
