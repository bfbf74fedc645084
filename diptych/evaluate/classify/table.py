"""Rows of images as a parquet file, which appears whole."""

import contextlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from diptych.data.tar import MAX_RATIO
from diptych.errors import DataError
from diptych.evaluate.classify.formats import Entry
from diptych.files import replaceable, utf8

_ROWS_PER_GROUP, _ROWS_AT_A_TIME = 16_384, 64


def _schema() -> Any:
    import pyarrow as pa

    classes = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float32())]))
    return pa.schema([("path", pa.string()), ("classes", classes), ("error", pa.string()), ("made_by", pa.string())])


def read_table(path: Path) -> Iterator[Entry]:
    """What is remembered of each row.

    Raises:
        DataError: it is no such file.
    """
    for batch in _batches(path, ("path", "error", "made_by")):
        for image, error, made_by in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield Entry(str(image), error is not None, str(made_by))


def _batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """The rows a few at a time, read in a process of its own: a damaged file can end neither this one nor fill it."""
    from diptych.data.parquet_process import ParquetError, describe, read_batches

    try:
        file, size = describe(path), path.stat().st_size
        if not file.schema.equals(_schema()):
            raise ParquetError(f"it has the columns {', '.join(file.schema.names)[:300]}")
        for number, group in enumerate(file.groups):
            stated = min(sum(unpacked for *_, unpacked in group), MAX_RATIO * size)
            for batch in read_batches(path, number, columns or file.schema.names, _ROWS_AT_A_TIME, stated):
                batch.validate(full=True)  # texts are UTF-8
                yield batch
    except (ParquetError, ValueError) as error:
        raise DataError(f"{path} is no file of diptych classify: {error}; choose another --out") from error


def write_table(path: Path, rows: Path) -> None:
    """Put the rows of a JSON-lines file under those that the table has; rows of images that it has are left out.

    Raises:
        OSError: it cannot be written; the table is as it was.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = replaceable(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    has: set[str] = set()
    try:
        with partial.open("wb") as file, pq.ParquetWriter(file, _schema()) as writer:
            for group in _groups(path) if path.exists() else ():
                has.update(group.column("path").to_pylist())
                writer.write_table(group)
            with rows.open("rb") as lines:
                while group := list(itertools.islice(lines, _ROWS_PER_GROUP)):
                    new = [row for row in map(_text_row, group) if row["path"] not in has]
                    writer.write_table(pa.Table.from_pylist(new, schema=_schema()))
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _groups(path: Path) -> Iterator[Any]:
    """The rows of a table, as many as a row group has."""
    import pyarrow as pa

    batches = _batches(path)
    while taken := list(itertools.islice(batches, _ROWS_PER_GROUP // _ROWS_AT_A_TIME)):
        yield pa.Table.from_batches(taken, schema=_schema())


def _text_row(line: bytes) -> dict[str, Any]:
    """A row whose texts UTF-8 has."""
    row: dict[str, Any] = json.loads(line)
    row |= {name: row[name] and utf8(row[name]) for name in ("path", "error", "made_by")}
    row["classes"] = [{"label": utf8(c["label"]), "probability": float(c["probability"])} for c in row["classes"]]
    return row
