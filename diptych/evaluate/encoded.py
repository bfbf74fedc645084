"""A set's images as vectors, computed once for all tasks and kept on disk.

    CACHE/pictures/<fingerprint>/        a store of one shard (embed/store.py)

The store appears whole or not at all: what a killed process left of one is deleted when the next set is encoded. Its
name is a fingerprint of all that the vectors depend on, so another model, preprocessing or set never finds them. A
store that an earlier version wrote is encoded again, with a notice.
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
from diptych.embed.embed_source import encoder_manifest
from diptych.embed.encoder import Encoder
from diptych.embed.engine import KINDS, EncodedBatch
from diptych.embed.shard_writer import ShardWriter, finite_vectors
from diptych.embed.store import StoreManifest, open_store, shard_name
from diptych.errors import ConfigError, DataError
from diptych.evalsets.benchmark import Benchmark
from diptych.evaluate.encoding import encode_benchmark
from diptych.files import check_digest, new_digest, new_file, new_folder, read_or_none, remove, remove_unfinished
from diptych.progress import progress_bar

FORMAT = 2

_PICTURES_PER_BATCH = 256
_ROWS_PER_BLOCK = 65_536
_NOTHING: Mapping[str, Any] = {}  # one for all: millions of empty ones would fill the memory


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The images of one split, in its order, without the broken ones.

    Attributes:
        keys: N sample keys.
        labels: int64 (N,); NO_LABEL in sets without classes.
        vectors: float32 (N, D): embeddings of unit norm, or features before the projection; mapped from disk if kept.
        texts: of each sample, its captions.
        metadata: of each sample, what its reader knows beside.
        num_broken: samples that were left out.
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
    """Encode a split, or read what an earlier run kept.

    Where vectors are kept and the encoder can project features (`project_features`), one pass over the images serves
    both kinds. Vectors are cached only for encoders that state an
    `image_fingerprint`; without it a stale cache could not be detected.

    Args:
        encoder: the model.
        benchmark: the split.
        kind: "embeddings" (N, E) of unit norm, or "features" (N, W) before the projection.
        cache: folder of kept vectors; None keeps nothing, and all vectors are held in memory.
        num_workers: processes that decode images; it changes no number.
    Raises:
        ConfigError: there is no such kind, or the encoder gives none.
        DataError: the set is empty or too broken, or the disk is full.
        InputError: a vector is not finite.
    """
    if kind not in KINDS:
        raise ConfigError(f"there are {' and '.join(KINDS)} of pictures, no {kind!r}")
    known = about(encoder)
    mark = known.image_fingerprint
    kept = cache is not None and bool(mark)
    projects = kept and known.projects_features
    computed = "features" if projects else kind
    fingerprint = _fingerprint(mark or encoder.name, computed, benchmark)
    folder = Path(cache) / "pictures" / fingerprint[:32] if cache is not None and kept else None
    encoded = None if folder is None else _read(folder, fingerprint)
    if encoded is None:
        encoded = _encode(encoder, benchmark, computed, folder, fingerprint, num_workers)
    if kind == computed or folder is None:
        return encoded
    mark_of_kind = _fingerprint(mark, kind, benchmark)
    vectors = _projected(encoder, encoded.vectors, folder / f"{mark_of_kind[:16]}.f32")
    return dataclasses.replace(encoded, vectors=vectors, fingerprint=mark_of_kind)


def _projected(encoder: Any, features: np.ndarray, path: Path) -> np.ndarray:
    """Embeddings of kept features, beside them on disk, made block by block."""
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


def _fingerprint(mark: Any, kind: str, benchmark: Benchmark) -> str:
    # The set's name and its files' content: tar pads, so that shards of other images or labels may be equal in size.
    data = [benchmark.name, benchmark.split, len(benchmark.class_names), benchmark.source.fingerprint]
    content = [FORMAT, kind, mark, *data, files_state(benchmark.source)]
    return hashlib.sha256(json.dumps(content).encode("utf-8", "surrogatepass")).hexdigest()


def _encode(
    encoder: Encoder, benchmark: Benchmark, kind: str, folder: Path | None, fingerprint: str, num_workers: int
) -> Encoded:
    """Encode into memory, or through a store in `folder`."""
    batches = _Counted(encode_benchmark(encoder, benchmark, _PICTURES_PER_BATCH, num_workers, kind))
    expected = (benchmark.card.splits.get(benchmark.split) if benchmark.card else None) or None
    where = f"{benchmark.name}/{benchmark.split}"
    shown = progress_bar(batches, f"{where} (pictures)", expected, lambda batch: len(batch.samples))
    if folder is None:
        return _in_memory(list(shown), batches, fingerprint)
    try:
        # A sound folder of another process stays.
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
        raise DataError(f"the vectors just written to {folder} cannot be read back; is the disk sound?")
    return encoded


class _Counted:
    """Batches, and how many samples were broken, known at their end."""

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
    first = next(batches)  # a set without a usable sample is an error
    dim = first.vectors.shape[1]
    folder.mkdir()
    with ShardWriter(folder, dim) as writer:
        for batch in itertools.chain([first], batches):
            writer.add(batch)
        writer.finish(writer.num_rows + counted.num_broken, is_last=True)
    return dim


def _read(folder: Path, fingerprint: str) -> Encoded | None:
    """What an earlier run kept; None where it is not there, or, with a notice, where it is broken."""
    return read_or_none(folder, lambda kept: _read_whole(kept, fingerprint), "the folder of kept vectors")


def _read_whole(folder: Path, fingerprint: str) -> Encoded:
    if (folder / "vectors.f32").exists():
        raise DataError("it was written by an earlier version of Diptych")
    store = open_store(folder)
    if store.manifest.fingerprint != fingerprint:
        raise DataError("it belongs to something else")
    if len(store.shards) != 1 or not len(store):
        raise DataError(f"it holds {len(store.shards)} shards of {len(store)} vectors")
    store.check()  # a parser sees nothing but what was written: damaged Parquet can ask for gigabytes
    [shard] = store.shards
    samples = shard.samples()
    texts: Sequence[Sequence[str]] = [()] * len(store) if samples is None else samples.column("texts").to_pylist()
    metadata = [""] * len(store) if samples is None else samples.column("metadata").to_pylist()
    return Encoded(
        tuple(shard.keys),
        np.array(shard.labels),
        shard.vectors,
        tuple(map(tuple, texts)),
        tuple(json.loads(known) if known else _NOTHING for known in metadata),
        store.num_broken,
        fingerprint,
    )
