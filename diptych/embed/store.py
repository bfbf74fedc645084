"""A store of embeddings: shards of vectors with keys and labels, mapped from disk, and a manifest of their origin.

    STORE/manifest.json                          model, preprocessing, precision, data, dim: see StoreManifest
    STORE/000000-000000/shard.json               rows, the first broken samples, and the digests of the files beside it
                        vectors.npy              float32 (n, D)
                        labels.npy               int64 (n,), NO_LABEL if missing
                        key_bytes.npy            uint8: all keys in UTF-8, concatenated
                        key_offsets.npy          int64 (n + 1,): key i is key_bytes[offsets[i]:offsets[i + 1]]
                        samples.parquet          captions and metadata; missing if no sample has any
                        broken.jsonl             key and reason of every broken sample; missing if none is broken

A shard is written atomically and never changes. Nothing is unpickled, and no header of a mapped file is parsed.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from diptych.data.parquet_process import read_table
from diptych.embed.npy_column import column_digest, map_column
from diptych.errors import ConfigError, DataError
from diptych.files import expanded, new_file
from diptych.records import Embeddings

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT, BROKEN_FILE = 1, "broken.jsonl"
_LARGEST_MANIFEST, _KEYS_AT_A_TIME = 1 << 20, 65_536
_SHARD_NAME = re.compile(r"(\d{6})-(\d{6})")
_COLUMNS = ("vectors", "labels", "key_bytes", "key_offsets")
_OTHER_FILES = {"samples": "samples.parquet", "broken": BROKEN_FILE}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreManifest:
    """The origin of a store's vectors.

    Attributes:
        fingerprint: changes with everything that the vectors depend on; a resumed run must have the same one.
        model: name of the encoder. model_fingerprint: "" if the encoder has none.
        kind: "embeddings" of unit norm, or "features" before the projection.
        preprocessing, precision, backend: how the vectors were computed; "" if unknown.
        data: fingerprint of the source.
        dim: numbers per vector.
        num_units: number of independently encoded parts of the source; 0 for a store that only grows.
        dtype: type of the vectors.
        added_by: other back ends that added vectors after a comparison, in words, by the fingerprint of their run.
    """

    fingerprint: str
    model: str
    model_fingerprint: str = ""
    kind: str = "embeddings"
    preprocessing: str = ""
    precision: str = ""
    backend: str = ""
    data: str = ""
    dim: int
    num_units: int = 0
    dtype: str = "float32"
    added_by: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write the manifest into the store's folder.

        Raises:
            OSError: the file cannot be written.
        """
        with new_file(folder / "manifest.json") as unfinished:
            write_json(unfinished, dataclasses.asdict(self))


@dataclasses.dataclass(frozen=True)
class Shard:
    """A finished shard; its files are mapped on access.

    Attributes:
        folder: folder of the shard. unit, part: position of the shard in the store.
        num_rows: number of vectors. num_items: samples of the source in this shard, including broken ones.
        is_last: whether this is the last shard of its unit.
        dim: numbers per vector.
        num_key_bytes: total length of the keys.
        digests: digests of the files, by column.
    """

    folder: Path
    unit: int
    part: int
    num_rows: int
    num_items: int
    is_last: bool
    dim: int
    num_key_bytes: int
    digests: Mapping[str, str]

    @property
    def vectors(self) -> np.ndarray:
        """float32 (n, D)."""
        return map_column(self.folder / "vectors.npy", np.float32, (self.num_rows, self.dim))

    @property
    def labels(self) -> np.ndarray:
        """int64 (n,)."""
        return map_column(self.folder / "labels.npy", np.int64, (self.num_rows,))

    @property
    def keys(self) -> "ShardKeys":
        """n keys, each decoded on access."""
        offsets = map_column(self.folder / "key_offsets.npy", np.int64, (self.num_rows + 1,))
        return ShardKeys(
            self.folder, map_column(self.folder / "key_bytes.npy", np.uint8, (self.num_key_bytes,)), offsets
        )

    def samples(self) -> "pa.Table | None":
        """Columns texts (list of strings) and metadata (JSON or "") of n rows; None if no sample has any.

        Raises:
            DataError: the file is broken.
        """
        if "samples" not in self.digests:
            return None
        table = read_table(self.folder / "samples.parquet")
        if len(table) != self.num_rows:
            raise DataError(f"{self.folder}: samples.parquet has {len(table)} rows, not {self.num_rows}")
        return table

    def check(self) -> None:
        """Read all files and compare them with their digests.

        Raises:
            DataError: a file was changed, truncated, or is missing.
        """
        _ = self.vectors, self.labels, self.keys  # checks sizes and headers
        for column in _COLUMNS:
            if column_digest(self.folder / f"{column}.npy") != self.digests[column]:
                raise DataError(f"{self.folder / column}.npy was changed since it was written")
        for name, file in _OTHER_FILES.items():
            if name in self.digests and file_digest(self.folder / file) != self.digests[name]:
                raise DataError(f"{self.folder}/{file} was changed since it was written")


@dataclasses.dataclass(frozen=True, eq=False)
class ShardKeys(Sequence[str]):
    """Keys of one shard, decoded on access; a damaged key raises DataError."""

    folder: Path
    content: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _KEYS_AT_A_TIME):
            offsets = self.offsets[start : start + _KEYS_AT_A_TIME + 1].tolist()
            content = self.content[offsets[0] : offsets[-1]].tobytes()
            if offsets != sorted(offsets) or len(content) != offsets[-1] - offsets[0]:
                raise DataError(f"{self.folder}: its keys are damaged; delete this folder and encode it again")
            for begin, end in itertools.pairwise(offset - offsets[0] for offset in offsets):
                yield content[begin:end].decode("utf-8", "surrogatepass")

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...

    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        place = range(len(self))[row]
        begin, end = int(self.offsets[place]), int(self.offsets[place + 1])
        try:
            if not 0 <= begin <= end <= len(self.content):
                raise ValueError("its bytes lie outside the file")
            return self.content[begin:end].tobytes().decode("utf-8", "surrogatepass")
        except ValueError as error:
            raise DataError(
                f"{self.folder}: key {place} is damaged ({error}); delete this folder and encode it again"
            ) from error


class Store:
    """The finished shards of a folder; rows are numbered across all shards. Made by `open_store`.

    Attributes:
        folder: folder of the store. manifest: origin of the vectors. shards: in order.
        starts: int64 (S + 1,): shard s has rows starts[s] to starts[s + 1] (exclusive).
    """

    def __init__(self, folder: Path, manifest: StoreManifest, shards: Sequence[Shard]) -> None:
        self.folder, self.manifest, self.shards = folder, manifest, tuple(shards)
        self.starts = np.cumsum([0, *(shard.num_rows for shard in shards)], dtype=np.int64)

    def __repr__(self) -> str:
        """Size and origin, without vectors."""
        about = self.manifest
        return f"Store({str(self.folder)!r}, {len(self):,} {about.kind} ({about.dim}-d) of {about.model!r})"

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def num_broken(self) -> int:
        """Samples of the source without a vector."""
        return sum(shard.num_items - shard.num_rows for shard in self.shards)

    @functools.cached_property
    def is_complete(self) -> bool:
        """Whether all units of the source are completely encoded."""
        return all(self.num_parts(unit)[1] for unit in range(self.manifest.num_units))

    def num_parts(self, unit: int) -> tuple[int, bool]:
        """The number of finished consecutive parts of a unit, and whether the unit is complete."""
        parts = {shard.part: shard.is_last for shard in self._by_unit.get(unit, ())}
        count = 0
        while count in parts:
            count += 1
            if parts[count - 1]:
                return count, True
        return count, False

    @functools.cached_property
    def _by_unit(self) -> dict[int, list[Shard]]:
        shards: dict[int, list[Shard]] = {}
        for shard in self.shards:
            shards.setdefault(shard.unit, []).append(shard)
        return shards

    def vector_shards(self) -> Iterator[np.ndarray]:
        """float32 (n, D) of each shard, mapped."""
        return (shard.vectors for shard in self.shards)

    def embeddings(self) -> Iterator[Embeddings]:
        """Each shard as an Embeddings record.

        Raises:
            ConfigError: the store holds features, which do not have unit norm.
        """
        if self.manifest.kind not in ("embeddings", "text embeddings"):
            raise ConfigError(f"{self.folder} holds {self.manifest.kind}, not embeddings of unit norm")
        about = dataclasses.asdict(self.manifest)
        return (Embeddings(shard.vectors, shard.keys, about) for shard in self.shards)

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """float32 (n, D): the vectors of the given rows, int64 (n,), in that order.

        Raises:
            IndexError: a row does not exist.
        """
        vectors = np.empty((len(rows), self.manifest.dim), np.float32)
        for shard, places, shard_rows in self._by_shard(rows):
            vectors[places] = shard.vectors[shard_rows]
        return vectors

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """int64 (n,): the labels of the given rows, in that order."""
        labels = np.empty(len(rows), np.int64)
        for shard, places, shard_rows in self._by_shard(rows):
            labels[places] = shard.labels[shard_rows]
        return labels

    def keys(self, rows: np.ndarray) -> list[str]:
        """The keys of the given rows, in that order."""
        keys = [""] * len(rows)
        for shard, places, shard_rows in self._by_shard(rows):
            shard_keys = shard.keys
            for place, row in zip(places.tolist(), shard_rows.tolist(), strict=True):
                keys[place] = shard_keys[row]
        return keys

    def check(self) -> None:
        """Read every file and compare it with its digest.

        Raises:
            DataError: a file was changed; the message names it.
        """
        for shard in self.shards:
            shard.check()

    def _by_shard(self, rows: np.ndarray) -> Iterator[tuple[Shard, np.ndarray, np.ndarray]]:
        """Group rows by shard: the shard, positions in `rows`, and row numbers within the shard."""
        rows = np.asarray(rows, np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"rows lie in [0, {len(self)}); got {rows.min()} to {rows.max()}")
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(owner).tolist():
            places = np.flatnonzero(owner == number)
            yield self.shards[number], places, rows[places] - self.starts[number]


def open_store(folder: str | Path) -> Store:
    """Open a store; unfinished shards are ignored.

    Raises:
        DataError: there is no store, or a manifest is damaged.
    """
    folder = expanded(folder)
    content = read_json(folder / "manifest.json", "no store of embeddings is there")
    manifest = StoreManifest(**_typed(StoreManifest, content, folder / "manifest.json"))
    if manifest.dtype != "float32" or manifest.dim < 1 or manifest.num_units < 0:
        raise DataError(f"{folder}/manifest.json is damaged: it states {manifest.dtype}, {manifest.dim} numbers")
    names = sorted(match[0] for path in folder.iterdir() if (match := _SHARD_NAME.fullmatch(path.name)))
    return Store(folder, manifest, [_read_shard(folder / name, manifest.dim) for name in names])


def shard_name(unit: int, part: int) -> str:
    """The folder name of a shard. The names sort in the order of the source's samples."""
    return f"{unit:06d}-{part:06d}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _read_shard(folder: Path, dim: int) -> Shard:
    path = folder / "shard.json"
    content = _typed(Shard, read_json(path, "the shard is damaged"), path, skip=("folder", "unit", "part"))
    unit, part = map(int, folder.name.split("-"))
    shard = Shard(folder, unit, part, **content)
    sizes = shard.num_rows, shard.num_items - shard.num_rows, shard.num_key_bytes
    if min(sizes) < 0 or shard.dim != dim:
        raise DataError(f"{path} is damaged: it states {shard.num_rows} rows of {shard.dim} numbers; delete {folder}")
    if not set(_COLUMNS) <= shard.digests.keys() or not all(
        isinstance(digest, str) for digest in shard.digests.values()
    ):
        raise DataError(f"{path} is damaged: digests are missing; delete {folder} and encode it again")
    return shard


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write the manifest of a store or a shard, with the format number and a digest of the content.

    Raises:
        OSError: the disk is full.
    """
    content = {"format": FORMAT, **content}
    path.write_text(json.dumps({**content, "digest": _digest(content)}, indent=1) + "\n", encoding="utf-8")


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_json(path: Path, absent: str, repair: str = "encode it again") -> dict[str, Any]:
    """Content of a file that `write_json` wrote, without format and digest.

    Args:
        absent: what is wrong if there is no such file. repair: what to do once a damaged folder is deleted.
    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        if path.stat().st_size > _LARGEST_MANIFEST:
            raise ValueError("it is too large")
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError(f"it holds {type(content).__name__}, not an object")
        if content.get("format") != FORMAT:
            raise ValueError(f"its format is {content.get('format')!r:.20}, not {FORMAT}: another version wrote it")
        if content.pop("digest", None) != _digest(content):
            raise ValueError("it was changed since it was written")
    except OSError as error:
        raise DataError(f"{absent}: cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}; delete {path.parent} and {repair}") from error
    return content


def _typed(kind: type, content: dict[str, Any], path: Path, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a dataclass, checked for presence and type; fields in `skip` and unknown keys are left out."""
    types = {"str": str, "int": int, "bool": bool, "Mapping[str, str]": dict}
    values = {}
    for field in dataclasses.fields(kind):
        if field.name in skip or (field.name == "added_by" and field.name not in content):  # of an earlier version
            continue
        value, type_name = content.get(field.name), str(getattr(field.type, "__name__", field.type))
        if type(value) is not types.get(type_name, dict):
            raise DataError(
                f"{path} is damaged: {field.name} is {value!r:.60}; delete {path.parent} and encode it again"
            )
        values[field.name] = value
    return values
