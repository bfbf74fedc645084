"""The rows of CSV, TSV and JSON-lines tables with their positions; a malformed row never damages other rows.

CSV quotes follow RFC 4180, as pandas and Excel write them: a quoted field may contain delimiters, line breaks and
doubled quotes. An unclosed quotation mark would swallow the rows up to the next one. So a row of several lines is
checked again: if one of its later lines is a row by itself, only the first line is wrong. Many writers of TSV do not
quote at all (CC3M), so a TSV line whose quotes are not well formed is read literally.
"""

import csv
import json
import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from diptych.data.image_files import IMAGE_EXTENSIONS
from diptych.data.samples import MAX_TEXT_BYTES
from diptych.errors import DataError

MAX_REREAD = 64 << 20  # bytes that may be read again because of unclosed quotation marks


class Row(NamedTuple):
    """A row: its byte offset, the number of its first line (from 1), and its fields, or the reason why it has none."""

    offset: int
    line: int
    fields: Mapping[str, Any] | None
    reason: str = ""
    by_layout: bool = False


class Lines:
    """The numbered lines of a table as text; invalid UTF-8 becomes surrogate escapes. Lines can be put back."""

    def __init__(self, file: BinaryIO, path: Path, offset: int, number: int) -> None:
        self._file, self._path, self.folder = file, path, path.parent
        self._back: deque[tuple[int, int, str]] = deque()
        self._offset, self._number, self._reread = offset, number, 0
        self.used: list[tuple[int, int, str]] = []
        self.ended = False

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        if self._back:
            self.used.append(self._back.popleft())
            return self.used[-1][2]
        line = self._file.readline(MAX_TEXT_BYTES)
        if not line:
            self.ended = True
            raise StopIteration
        if len(line) == MAX_TEXT_BYTES:
            raise DataError(
                f"{self._path}: a line of more than {MAX_TEXT_BYTES >> 10} KiB at byte {self._offset}; is it a table?"
            )
        self.used.append((self._offset, self._number, line.decode("utf-8", "surrogateescape")))
        self._offset += len(line)
        self._number += 1
        return self.used[-1][2]

    def put_back(self) -> None:
        """Put back all lines in use except the first one, so that they are read again."""
        later = self.used[1:]
        del self.used[1:]
        self._back.extendleft(reversed(later))
        self.ended = False
        self._reread += sum(len(text) for _, _, text in later)
        if self._reread > MAX_REREAD + 4 * self._offset:
            raise DataError(
                f"{self._path}: it has many unclosed quotation marks, up to line {self._number}; "
                "if nothing in it is quoted, write it as .tsv"
            )


def csv_rows(lines: Lines, names: Sequence[str], delimiter: str, image: str) -> Iterator[Row]:
    """The rows of a CSV or TSV table after its header; blank lines are skipped.

    Args:
        lines: the lines after the header.
        names: the column names.
        delimiter: separates the fields.
        image: name of the path column, by which a line is recognized as a row.
    """
    reader = csv.reader(lines, delimiter=delimiter)
    place = list(names).index(image)
    while True:
        lines.used.clear()
        lines.ended = False
        record: list[str] | None
        error = ""
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            record, error = None, f"the row cannot be parsed: {problem}"
        (offset, number, text), *later = lines.used
        unclosed = lines.ended or (bool(later) and record is None)
        own = record[place] if record and len(record) > place else ""
        if unclosed or any(_is_row(line, delimiter, place, len(names), own, lines.folder) for _, _, line in later):
            lines.put_back()
            literal = _literal(text, delimiter)
            if delimiter == "\t" and len(literal) == len(names):
                record, error = literal, ""
            else:
                yield Row(offset, number, None, f"a quotation mark in line {number} is never closed", by_layout=True)
                continue
        elif delimiter == "\t" and '"' in text and not later and not _well_formed(text):
            record = _literal(text, delimiter)
        if record is None:
            yield Row(offset, number, None, f"line {number}: {error}")
        elif record and len(record) != len(names):
            reason = f"line {number}: the row has {len(record)} fields, the header {len(names)}"
            yield Row(offset, number, None, reason)
        elif record:
            yield Row(offset, number, dict(zip(names, record, strict=True)))


def json_rows(lines: Lines) -> Iterator[Row]:
    """The objects of a JSON-lines table; blank lines are skipped."""
    for text in lines:
        offset, number, _ = lines.used.pop()
        if not text.strip():
            continue
        try:
            fields = json.loads(text)
            reason = "" if isinstance(fields, dict) else f"line {number} is not a JSON object"
        except (ValueError, RecursionError) as error:
            reason = f"line {number} is not JSON: {str(error)[:100]}"
        yield Row(offset, number, None, reason) if reason else Row(offset, number, fields)


def _is_row(line: str, delimiter: str, place: int, count: int, own: str, root: Path) -> bool:
    """Whether a line that was parsed as the middle of a field is a row by itself.

    A row has enough fields, and another image's path in the path column, counted from either end, because the caption
    may contain delimiters. A field counts as a path if it has the same folder as the path of the current row (`own`);
    if it has an image suffix, and a folder unless `own` has none; or if a file of that name exists next to the table.
    Captions may also name files ("Source, IMG_7.jpg"). If the caption comes before the path, its last line ends with
    the row's own path.
    """
    fields = [field.strip(' "') for field in _literal(line, delimiter)]
    if len(fields) < count:
        return False
    folder = _folder(own)
    for name in {fields[place], fields[place - count]} - {""}:
        if name == own and line.count('"') % 2:
            continue
        has_suffix = name.rpartition(".")[2].lower() in IMAGE_EXTENSIONS
        if (bool(folder) and _folder(name) == folder) or (has_suffix and (bool(_folder(name)) or not folder)):
            return True
        if os.path.isfile(root / name):  # noqa: PTH113  (raises no error for odd names)
            return True
    return False


def _folder(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[0]


def _literal(line: str, delimiter: str) -> list[str]:
    return line.rstrip("\r\n").split(delimiter)


def _well_formed(line: str) -> bool:
    """Whether every quoted field of a TSV line is closed, and followed by a tab or the end."""
    try:
        next(csv.reader([line], delimiter="\t", strict=True))
    except csv.Error:
        return False
    return True
