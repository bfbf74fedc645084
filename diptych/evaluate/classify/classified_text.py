"""Write rows of images as CSV or JSON lines, and read them back; detects incomplete rows and other files."""

import csv
import dataclasses
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diptych.errors import DataError
from diptych.evaluate.classify.classified import Classified
from diptych.records import is_number

_LONGEST_ROW = 16 << 20
_CSV_HEADER = re.compile(rb"path,label,probability(,label_(\d+),probability_\2)*,error,made_by(,file,content)?\r?\n")


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """The parts of a row that are kept in memory.

    Attributes:
        path: path of the image, as the user gave it.
        is_broken: whether the image could not be read.
        made_by: digests of model, labels, templates and top_k.
        file: absolute path of the image; "" in rows of older versions.
        content: changes with the image's content; "" in rows of older versions.
        start, end: byte range of the row in its file, end excluded.
    """

    path: str
    is_broken: bool
    made_by: str
    file: str = ""
    content: str = ""
    start: int = 0
    end: int = 0

    @property
    def outcome(self) -> tuple[str, bool]:
        """The image's content mark, and whether it was broken."""
        return self.content, self.is_broken


@dataclasses.dataclass(frozen=True, slots=True)
class Origin:
    """The image of a row: its absolute path, and a mark that changes with its content."""

    file: str
    content: str


@dataclasses.dataclass(frozen=True, slots=True)
class RowFormat:
    """A format that stores rows one after the other.

    Attributes:
        header: the first bytes of the file.
        encode: encodes rows, their origins and their made_by as bytes.
        read: yields the complete rows of a file; an incomplete last row is left out.
        renew: converts a row's bytes from any version to this one.
    """

    header: bytes
    encode: Callable[[Sequence[Classified], Sequence[Origin], str], bytes]
    read: Callable[[Path], Iterator[Entry]]
    renew: Callable[[bytes], bytes]


def csv_format(num_labels: int) -> RowFormat:
    """CSV for spreadsheets: a column for each of the best labels."""
    names = ["label", "probability"]
    names += [f"{name}_{place}" for place in range(2, num_labels + 1) for name in ("label", "probability")]
    columns = ["path", *names, "error", "made_by", "file", "content"]

    def renew(row: bytes) -> bytes:
        is_old = len(_fields(row)) == len(columns) - 2
        return row.rstrip(b"\r\n") + b",,\r\n" if is_old else row

    return RowFormat(_csv([columns]), _csv_encoder(num_labels), _read_csv, renew)


def json_format() -> RowFormat:
    """One JSON object per line."""
    return RowFormat(b"", _encode_json, _read_json, lambda row: row)


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)  # CRLF line ends: otherwise csv does not quote a carriage return in a name
    # File names may contain bytes that are not text; they are always escaped in the same way.
    return text.getvalue().encode("utf-8", "backslashreplace")


def _fields(record: bytes) -> list[str]:
    return next(csv.reader(io.StringIO(record.decode("utf-8", "replace"), newline="")), [])


def _csv_encoder(num_labels: int) -> Callable[[Sequence[Classified], Sequence[Origin], str], bytes]:
    def encode(rows: Sequence[Classified], origins: Sequence[Origin], made_by: str) -> bytes:
        lines = []
        for row, origin in zip(rows, origins, strict=True):
            best = [value for label, probability in row.classes for value in (label, f"{probability:.6g}")]
            best += [""] * (2 * num_labels - len(best))
            lines.append([str(row.path), *best, row.error or "", made_by, origin.file, origin.content])
        return _csv(lines)

    return encode


def _encode_json(rows: Sequence[Classified], origins: Sequence[Origin], made_by: str) -> bytes:
    lines = (
        json.dumps(row.to_dict() | {"made_by": made_by, "file": origin.file, "content": origin.content})
        for row, origin in zip(rows, origins, strict=True)
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _read_csv(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        header = file.readline(_LONGEST_ROW)
        if not header.endswith(b"\n") and b"path,label,probability".startswith(header[:22]):
            return  # an incomplete header: there are no rows
        if not _CSV_HEADER.fullmatch(header):
            raise DataError(f"{path} is no file of diptych classify: its first line is {header[:60]!r}")
        record, end, number = b"", len(header), 1
        width, is_old = header.count(b",") + 1, b",content" not in header
        while line := file.readline(_LONGEST_ROW):
            record, number = record + line, number + 1
            if len(record) >= _LONGEST_ROW:
                raise DataError(f"{path}, line {number}: the row is longer than {_LONGEST_ROW >> 20} MiB")
            if not record.endswith(b"\n") or record.count(b'"') % 2:
                continue  # a quoted name may contain line breaks
            fields = _fields(record)
            start, end = end, end + len(record)
            record = b""
            if len(fields) != width:
                raise DataError(f"{path}, line {number} is no row of diptych classify; fix or delete the line")
            error, made_by, origin, content = [*fields, "", ""][-4:] if is_old else fields[-4:]
            yield Entry(fields[0], bool(error), made_by, origin, content, start, end)


def _read_json(path: Path) -> Iterator[Entry]:
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST_ROW), b""), start=1):
            if not line.endswith(b"\n"):
                if not end and not (line.startswith(b'{"path"') or b'{"path"'.startswith(line)):
                    raise DataError(f"{path} is no file of diptych classify: it begins with {line[:60]!r}")
                return  # an incomplete last row
            try:
                row = json.loads(line)
                image, error, made_by = row["path"], row["error"], row["made_by"]
                origin, content = row.get("file", ""), row.get("content", "")
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise DataError(
                    f"{path}, line {number} is no row of diptych classify; fix or delete the line"
                ) from error
            start, end = end, end + len(line)
            texts = (image, made_by, origin, content, "" if error is None else error)
            if not all(isinstance(text, str) for text in texts) or not _are_classes(row.get("classes")):
                raise DataError(
                    f"{path}, line {number}: path, error, made_by, file, content or classes have a wrong type; fix or "
                    "delete the line"
                )
            yield Entry(image, error is not None, made_by, origin, content, start, end)


def _are_classes(classes: Any) -> bool:
    """Whether a row's classes have the form that `Classified.to_dict` writes."""
    return isinstance(classes, list) and all(
        isinstance(entry, dict)
        and entry.keys() == {"label", "probability"}
        and isinstance(entry["label"], str)
        and is_number(entry["probability"])
        for entry in classes
    )
