"""The rows of images as a Parquet file, which is written completely or not at all."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.data.tar import MAX_RATIO
from diptych.errors import DataError
from diptych.evaluate.classify.classified_text import Entry
from diptych.files import new_file, utf8

_ROWS_PER_GROUP, _ROWS_AT_A_TIME = 16_384, 64
_NEW = ("file", "content")  # columns that tables of older versions lack
_NAMES = ("path", "error", "made_by", *_NEW)


def _schema() -> Any:
    import pyarrow as pa

    classes = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float32())]))
    texts = [(name, pa.string()) for name in ("error", "made_by", *_NEW)]
    return pa.schema([("path", pa.string()), ("classes", classes), *texts])


def _old_schema() -> Any:
    import pyarrow as pa

    return pa.schema([field for field in _schema() if field.name not in _NEW])


def read_table(path: Path) -> Iterator[Entry]:
    """Yield the Entry of each row.

    Raises:
        DataError: the file is not a table of `diptych classify`.
    """
    for batch in _batches(path, _NAMES):
        yield from map(_entry, batch.to_pylist())


def _entry(row: Mapping[str, Any]) -> Entry:
    file, content = (row.get(name) or "" for name in _NEW)
    return Entry(str(row["path"]), row["error"] is not None, str(row["made_by"]), file, content)


def _batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """Read the rows in small batches in a separate process: a damaged file cannot crash this one or fill its memory."""
    from diptych.data.parquet_process import ParquetError, describe, read_batches

    try:
        file, size = describe(path), path.stat().st_size
        if not any(file.schema.equals(schema) for schema in (_schema(), _old_schema())):
            raise ParquetError(f"it has the columns {', '.join(file.schema.names)[:300]}")
        for number, group in enumerate(file.groups):
            stated = min(sum(unpacked for *_, unpacked in group), MAX_RATIO * size)
            columns_read = [name for name in file.schema.names if columns is None or name in columns]
            for batch in read_batches(path, number, columns_read, _ROWS_AT_A_TIME, stated):
                batch.validate(full=True)  # checks that texts are UTF-8
                yield batch
    except (ParquetError, ValueError) as error:
        raise DataError(f"{path} is no file of diptych classify: {error}; choose another --out") from error


def write_table(path: Path, rows: Path, key: Callable[[Entry], bytes]) -> None:
    """Merge the rows of a JSON-lines file into a table; they replace the table's rows of the same images.

    A row that is in the table already, because a process was killed before it deleted the file, keeps its place.

    Args:
        path: the table, which may be missing.
        rows: the JSON-lines file.
        key: gives a key that is equal for all rows of one image.
    Raises:
        OSError: the table cannot be written; it stays unchanged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    newer: dict[bytes, tuple[str, bool]] = {}
    with rows.open("rb") as lines:
        newer.update((key(entry), entry.outcome) for entry in map(_entry, map(_text_row, lines)))
    in_table: set[bytes] = set()
    with new_file(path) as unfinished, unfinished.open("wb") as file, pq.ParquetWriter(file, _schema()) as writer:
        for group in _groups(path) if path.exists() else ():
            entries = [(key(entry), entry.outcome) for entry in map(_entry, group.select(_NAMES).to_pylist())]
            stay_flags = [newer.get(image_key, outcome) == outcome for image_key, outcome in entries]
            in_table.update(image_key for (image_key, _), stay in zip(entries, stay_flags, strict=True) if stay)
            writer.write_table(group.filter(pa.array(stay_flags, pa.bool_())))
        with rows.open("rb") as lines:
            while group := list(itertools.islice(lines, _ROWS_PER_GROUP)):
                new = [row for row in map(_text_row, group) if key(_entry(row)) not in in_table]
                writer.write_table(pa.Table.from_pylist(new, schema=_schema()))


def _groups(path: Path) -> Iterator[Any]:
    """The rows of a table, a row group at a time; columns that older versions lack are empty."""
    import pyarrow as pa

    batches = _batches(path)
    while taken := list(itertools.islice(batches, _ROWS_PER_GROUP // _ROWS_AT_A_TIME)):
        group = pa.Table.from_batches(taken)
        for name in _NEW:
            if name not in group.column_names:
                group = group.append_column(name, pa.nulls(len(group), pa.string()))
        yield group.cast(_schema())


def _text_row(line: bytes) -> dict[str, Any]:
    """Parse a line; its texts are made valid UTF-8."""
    row: dict[str, Any] = json.loads(line)
    row |= {name: row.get(name) and utf8(row[name]) for name in _NAMES}
    row["classes"] = [{"label": utf8(c["label"]), "probability": float(c["probability"])} for c in row["classes"]]
    return row
