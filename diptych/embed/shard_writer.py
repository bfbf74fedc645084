"""Write one shard of a store batch by batch, in bounded memory."""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diptych.embed.engine import EncodedBatch
from diptych.embed.npy_column import ColumnWriter
from diptych.embed.store import BROKEN_FILE, Shard, file_digest, write_json
from diptych.errors import InputError
from diptych.records import Sample

NAMED_PER_SHARD = 20
"""Broken samples that a shard's manifest names; its broken.jsonl names all."""
_LONGEST_KEY = 300
_ROWS_PER_GROUP = 65_536
_SCHEMA = pa.schema([("texts", pa.list_(pa.string())), ("metadata", pa.string())])


class ShardWriter:
    """Writes the files of a shard into a folder, which the caller renames at the end.

    Use it as a context manager: `add` batches, then `finish`.

    Args:
        folder: an existing, empty folder.
        dim: numbers per vector.
    Raises (all methods):
        OSError: the disk is full.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self._folder, self._dim, self._num_key_bytes = folder, dim, 0
        self._columns = {
            "vectors": ColumnWriter(folder / "vectors.npy", np.float32, dim),
            "labels": ColumnWriter(folder / "labels.npy", np.int64),
            "key_bytes": ColumnWriter(folder / "key_bytes.npy", np.uint8),
            "key_offsets": ColumnWriter(folder / "key_offsets.npy", np.int64),
        }
        self._columns["key_offsets"].append(np.zeros(1, np.int64))
        self._samples = _SamplesWriter(folder / "samples.parquet")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for column in self._columns.values():
            column.close()
        self._samples.close()

    def add(self, batch: EncodedBatch) -> None:
        """Append the samples of a batch.

        Raises:
            InputError: a vector is not finite.
        """
        vectors = finite_vectors(batch)
        keys = [key.encode("utf-8", "surrogatepass") for key in batch.keys]
        self._columns["vectors"].append(vectors)
        self._columns["labels"].append(batch.labels)
        self._columns["key_bytes"].append(np.frombuffer(b"".join(keys), np.uint8))
        ends = self._num_key_bytes + np.cumsum([len(key) for key in keys], dtype=np.int64)
        self._columns["key_offsets"].append(ends)
        self._num_key_bytes = int(ends[-1])
        self._samples.add(batch.samples)

    @property
    def num_rows(self) -> int:
        """Vectors written so far."""
        return self._columns["vectors"].num_rows

    def finish(self, num_items: int, *, is_last: bool, broken: Mapping[str, str] | None = None) -> None:
        """Write the remaining rows and the shard's manifest.

        Args:
            num_items: samples of the source in this shard, including broken ones.
            is_last: whether this is the last shard of its unit.
            broken: reasons of the broken samples, by key; shard.json has the first NAMED_PER_SHARD.
        """
        num_rows = self.num_rows
        digests = {name: column.finish() for name, column in self._columns.items()}
        if self._samples.finish():
            digests["samples"] = file_digest(self._folder / "samples.parquet")
        if broken:
            with (self._folder / BROKEN_FILE).open("w", encoding="utf-8") as file:
                file.writelines(json.dumps({"key": key, "reason": broken[key]}) + "\n" for key in broken)
            digests["broken"] = file_digest(self._folder / BROKEN_FILE)
        shard = Shard(self._folder, 0, 0, num_rows, num_items, is_last, self._dim, self._num_key_bytes, digests)
        content = dataclasses.asdict(shard)
        for name in ("folder", "unit", "part"):  # encoded in the folder's name
            del content[name]
        named = itertools.islice((broken or {}).items(), NAMED_PER_SHARD)
        content |= {"broken": {key[:_LONGEST_KEY]: reason for key, reason in named}} if broken else {}
        write_json(self._folder / "shard.json", content)


def finite_vectors(batch: EncodedBatch) -> np.ndarray:
    """The vectors of a batch, float32 (N, D).

    Raises:
        InputError: a vector is not finite.
    """
    vectors = np.ascontiguousarray(batch.vectors.float().cpu().numpy())
    if broken := np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
        raise InputError(
            f"the vectors of {len(broken)} of {len(vectors)} images, first {batch.keys[broken[0]]!r}, are NaN or "
            "infinite; the model's weights may be damaged"
        )
    return vectors


class _SamplesWriter:
    """Writes captions and metadata as Parquet; no file if no sample has any."""

    def __init__(self, path: Path) -> None:
        self._path, self._num_without = path, 0
        self._texts: list[Sequence[str]] = []
        self._metadata: list[str] = []
        self._file: Any = None
        self._writer: Any = None

    def add(self, samples: Sequence[Sample]) -> None:
        self._texts += [sample.texts for sample in samples]
        self._metadata += [json.dumps(sample.metadata, default=_plain) if sample.metadata else "" for sample in samples]
        if len(self._texts) >= _ROWS_PER_GROUP:
            self._flush()

    def finish(self) -> bool:
        """Write the remaining rows; returns whether there is a file."""
        self._flush()
        if self._writer is not None:
            self._writer.close()
        self.close()
        return self._writer is not None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _flush(self) -> None:
        count = len(self._texts)
        if self._writer is None and not any(self._texts) and not any(self._metadata):
            self._num_without += count
        else:
            if self._writer is None:
                self._file = self._path.open("wb")  # PyArrow cannot open a path that is not UTF-8
                self._writer = pq.ParquetWriter(self._file, _SCHEMA)
                for start in range(0, self._num_without, _ROWS_PER_GROUP):
                    rows = min(_ROWS_PER_GROUP, self._num_without - start)
                    self._write([()] * rows, [""] * rows)
            self._write(self._texts, self._metadata)
        self._texts, self._metadata = [], []

    def _write(self, texts: Sequence[Sequence[str]], metadata: Sequence[str]) -> None:
        if texts:
            columns = [
                pa.array([list(captions) for captions in texts], _SCHEMA.types[0]),
                pa.array(metadata, pa.string()),
            ]
            self._writer.write_table(pa.table(columns, schema=_SCHEMA))


def _plain(value: Any) -> Any:
    """Convert NumPy arrays and numbers for JSON; other objects become strings."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return str(value)
