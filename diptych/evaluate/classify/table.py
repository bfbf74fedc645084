"""Rows of images as a parquet file, which appears whole."""

import contextlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from diptych.errors import DataError
from diptych.evaluate.classify.formats import Entry

_ROWS_PER_GROUP = 16_384


def _schema() -> Any:
    import pyarrow as pa

    classes = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float32())]))
    return pa.schema([("path", pa.string()), ("classes", classes), ("error", pa.string()), ("made_by", pa.string())])


def read_table(path: Path) -> Iterator[Entry]:
    """What is remembered of each row.

    Raises:
        DataError: it is no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(_schema()):
                raise DataError(f"{path} is no file of diptych classify: it has the columns {file.schema_arrow.names}")
            for batch in file.iter_batches(_ROWS_PER_GROUP, columns=["path", "error", "made_by"]):
                for image, error, made_by in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    yield Entry(image, error is not None, str(made_by))
    except (pa.ArrowException, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is no file of diptych classify: {error}; choose another --out") from error


def write_table(path: Path, rows: Path) -> None:
    """Put the rows of a JSON-lines file under those that the table has; rows of images that it has are left out.

    Raises:
        OSError: it cannot be written; the table is as it was.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    has: set[str] = set()
    try:
        with pq.ParquetWriter(partial, _schema()) as writer:
            if path.exists():
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(_ROWS_PER_GROUP):
                        has.update(batch.column("path").to_pylist())
                        writer.write_batch(batch)
            with rows.open("rb") as lines:
                while group := list(itertools.islice(lines, _ROWS_PER_GROUP)):
                    new = [row for row in map(_text_row, group) if row["path"] not in has]
                    writer.write_table(pa.Table.from_pylist(new, schema=_schema()))
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _text_row(line: bytes) -> dict[str, Any]:
    """A row whose path is text that UTF-8 has."""
    row: dict[str, Any] = json.loads(line)
    for name in ("path", "error"):
        if row[name] is not None:
            row[name] = row[name].encode("utf-8", "backslashreplace").decode()
    return row
