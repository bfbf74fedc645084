"""Encode a set's images once for all tasks, and cache the vectors on disk.

    CACHE/pictures/<fingerprint>/        a store of one shard (embed/store.py)

A store is written completely or not at all. Leftovers of a killed process are deleted when the next set is encoded.
The folder name is a fingerprint of everything that the vectors depend on, so another model, preprocessing or set gets
another store. If an earlier version of Diptych wrote the store, the set is encoded again, with a notice.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych.data.content import files_state
from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.embed.engine import KINDS, EncodedBatch
from diptych.embed.shard_writer import ShardWriter, finite_vectors
from diptych.embed.store import StoreManifest, open_store, shard_name
from diptych.embed.store_origin import encoder_manifest
from diptych.errors import ConfigError, DataError
from diptych.evalsets.benchmark import Benchmark
from diptych.evaluate.encode_benchmark import encode_benchmark
from diptych.files import check_digest, new_digest, new_file, new_folder, read_or_none, remove, remove_unfinished
from diptych.progress import progress_bar

FORMAT = 2

_PICTURES_PER_BATCH = 256
_ROWS_PER_BLOCK = 65_536
_NOTHING: Mapping[str, Any] = {}  # shared: millions of empty dicts would fill the memory


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The images of one split, in its order, without the broken ones.

    Attributes:
        keys: N sample keys.
        labels: int64 (N,); NO_LABEL in sets without classes.
        vectors: float32 (N, D): embeddings of unit norm, or features before the projection; memory-mapped if cached.
        texts: the captions of each sample.
        metadata: further facts about each sample, from its reader.
        num_broken: number of broken samples, which are left out.
        fingerprint: changes with the model's weights, its preprocessing, the data, and the kind of vector.
    """

    keys: tuple[str, ...]
    labels: np.ndarray
    vectors: np.ndarray
    texts: tuple[tuple[str, ...], ...]
    metadata: tuple[Mapping[str, Any], ...]
    num_broken: int
    fingerprint: str


def encode_set(
    encoder: Encoder, benchmark: Benchmark, kind: str = "embeddings", *, cache: Path | None = None, num_workers: int = 0
) -> Encoded:
    """Encode a split, or read its vectors from the cache.

    If vectors are cached and the encoder can project features (`project_features`), one pass over the images serves
    both kinds. Vectors are cached only for encoders that state an `image_fingerprint`; without it a stale cache could
    not be detected.

    Args:
        encoder: the model.
        benchmark: the split.
        kind: "embeddings" (N, E) of unit norm, or "features" (N, W) before the projection.
        cache: folder of cached vectors; None caches nothing and holds all vectors in memory.
        num_workers: processes that decode images; the numbers do not depend on it.
    Raises:
        ConfigError: the kind does not exist, or the encoder cannot compute it.
        DataError: the set is empty or too broken, or the disk is full.
        InputError: a vector is not finite.
    """
    if kind not in KINDS:
        raise ConfigError(f"images have {' and '.join(KINDS)}, no {kind!r}")
    facts = about(encoder)
    model_fingerprint = facts.image_fingerprint
    is_cached = cache is not None and bool(model_fingerprint)
    projects = is_cached and facts.projects_features
    computed = "features" if projects else kind
    fingerprint = _fingerprint(model_fingerprint or encoder.name, computed, benchmark)
    folder = Path(cache) / "pictures" / fingerprint[:32] if cache is not None and is_cached else None
    encoded = None if folder is None else _read(folder, fingerprint)
    if encoded is None:
        encoded = _encode(encoder, benchmark, computed, folder, fingerprint, num_workers)
    if kind == computed or folder is None:
        return encoded
    fingerprint_of_kind = _fingerprint(model_fingerprint, kind, benchmark)
    vectors = _projected(encoder, encoded.vectors, folder / f"{fingerprint_of_kind[:16]}.f32")
    return dataclasses.replace(encoded, vectors=vectors, fingerprint=fingerprint_of_kind)


def _projected(encoder: Any, features: np.ndarray, path: Path) -> np.ndarray:
    """Embeddings of cached features, computed block by block and cached in the same folder."""
    dim = encoder.project_features(torch.from_numpy(np.array(features[:1]))).shape[1]
    size = 4 * len(features) * dim
    if read_or_none(path, lambda kept: check_digest(kept, size), "the kept vectors") is None:
        digest = new_digest()
        try:
            remove_unfinished(path.parent)
            with new_file(path) as unfinished, unfinished.open("wb") as file:
                for start in range(0, len(features), _ROWS_PER_BLOCK):
                    block = torch.from_numpy(np.array(features[start : start + _ROWS_PER_BLOCK]))
                    content = encoder.project_features(block).numpy().tobytes()
                    digest.update(content)
                    file.write(content)
                file.write(digest.digest())
                remove(path)
        except OSError as error:
            raise DataError(f"cannot keep vectors in {path.parent}: {error.strerror}; free some space") from error
    return np.memmap(path, np.float32, "r", shape=(len(features), dim))


def _fingerprint(model: Any, kind: str, benchmark: Benchmark) -> str:
    # The content of the files counts, too: tar pads, so shards with other images or labels may have the same size.
    data = [benchmark.name, benchmark.split, len(benchmark.class_names), benchmark.source.fingerprint]
    content = [FORMAT, kind, model, *data, files_state(benchmark.source)]
    return hashlib.sha256(json.dumps(content).encode("utf-8", "surrogatepass")).hexdigest()


def _encode(
    encoder: Encoder, benchmark: Benchmark, kind: str, folder: Path | None, fingerprint: str, num_workers: int
) -> Encoded:
    """Encode into memory, or into a store in `folder`."""
    batches = _Counted(encode_benchmark(encoder, benchmark, _PICTURES_PER_BATCH, num_workers, kind))
    expected = (benchmark.card.splits.get(benchmark.split) if benchmark.card else None) or None
    where = f"{benchmark.name}/{benchmark.split}"
    shown = progress_bar(batches, f"{where} (pictures)", expected, lambda batch: len(batch.samples))
    if folder is None:
        return _in_memory(list(shown), batches, fingerprint)
    try:
        # A complete folder that another process wrote meanwhile is kept.
        with new_folder(folder, stays=lambda: _read(folder, fingerprint) is not None) as unfinished:
            dim = _write_shard(shown, batches, unfinished / shard_name(0, 0))
            origin, data = encoder_manifest(encoder), benchmark.source.fingerprint
            StoreManifest(fingerprint=fingerprint, kind=kind, data=data, dim=dim, num_units=1, **origin).write(
                unfinished
            )
    except OSError as error:
        raise DataError(
            f"cannot keep vectors in {folder}: {error.strerror or error}; free some space, or choose another cache"
        ) from error
    encoded = _read(folder, fingerprint)
    if encoded is None:
        raise DataError(f"the vectors just written to {folder} cannot be read back; check the disk")
    return encoded


class _Counted:
    """An iterable of batches; `num_broken` is known after the last batch."""

    def __init__(self, batches: Any) -> None:
        self._batches, self.num_broken = batches, 0

    def __iter__(self) -> Iterator[EncodedBatch]:
        self.num_broken = yield from self._batches


def _in_memory(batches: Sequence[EncodedBatch], counted: _Counted, fingerprint: str) -> Encoded:
    samples = [sample for batch in batches for sample in batch.samples]
    return Encoded(
        tuple(sample.key for sample in samples),
        np.concatenate([batch.labels for batch in batches]),
        np.concatenate([finite_vectors(batch) for batch in batches]),
        tuple(sample.texts for sample in samples),
        tuple(sample.metadata or _NOTHING for sample in samples),
        counted.num_broken,
        fingerprint,
    )


def _write_shard(batches: Iterator[EncodedBatch], counted: _Counted, folder: Path) -> int:
    """Write all batches as one shard; returns the width of their vectors."""
    first = next(batches)  # raises DataError if no sample is usable
    dim = first.vectors.shape[1]
    folder.mkdir()
    with ShardWriter(folder, dim) as writer:
        for batch in itertools.chain([first], batches):
            writer.add(batch)
        writer.finish(writer.num_rows + counted.num_broken, is_last=True)
    return dim


def _read(folder: Path, fingerprint: str) -> Encoded | None:
    """The cached vectors; None if they are missing or, with a notice, broken."""
    return read_or_none(folder, lambda kept: _read_whole(kept, fingerprint), "the folder of kept vectors")


def _read_whole(folder: Path, fingerprint: str) -> Encoded:
    if (folder / "vectors.f32").exists():
        raise DataError("it was written by an earlier version of Diptych")
    store = open_store(folder)
    if store.manifest.fingerprint != fingerprint:
        raise DataError("it belongs to something else")
    if len(store.shards) != 1 or not len(store):
        raise DataError(f"it holds {len(store.shards)} shards of {len(store)} vectors")
    store.check()  # check digests before parsing: damaged Parquet can ask for gigabytes
    [shard] = store.shards
    samples = shard.samples()
    texts: Sequence[Sequence[str]] = [()] * len(store) if samples is None else samples.column("texts").to_pylist()
    metadata = [""] * len(store) if samples is None else samples.column("metadata").to_pylist()
    return Encoded(
        tuple(shard.keys),
        np.array(shard.labels),
        shard.vectors,
        tuple(map(tuple, texts)),
        tuple(json.loads(text) if text else _NOTHING for text in metadata),
        store.num_broken,
        fingerprint,
    )
