"""Pairs in CSV tables with paths, and in folders of pictures with captions beside them.

A fixed number of rows or pictures is a shard, so that shuffling over shards works here, too.
"""

import csv
import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from diptych.data.samples import (
    MAX_TEXT_BYTES,
    TEXT_COLUMNS,
    clean_texts,
    decode_text,
    fingerprint,
    make_sample,
    read_file,
    relative_names,
)
from diptych.errors import DataError
from diptych.records import Broken, Sample

ROWS_PER_SHARD = 1000
SIDECARS = ("txt", "json", "cls")
"""Endings of the files beside a picture that say something about it."""
_PATH_COLUMNS = ("filepath", "file_path", "file_name", "filename", "path", "image_path", "image")


@dataclasses.dataclass(frozen=True)
class CsvSource:
    """CSV or TSV files: a header line, a column of picture paths, one of captions; 1000 rows are a shard.

    Only the byte offset of every 1000th row is held. Paths are absolute, or relative to the file's folder.

    Attributes:
        tables: in reading order.
    """

    tables: tuple["_Table", ...]

    @classmethod
    def open(cls, files: Sequence[Path]) -> "CsvSource":
        """Read the headers, and find out where the shards begin.

        Raises:
            DataError: a file has no header with the two columns, is not UTF-8 there, or has lines over 1 MiB.
        """
        return cls(tuple(_Table.open(path, name) for path, name in zip(files, relative_names(files), strict=True)))

    @functools.cached_property
    def _parts(self) -> tuple[tuple["_Table", int], ...]:
        return tuple((table, part) for table in self.tables for part in range(len(table.starts)))

    @functools.cached_property
    def shards(self) -> tuple[str, ...]:
        """<path>:<number of its first row>."""
        return tuple(f"{table.path}:{part * ROWS_PER_SHARD}" for table, part in self._parts)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the files' names and sizes."""
        return fingerprint([table.path for table in self.tables], [table.name for table in self.tables])

    @property
    def most_rows(self) -> int:
        """At least the number of rows, at most 999 for each table more."""
        return len(self._parts) * ROWS_PER_SHARD

    def picture_files(self, limit: int | None = None) -> Iterator[Path]:
        """The pictures that the rows name; of more than about `limit` rows, those of evenly spaced shards."""
        count = len(self._parts)
        wanted = count if limit is None else min(count, max(1, limit // ROWS_PER_SHARD))
        for index in range(wanted):
            for table, record in self._records(index * count // wanted):
                if not isinstance(record, csv.Error) and len(record) > table.header.picture:
                    yield table.path.parent / record[table.header.picture]

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """Up to 1000 rows, with keys "<file>/<row>".

        Raises:
            DataError: the table is not there any more.
        """
        first = self._parts[index][1] * ROWS_PER_SHARD
        for number, (table, record) in enumerate(self._records(index), first):
            yield table.sample(f"{table.name}/{number}", self.shards[index], record)

    def _records(self, index: int) -> Iterator[tuple["_Table", list[str] | csv.Error]]:
        """The rows of a shard, or why there is none."""
        table, part = self._parts[index]
        with _open_table(table.path) as file:
            file.seek(table.starts[part])
            records = _records(_Lines(file, table.path, table.starts[part]), table.header.delimiter)
            for _, (_, record) in zip(range(ROWS_PER_SHARD), records, strict=False):
                yield table, record


@dataclasses.dataclass(frozen=True)
class TableHeader:
    """A table's first line: its fields, which of them are the picture's path and the caption, and where it ends."""

    delimiter: str
    fields: tuple[str, ...]
    picture: int
    caption: int
    end: int


def read_header(path: Path) -> TableHeader:
    """Understand the header of a CSV or TSV file; the delimiter is the first of tab, comma, semicolon that is in it.

    Raises:
        DataError: it lacks one of the two columns, or is not UTF-8.
    """
    with _open_table(path) as file:
        line, end = file.readline(MAX_TEXT_BYTES), file.tell()
    text = decode_text(line, f"the header of {path}").removeprefix("\ufeff")
    delimiter = next((mark for mark in "\t,;" if mark in text), ",")
    try:
        fields = next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        fields = []
    lower = [field.strip().lower() for field in fields]
    caption = next((lower.index(column) for column in TEXT_COLUMNS if column in lower), None)
    picture = next((lower.index(column) for column in _PATH_COLUMNS if column in lower), None)
    if picture is None or caption is None:
        hint = "; pictures behind URLs must be downloaded first, e.g. with img2dataset" if "url" in lower else ""
        raise DataError(
            f"{path} needs a header with a column of picture paths ({', '.join(_PATH_COLUMNS)}) and one of captions "
            f"({', '.join(TEXT_COLUMNS)}); its first line is: {text.strip()[:200]}{hint}"
        )
    return TableHeader(delimiter, tuple(fields), picture, caption, end)


@dataclasses.dataclass(frozen=True)
class _Table:
    path: Path
    name: str
    header: TableHeader
    starts: tuple[int, ...]

    @classmethod
    def open(cls, path: Path, name: str) -> "_Table":
        header = read_header(path)
        with _open_table(path) as file:
            file.seek(header.end)
            rows = enumerate(_records(_Lines(file, path, header.end), header.delimiter))
            return cls(path, name, header, tuple(start for row, (start, _) in rows if row % ROWS_PER_SHARD == 0))

    def sample(self, key: str, shard: str, record: list[str] | csv.Error) -> Sample | Broken:
        try:
            if isinstance(record, csv.Error):
                raise DataError(f"the row cannot be parsed: {record}")
            if len(record) != len(self.header.fields):
                raise DataError(f"the row has {len(record)} fields, the header {len(self.header.fields)}")
            caption = decode_text(record[self.header.caption].encode("utf-8", "surrogateescape"), "its caption")
            texts = clean_texts([caption])
            if not record[self.header.picture]:
                raise DataError("no picture: the path is empty")
            image = read_file(self.path.parent / record[self.header.picture])
            return Sample(key, image, texts, None, dict(zip(self.header.fields, record, strict=True)))
        except DataError as error:
            return Broken(key, shard, str(error))


class _Lines:
    """The lines of a table as text, counting their bytes; bytes that are no UTF-8 stay recognisable."""

    def __init__(self, file: BinaryIO, path: Path, offset: int) -> None:
        self._file = file
        self._path = path
        self.offset = offset

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._file.readline(MAX_TEXT_BYTES)
        if not line:
            raise StopIteration
        if len(line) == MAX_TEXT_BYTES:
            raise DataError(
                f"{self._path}: a line of over {MAX_TEXT_BYTES >> 10} KiB at byte {self.offset}; is it a table?"
            )
        self.offset += len(line)
        return line.decode("utf-8", "surrogateescape")


def _records(lines: _Lines, delimiter: str) -> Iterator[tuple[int, list[str] | csv.Error]]:
    """Where each row begins, and its fields or why it has none; blank lines are passed over."""
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        start = lines.offset
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield start, error
            continue
        if record:
            yield start, record


def _open_table(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"cannot read the table {path}: {error.strerror}") from error


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Pictures in folders at any depth; captions beside them (a.jpg, a.txt, a.json), or labels from the folders' names.

    Attributes:
        root: the folder.
        names: the pictures, relative to it, in reading order.
        classes: class index by the name of the first folder below root; then sidecar files are not read.
    """

    root: Path
    names: tuple[str, ...]
    classes: Mapping[str, int] | None = None

    @functools.cached_property
    def shards(self) -> tuple[str, ...]:
        """<root>:<number of its first picture>."""
        return tuple(f"{self.root}:{first}" for first in range(0, len(self.names), ROWS_PER_SHARD))

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the pictures' names and sizes, and the classes: an empty class more shifts all labels."""
        classes = [] if self.classes is None else [json.dumps(sorted(self.classes.items()))]
        return fingerprint((self.root / name for name in self.names), self.names, *classes)

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """Up to 1000 pictures; their keys are their paths below root."""
        first = index * ROWS_PER_SHARD
        for name in self.names[first : first + ROWS_PER_SHARD]:
            path = self.root / name
            try:
                files = {path.suffix[1:].lower(): read_file(path)}
                if self.classes is not None:
                    files["cls"] = str(self.classes[name.split("/", 1)[0]]).encode()
                else:
                    for extension in SIDECARS:
                        if (sidecar := path.with_suffix("." + extension)).exists():
                            files[extension] = read_file(sidecar, MAX_TEXT_BYTES)
                yield make_sample(name, self.shards[index], files)
            except DataError as error:
                yield Broken(name, self.shards[index], str(error))
