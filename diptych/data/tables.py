"""Pairs in tables with paths (CSV, TSV, JSON lines), and in folders of images with caption files.

A fixed number of rows or images forms a shard, so that shuffling over shards also works here.
"""

import contextlib
import csv
import dataclasses
import functools
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from diptych.data.columns import PATH_COLUMNS, TEXT_COLUMNS, ColumnNames, advise, choose_column
from diptych.data.image_files import IMAGE_EXTENSIONS
from diptych.data.samples import (
    MAX_TEXT_BYTES,
    clean_texts,
    decode_text,
    fingerprint,
    kind_of,
    make_sample,
    read_file,
    relative_names,
)
from diptych.data.source import Source, Survey, file_problems, spaced
from diptych.data.table_rows import Lines, Row, csv_rows, json_rows
from diptych.errors import DataError
from diptych.files import open_regular, stand_in_at, utf8
from diptych.records import Broken, Sample

ROWS_PER_SHARD = 1000
SIDECARS = ("txt", "json", "cls")
"""Suffixes of the files next to an image that belong to it."""


@dataclasses.dataclass(frozen=True)
class CsvSource(Source):
    """CSV, TSV or JSON-lines files with a column of image paths and one of captions; 1000 rows are a shard.

    Only the position of every 1000th row is kept in memory. Paths are absolute, or relative to the file's folder.

    Attributes:
        tables: the tables, in reading order.
    """

    tables: tuple["_Table", ...]

    @classmethod
    def open(cls, files: Sequence[Path], columns: ColumnNames = ColumnNames()) -> "CsvSource":  # noqa: B008  (frozen)
        """Read the headers, and find where the shards begin.

        Raises:
            DataError: a file's header lacks one of the two columns or is not UTF-8, or a line is longer than 1 MiB.
        """
        named = zip(files, relative_names(files), strict=True)
        return cls(tuple(_Table.open(path, name, columns) for path, name in named))

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

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """The tables, and the images that their rows name; with a limit, evenly spaced shards of about `limit` rows."""
        yield from spaced([table.path for table in self.tables], limit)
        count = len(self._parts)
        wanted = count if limit is None else min(count, max(1, limit // ROWS_PER_SHARD))
        for index in range(wanted):
            for table, row in self._rows(index * count // wanted):
                if row.fields is not None and (path := table.image_file(row.fields)) is not None:
                    yield path

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """Up to 1000 rows, with keys "<file>/<row>".

        Raises:
            DataError: the table no longer exists.
        """
        first = self._parts[index][1] * ROWS_PER_SHARD
        for number, (table, row) in enumerate(self._rows(index), first):
            yield table.sample(f"{table.name}/{number}", self.shards[index], row)

    def _rows(self, index: int) -> Iterator[tuple["_Table", Row]]:
        """The rows of a shard."""
        table, part = self._parts[index]
        with _open_table(table.path) as file:
            for _, row in zip(range(ROWS_PER_SHARD), table.rows(file, *table.starts[part]), strict=False):
                yield table, row


@dataclasses.dataclass(frozen=True)
class TableHeader:
    """A table's header: its columns, which of them are image and caption, and where the rows begin.

    Attributes:
        delimiter: separates the fields; "" for JSON lines.
        names: the columns; a duplicate of x is named x.1, as in pandas.
        image, caption: names of these two columns; caption is "" if only images are read.
        end: byte offset where the rows begin.
    """

    delimiter: str
    names: tuple[str, ...]
    image: str
    caption: str
    end: int


def read_header(path: Path, columns: ColumnNames = ColumnNames()) -> TableHeader:  # noqa: B008  (frozen)
    """Read the header of a table; the delimiter is the first of tab, comma, semicolon and bar that occurs in it.

    Raises:
        DataError: the header lacks one of the two columns, or is not UTF-8.
    """
    with _open_table(path) as file:
        line, end = file.readline(MAX_TEXT_BYTES), file.tell()
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f'{path} is UTF-16, as Excel\'s "Unicode text" is; save it as UTF-8')
    if placeholder := stand_in_at(path, "table"):
        raise DataError(f"{path} cannot be read: {placeholder}")
    if not line.strip():
        raise DataError(f"{path} is empty: its first line should name the columns, such as image,caption")
    text = decode_text(line, f"the header of {path}").removeprefix("\ufeff")
    if "\r" in text.rstrip("\r\n"):
        raise DataError(f"{path} ends its lines with carriage returns only; save it with line feeds")
    if path.suffix.lower() == ".jsonl":
        start = len("\ufeff".encode()) if line.startswith("\ufeff".encode()) else 0
        delimiter, end, fields = "", start, _keys(text, path)
    else:
        delimiter = next((candidate for candidate in "\t,;|" if candidate in text), ",")
        fields = _fields(text, delimiter)
    names = tuple(name if name not in fields[:place] else f"{name}.{place}" for place, name in enumerate(fields))
    caption = "" if columns.images_only else choose_column(path, names, "caption", columns.caption, TEXT_COLUMNS)
    image = choose_column(path, names, "image", columns.image, PATH_COLUMNS)
    if image is None or caption is None:
        if any(name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS and "." in name for name in names):
            raise DataError(
                f"{path} begins with a row, not a header: {text.strip()[:200]}; write a first line that names the "
                f"columns, such as {(delimiter or ',').join(('image', 'caption'))}"
            )
        lacks = [advise(names, "image", PATH_COLUMNS)] if image is None else []
        lacks += [advise(names, "caption", TEXT_COLUMNS)] if caption is None else []
        url = any("url" in name.lower() for name in names)
        hint = "; images behind URLs must be downloaded first, e.g. with img2dataset" if url else ""
        raise DataError(f"{path} has {'; '.join(lacks)}; its header, the first line, is: {text.strip()[:200]}{hint}")
    return TableHeader(delimiter, names, image, caption, end)


def _fields(text: str, delimiter: str) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([text], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _keys(text: str, path: Path) -> list[str]:
    """The keys of the first object of a JSON-lines table."""
    row = None
    with contextlib.suppress(ValueError, RecursionError):
        row = json.loads(text)
    if not isinstance(row, dict):
        raise DataError(f"the first line of {path} is not a JSON object: {text.strip()[:200]}")
    return list(row)


@dataclasses.dataclass(frozen=True)
class _Table:
    """A table; `starts` has the byte offset and the line number of every 1000th row."""

    path: Path
    name: str
    header: TableHeader
    starts: tuple[tuple[int, int], ...]

    @classmethod
    def open(cls, path: Path, name: str, columns: ColumnNames) -> "_Table":
        header = read_header(path, columns)
        table = cls(path, name, header, ())
        with _open_table(path) as file:
            rows = enumerate(table.rows(file, header.end, 2 if header.delimiter else 1))
            starts = tuple((row.offset, row.line) for number, row in rows if number % ROWS_PER_SHARD == 0)
        return dataclasses.replace(table, starts=starts)

    def rows(self, file: BinaryIO, offset: int, line: int) -> Iterator[Row]:
        """The rows from a byte offset on; `line` is the number of the line there."""
        file.seek(offset)
        lines = Lines(file, self.path, offset, line)
        if not self.header.delimiter:
            return json_rows(lines)
        return csv_rows(lines, self.header.names, self.header.delimiter, self.header.image)

    def sample(self, key: str, shard: str, row: Row) -> Sample | Broken:
        """The sample of a row, or a Broken with the reason."""
        if row.fields is None:
            return Broken(key, shard, row.reason, by_layout=row.by_layout)
        try:
            captions = _captions(row.fields.get(self.header.caption)) if self.header.caption else ()
            if (path := self.image_file(row.fields)) is None:
                raise DataError("no image: the path is empty")
            return Sample(key, read_file(path), captions, None, dict(row.fields) if self.header.caption else {})
        except DataError as error:
            return Broken(key, shard, str(error))

    def image_file(self, fields: Mapping[str, Any]) -> Path | None:
        """The file that a row names, if any; tables written on Windows separate folders with backslashes."""
        name = fields.get(self.header.image)
        if not name or not isinstance(name, str):
            return None
        path = self.path.parent / name
        if "\\" in name and os.sep == "/" and not os.path.lexists(path):
            return self.path.parent / name.replace("\\", "/")
        return path


def _captions(value: Any) -> tuple[str, ...]:
    """The captions in a field: a text, or a list of texts in JSON lines."""
    texts = value if isinstance(value, list) and value else [value]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"no caption: it is {kind_of(value)}, not text" if value is not None else "no caption")
    return clean_texts(_sound_text(text) for text in texts)


def _sound_text(text: Any) -> str:
    try:
        return decode_text(text.encode("utf-8", "surrogateescape"), "its caption")
    except UnicodeEncodeError:
        raise DataError("its caption contains half a surrogate pair") from None


def _open_table(path: Path) -> BinaryIO:
    try:
        return open_regular(path)
    except OSError as error:
        raise DataError(f"cannot read the table {path}: {error.strerror}") from error


@dataclasses.dataclass(frozen=True)
class FolderSource(Source):
    """Images in folders at any depth, with captions in sidecar files (a.jpg, a.txt, a.json) or folder names as labels.

    Attributes:
        root: the folder.
        names: the images' paths relative to root, in reading order.
        classes: maps the name of the first folder below root to a class index; if given, sidecar files are not read.
        needs_captions: whether an image without caption and class is broken.
        images_only: sidecar files are not read.
    """

    root: Path
    names: tuple[str, ...]
    classes: Mapping[str, int] | None = None
    needs_captions: bool = True
    images_only: bool = False

    @functools.cached_property
    def shards(self) -> tuple[str, ...]:
        """<root>:<number of the shard's first image>."""
        return tuple(f"{self.root}:{first}" for first in range(0, len(self.names), ROWS_PER_SHARD))

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the images' names and sizes and over the classes, as an additional empty class shifts labels."""
        classes = [] if self.classes is None else [json.dumps(sorted(self.classes.items()))]
        # A broken link is one broken image and must not prevent reading the others.
        return fingerprint((self.root / name for name in self.names), self.names, *classes, all_there=False)

    @functools.cached_property
    def num_samples(self) -> int | None:
        """The number of images."""
        return len(self.names)

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """The images and their sidecar files, in any capitalization; missing files are included."""
        for name in spaced(self.names, limit):
            path = self.root / name
            yield path
            if self._has_sidecars:
                yield from (sidecar(path, end) or path.with_suffix(f".{end}") for end in SIDECARS)

    def survey(self) -> Survey:
        """The number of images; missing and empty files are reported as problems."""
        return Survey(len(self.names), file_problems(self.root / name for name in self.names))

    def distinct_labels(self) -> set[int | None] | None:
        """The class indices of the folders that have images."""
        classes = self.classes
        return None if classes is None else {classes[name.split("/", 1)[0]] for name in self.names}

    def get_all(self, keys: Collection[str]) -> Iterator[Sample]:
        """The samples with these keys; only their files are read."""
        names = tuple(name for name in self.names if utf8(name) in keys)
        yield from super(FolderSource, dataclasses.replace(self, names=names)).get_all(keys)

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """Up to 1000 images; their keys are their paths below root, as valid UTF-8."""
        first = index * ROWS_PER_SHARD
        for name in self.names[first : first + ROWS_PER_SHARD]:
            path = self.root / name
            try:
                files = {path.suffix[1:].lower(): read_file(path)}
                if self.classes is not None:
                    files["cls"] = str(self.classes[name.split("/", 1)[0]]).encode()
                elif self._has_sidecars:
                    for extension in SIDECARS:
                        if (sidecar_path := sidecar(path, extension)) is not None:
                            files[extension] = read_file(sidecar_path, MAX_TEXT_BYTES)
                options = {"needs_caption": self.needs_captions, "images_only": self.images_only}
                yield make_sample(utf8(name), self.shards[index], files, **options)
            except DataError as error:
                yield Broken(utf8(name), self.shards[index], str(error))

    @property
    def _has_sidecars(self) -> bool:
        return self.classes is None and not self.images_only


def sidecar(path: Path, extension: str) -> Path | None:
    """The file next to an image with this suffix in lower case, upper case or capitalized; None if there is none."""
    choices = (path.with_suffix("." + suffix) for suffix in (extension, extension.upper(), extension.capitalize()))
    return next((choice for choice in choices if os.path.exists(choice)), None)  # noqa: PTH110  (raises no error for long names)
