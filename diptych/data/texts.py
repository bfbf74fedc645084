"""Texts as a Source: the lines of a .txt, or a column of a .csv, .tsv, .jsonl or parquet file."""

import csv
import dataclasses
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from diptych.data.columns import TEXT_COLUMNS, advise, choose_column
from diptych.data.parquet_columns import is_text, unreadable
from diptych.data.parquet_process import ParquetError, describe, read_batches
from diptych.data.samples import MAX_TEXT_BYTES, decode_text, fingerprint
from diptych.data.source import Source
from diptych.data.table_rows import Lines, json_rows
from diptych.errors import DataError
from diptych.files import expanded, open_regular
from diptych.records import Broken, Sample

ROWS_PER_SHARD = 10_000
_PARQUET_ROWS = 1024
_KINDS = {".txt": "lines", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".parquet": "parquet"}
_Value = tuple[int, object, str]  # byte offset, value, and why there is none


@dataclasses.dataclass(frozen=True)
class TextSource(Source):
    """The texts of one file; 10,000 lines or rows, or one row group of a parquet file, are a shard.

    The key of a text is the number of its line in a .txt, counted from 1, or of its row in a table, counted from 0.

    Attributes:
        path: the file. kind: "lines", "csv", "json" or "parquet". column: of a table; "" for lines.
        starts: the byte offset and the number of the first text of each shard; of parquet, the first row of each group.
        count: the number of texts.
    """

    path: Path
    kind: str
    column: str
    starts: tuple[tuple[int, int], ...]
    count: int

    @functools.cached_property
    def shards(self) -> tuple[str, ...]:
        """<path>:<number of the first text>."""
        return tuple(f"{self.path}:{number}" for _, number in self.starts)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the file's name and size, and the column."""
        return fingerprint([self.path], [self.path.name], self.kind, self.column)

    @functools.cached_property
    def num_samples(self) -> int | None:
        """The number of texts."""
        return self.count

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """The file."""
        yield self.path

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The texts of a shard, each as a Sample without an image."""
        offset, first = self.starts[index]
        end = self.starts[index + 1][1] if index + 1 < len(self.starts) else first + ROWS_PER_SHARD
        if self.kind == "parquet":
            values = self._parquet(index)
        else:
            values = itertools.islice(_values(self.path, self.kind, self.column, offset), end - first)
        for number, (_, value, problem) in enumerate(values, first):
            key = str(number + (self.kind == "lines"))
            if problem or not isinstance(value, str) or not value.strip():
                yield Broken(key, self.shards[index], problem or ("empty text" if value in ("", None) else "no text"))
            else:
                yield Sample(key, b"", (value,))

    def _parquet(self, group: int) -> Iterator[_Value]:
        try:
            stated = sum(size for name, _, size in describe(self.path).groups[group] if name == self.column)
            for batch in read_batches(self.path, group, [self.column], _PARQUET_ROWS, stated):
                yield from ((0, value.as_py(), "") for value in batch.column(self.column))
        except (ParquetError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read {self.path} further: {error}") from None


def open_texts(path: str | Path, column: str | None = None) -> TextSource:
    """Open the texts of a file.

    Args:
        path: a .txt with one text per line, or a .csv, .tsv, .jsonl or .parquet with a column of texts.
        column: the column's name, if it is not a usual one (caption, text, title, ...).
    Raises:
        DataError: the file is missing or empty, has another format, or no such column.
    """
    path = expanded(path)
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"{path} has an unknown format; texts come from {', '.join(_KINDS)}")
    if kind == "lines" and column is not None:
        raise DataError(f"{path} has lines and no columns: leave --text-column out")
    starts: list[tuple[int, int]] = []
    count = 0
    if kind == "parquet":
        try:
            file = describe(path)
            name = _column(path, [field.name for field in file.schema if is_text(field.type)], column)
            for group in range(len(file.groups)):
                starts.append((0, count))
                count += sum(len(batch) for batch in read_batches(path, group, [name], 1 << 16, 1 << 30))
        except ParquetError as error:
            raise unreadable(path, error) from None
    else:
        name = "" if kind == "lines" else _column(path, _header(path, kind), column)
        for offset, _, _ in _values(path, kind, name, 0):
            starts += [(offset, count)] if count % ROWS_PER_SHARD == 0 else []
            count += 1
    if not count:
        raise DataError(f"{path} has no texts")
    return TextSource(path, kind, name, tuple(starts), count)


def _column(path: Path, names: list[str], wanted: str | None) -> str:
    name = choose_column(path, names, "text", wanted, TEXT_COLUMNS)
    if name is None:
        raise DataError(f"{path} has {advise(names, 'caption', TEXT_COLUMNS).replace('caption', 'text')}")
    return name


def _header(path: Path, kind: str) -> list[str]:
    with _open(path) as file:
        if kind == "csv":
            return _csv_header(file, path)[0]
        row = next(json_rows(Lines(file, path, 0, 1)), None)
        return list(row.fields) if row is not None and row.fields is not None else []


def _csv_header(file: BinaryIO, path: Path) -> tuple[list[str], str]:
    """The columns of a table and its delimiter."""
    text = decode_text(file.readline(MAX_TEXT_BYTES), f"the header of {path}").removeprefix("\ufeff")
    delimiter = next((candidate for candidate in "\t,;|" if candidate in text), ",")
    return [name.strip() for name in next(csv.reader([text], delimiter=delimiter), [])], delimiter


def _values(path: Path, kind: str, column: str, offset: int) -> Iterator[_Value]:
    """The texts from a byte offset on; 0 is the beginning of the file, before a table's header."""
    with _open(path) as file:
        names, delimiter = _csv_header(file, path) if kind == "csv" else ([], "")
        offset = offset or (file.tell() if kind == "csv" else 0)
        file.seek(offset)
        lines = Lines(file, path, offset, 1)
        if kind == "json":
            for row in json_rows(lines):
                yield row.offset, (row.fields or {}).get(column), row.reason
            return
        if kind == "lines":
            for text in lines:
                yield lines.used.pop()[0], *_sound(text.rstrip("\r\n").removeprefix("\ufeff"))
            return
        place, reader = names.index(column), csv.reader(lines, delimiter=delimiter)
        while True:
            lines.used.clear()
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield lines.used[0][0], None, f"the row cannot be parsed: {error}"
                continue
            if record:
                short = f"the row has {len(record)} fields, the header {len(names)}"
                yield (lines.used[0][0], *(_sound(record[place]) if len(record) == len(names) else (None, short)))


def _sound(text: str) -> tuple[str, str]:
    """The text and "", or the reason why it is broken: it is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text, "it is not UTF-8"
    return text, ""


def _open(path: Path) -> BinaryIO:
    try:
        return open_regular(path)
    except OSError as error:
        raise DataError(f"cannot read the texts {path}: {error.strerror}") from error
