"""A set's pictures as vectors, computed once for all tasks and kept on disk.

    CACHE/pictures/<fingerprint>/ vectors.f32  rows.parquet  manifest.json

The folder appears whole or not at all: what a killed process left of one is deleted when the next set is encoded. Its
name is a fingerprint of all that the vectors depend on, so another model, preprocessing or set never finds them.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from diptych.data.content import files_state
from diptych.data.parquet_process import read_table
from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.embed.engine import KINDS, EncodedBatch
from diptych.errors import ConfigError, DataError, InputError
from diptych.evalsets.benchmark import Benchmark
from diptych.evaluate.encoding import encode_benchmark
from diptych.files import check_digest, new_digest, new_file, new_folder, read_or_none, remove, remove_unfinished
from diptych.progress import progress_bar

FORMAT = 2

_PICTURES_PER_BATCH = 256
_ROWS_PER_BLOCK = 65_536
_LARGEST_MANIFEST = 1 << 20
_NOTHING: Mapping[str, Any] = {}  # one for all: millions of empty ones would fill the memory


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The pictures of one split, in its order, without the broken ones.

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

    Where vectors are kept and the encoder can project features (`project_features`), one pass over the pictures serves
    both kinds. Vectors are cached only for encoders that state an
    `image_fingerprint`; without it a stale cache could not be detected.

    Args:
        encoder: the model.
        benchmark: the split.
        kind: "embeddings" (N, E) of unit norm, or "features" (N, W) before the projection.
        cache: folder of kept vectors; None keeps nothing, and all vectors are held in memory.
        num_workers: processes that decode pictures; it changes no number.
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
    # The set's name and its files' content: tar pads, so that shards of other pictures or labels may be equal in size.
    data = [benchmark.name, benchmark.split, len(benchmark.class_names), benchmark.source.fingerprint]
    content = [FORMAT, kind, mark, *data, files_state(benchmark.source)]
    return hashlib.sha256(json.dumps(content).encode("utf-8", "surrogatepass")).hexdigest()


def _encode(
    encoder: Encoder, benchmark: Benchmark, kind: str, folder: Path | None, fingerprint: str, num_workers: int
) -> Encoded:
    """Encode into memory, or through a file into `folder`."""
    batches = _Counted(encode_benchmark(encoder, benchmark, _PICTURES_PER_BATCH, num_workers, kind))
    expected = (benchmark.card.splits.get(benchmark.split) if benchmark.card else None) or None
    where = f"{benchmark.name}/{benchmark.split}"
    shown = progress_bar(batches, f"{where} (pictures)", expected, lambda batch: len(batch.samples))
    if folder is None:
        rows = _Rows()
        vectors = [rows.add(batch) for batch in shown]
        return rows.encoded(np.concatenate(vectors), batches.num_broken, fingerprint)
    rows, digest = _Rows(), new_digest()
    try:
        # A sound folder of another process stays.
        with new_folder(folder, stays=lambda: _read(folder, fingerprint) is not None) as unfinished:
            with (unfinished / "vectors.f32").open("wb") as file:
                for batch in shown:
                    content = rows.add(batch).tobytes()
                    digest.update(content)
                    file.write(content)
                file.write(digest.digest())
            rows.write(unfinished, batches.num_broken, fingerprint)
            del rows  # they are read back
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


class _Rows:
    """What is known about the samples so far, without their vectors."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.labels: list[np.ndarray] = []
        self.texts: list[tuple[str, ...]] = []
        self.metadata: list[Mapping[str, Any]] = []
        self.dim = 0

    def add(self, batch: EncodedBatch) -> np.ndarray:
        """Note a batch; returns its vectors, float32 (N, D)."""
        vectors = batch.vectors.float().cpu().numpy()
        if broken := np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
            raise InputError(
                f"the vectors of {len(broken)} of {len(vectors)} pictures, first {batch.keys[broken[0]]!r}, are NaN or "
                "infinite: are the weights sound?"
            )
        self.keys += batch.keys
        self.labels.append(batch.labels)
        self.texts += (sample.texts for sample in batch.samples)
        self.metadata += (sample.metadata or _NOTHING for sample in batch.samples)
        self.dim = vectors.shape[1]
        return np.ascontiguousarray(vectors)

    def encoded(self, vectors: np.ndarray, num_broken: int, fingerprint: str) -> Encoded:
        labels = np.concatenate(self.labels).astype(np.int64)
        return Encoded(
            tuple(self.keys), labels, vectors, tuple(self.texts), tuple(self.metadata), num_broken, fingerprint
        )

    def write(self, folder: Path, num_broken: int, fingerprint: str) -> None:
        beside = [json.dumps(one, default=_plain) if one else "" for one in self.metadata]
        columns = {
            "key": pa.array(self.keys, pa.string()),
            "label": pa.array(np.concatenate(self.labels).astype(np.int64)),
            "texts": pa.array([list(texts) for texts in self.texts], pa.list_(pa.string())),
            "metadata": pa.array(beside, pa.string()),
        }
        with (folder / "rows.parquet").open("wb") as file:  # PyArrow opens no path that is not UTF-8
            pq.write_table(pa.table(columns), file)
        manifest = {
            "fingerprint": fingerprint,
            "shape": [len(self.keys), self.dim],
            "num_broken": num_broken,
            "rows": _file_digest(folder / "rows.parquet"),
        }
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _plain(value: Any) -> Any:
    """Metadata as JSON: arrays and numbers of numpy become lists and numbers."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(folder: Path, fingerprint: str) -> Encoded | None:
    """What an earlier run kept; None where it is not there, or, with a notice, where it is broken."""
    return read_or_none(folder, lambda kept: _read_whole(kept, fingerprint), "the folder of kept vectors")


def _read_whole(folder: Path, fingerprint: str) -> Encoded:
    if (folder / "manifest.json").stat().st_size > _LARGEST_MANIFEST:
        raise ValueError("its manifest is too large")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if manifest["fingerprint"] != fingerprint:
        raise ValueError("it belongs to something else")
    num_rows, dim = manifest["shape"]
    if not all(type(number) is int and number > 0 for number in (num_rows, dim)):
        raise ValueError(f"its shape is {manifest['shape']!r:.60}")
    check_digest(folder / "vectors.f32", 4 * num_rows * dim)
    # A parser sees nothing but what was written: a few damaged bytes of Parquet can ask for gigabytes.
    if manifest["rows"] != _file_digest(folder / "rows.parquet"):
        raise ValueError("rows.parquet was changed since it was written")
    rows = read_table(folder / "rows.parquet")
    if len(rows) != num_rows:
        raise ValueError("its files differ in length")
    return Encoded(
        tuple(rows.column("key").to_pylist()),
        rows.column("label").to_numpy(),
        np.memmap(folder / "vectors.f32", np.float32, "r", shape=(num_rows, dim)),
        tuple(map(tuple, rows.column("texts").to_pylist())),
        tuple(json.loads(one) if one else _NOTHING for one in rows.column("metadata").to_pylist()),
        int(manifest["num_broken"]),
        fingerprint,
    )
