"""results.jsonl: one Result per row. Rows are appended or merged atomically; files of older versions can be read."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from diptych.errors import DataError
from diptych.files import expanded, locked, new_file, open_regular
from diptych.records.old_rows import as_new_rows
from diptych.records.result import Result, check_result

_log = logging.getLogger(__name__)
_LONGEST_ROW = 16 << 20


def write_results(results: Iterable[Result], path: str | Path) -> None:
    """Append results to a JSON-lines file, one row each: all or none. A missing folder is created.

    Several processes may append to one file; a lock lets one write at a time.

    Raises:
        DataError: a result is invalid (NaN, a wrong type), or the file cannot be written (a full disk) or is not a
            results file. The file is unchanged.
    """
    path = expanded(path)
    rows = _encode(results)
    with _open_for_writing(path) as file:
        length = _repair_last_row(file, path)
        _write_all_or_none(file, rows, length)


def merge_results(results: Iterable[Result], path: str | Path) -> int:
    """Write results into a JSON-lines file; each replaces an earlier result with the same identity.

    The file is replaced atomically: after a crash it has either the old or the new content.

    Args:
        results: of several with the same `identity`, the last one is kept.
        path: the file; it and its folder are created if missing.
    Returns:
        the number of rows that were replaced.
    Raises:
        DataError: as for write_results, or the file has an invalid row.
    """
    path = expanded(path)
    results = list(results)
    _encode(results)  # refuses invalid results before the file is touched
    new = {result.identity: result for result in results}
    with _open_for_writing(path) as file:
        file.seek(0)
        before = _parse(file.read(), path)
        kept = {row.identity: row for row in before}
        # The lock belongs to the old file. A process that waits for it then opens the new file under the same name.
        with new_file(path) as unfinished:
            unfinished.write_bytes(_encode({**kept, **new}.values()))
    return len(kept.keys() & new.keys())


def read_results(path: str | Path) -> list[Result]:
    """Read a results.jsonl file.

    Rows that an interrupted process joined into one line are read one by one. Truncated rows are skipped and logged.

    Raises:
        DataError: the file cannot be read, or a row is not a Result; the message names the file and the line.
    """
    try:
        with open_regular(path := expanded(path)) as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"cannot read results from {path}: {error.strerror}") from error
    return _parse(content, path)


def _encode(results: Iterable[Result]) -> bytes:
    """The rows of results as bytes; DataError if a result is invalid."""
    lines = []
    for number, result in enumerate(results, start=1):
        try:
            check_result(result)
            lines.append(json.dumps(dataclasses.asdict(result), ensure_ascii=False, allow_nan=False) + "\n")
        except (ValueError, TypeError, RecursionError) as error:
            description = f"{result.task} of {result.dataset}" if isinstance(result, Result) else repr(result)[:60]
            raise DataError(
                f"result {number} ({description}) cannot be written: {error}; nothing was written"
            ) from error
    # File names may contain lone surrogates, which UTF-8 cannot encode. JSON accepts their backslash form.
    return "".join(lines).encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def _open_for_writing(path: Path) -> Iterator[IO[bytes]]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path) as file:
            yield file
    except OSError as error:
        raise DataError(
            f"cannot write results to {path}: {error.strerror}; free some space or choose another file"
        ) from error


def _repair_last_row(file: IO[bytes], path: Path) -> int:
    """Repair the last row if a process was killed while writing it, and return the length of the complete rows.

    A complete last row without newline gets one. A truncated row is removed.
    """
    length = file.seek(0, os.SEEK_END)
    if length == 0:
        return 0
    file.seek(0)
    if file.read(1) not in b"{ \r\n\t":
        raise DataError(f"{path} is not a results file: it does not begin with a row; choose another file")
    begin = max(0, length - _LONGEST_ROW)
    file.seek(begin)
    content = file.read()
    if begin and b"\n" not in content:
        raise DataError(f"{path} is not a results file: its last row is longer than {_LONGEST_ROW >> 20} MiB")
    tail = content[content.rfind(b"\n") + 1 :]
    if not tail.strip():
        return length
    try:
        json.loads(tail)
    except (ValueError, RecursionError):
        _log.warning(
            "the last row of %s is truncated (a killed process, a full disk) and is removed: %.200r", path, tail
        )
        file.truncate(length - len(tail))
        return length - len(tail)
    _write_all_or_none(file, b"\n", length)
    return length + 1


def _write_all_or_none(file: IO[bytes], rows: bytes, length: int) -> None:
    """Append to an unbuffered file of the given length; on a full disk the partial write is truncated."""
    rest = memoryview(rows)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with contextlib.suppress(OSError):  # the first of the two errors is the cause
            file.truncate(length)
        raise


def _parse(content: bytes, path: Path) -> list[Result]:
    begins = content.lstrip()[:1] == b"{"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        # A crash or a power cut can end the last line anywhere, even within a character.
        if not begins or b"\n" in content[error.start :]:
            raise DataError(f"{path} holds no results: it is not UTF-8 (byte {error.start})") from error
        text = content[: error.start].decode("utf-8") + "\ufffd"
    lines = text.split("\n")
    rows: list[tuple[int, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            values = _parse_line(line, last=begins and number == len(lines), where=f"{path}, line {number}")
            rows += [(number, row) for row in values]
        except (ValueError, RecursionError) as error:
            raise _row_error(path, number, error) from error
    results = []
    for (number, _), row in zip(rows, as_new_rows([row for _, row in rows]), strict=True):
        try:
            results.append(_result_of(row))
        except (ValueError, TypeError) as error:
            raise _row_error(path, number, error) from error
    return results


def _row_error(path: Path, number: int, error: Exception) -> DataError:
    return DataError(f"{path}, line {number} is not a result ({error}); repair or delete the line")


def _parse_line(line: str, *, last: bool, where: str) -> Iterator[Any]:
    """The JSON values of a line: one, or several joined ones. A truncated value is skipped with a warning.

    Raises:
        ValueError: the line is not JSON.
    """
    decoder, begin = json.JSONDecoder(), 0
    while rest := line[begin:].strip():
        begin = line.index(rest[0], begin)
        try:
            value, begin = decoder.raw_decode(line, begin)
        except ValueError:
            # Truncated by a crash: it is the last line, or a complete row follows in the same line.
            following = line.find('{"task": ', begin + 1)
            if not last and (following < 0 or not rest.startswith("{")):
                raise
            _log.warning("%s: a row is truncated (a killed process, a full disk) and is skipped: %.80r", where, rest)
            if following < 0:
                return
            begin = following
        else:
            yield value


def parse_results(rows: Sequence[Any], task: str | None = None) -> list[Result]:
    """Results of parsed rows, also of files of older versions.

    Args:
        rows: in the order of their file.
        task: name of the task that measured all rows, if known.
    Raises:
        TypeError, ValueError: a row is not a Result; the message says why.
    """
    return [_result_of(row) for row in as_new_rows(rows, task)]


def parse_result(row: Any) -> Result:
    """A Result of one parsed row, also of a file of an older version.

    Raises:
        TypeError, ValueError: the row is not a Result; the message says why.
    """
    (result,) = parse_results([row])
    return result


def _result_of(row: Any) -> Result:
    if not isinstance(row, dict):
        raise TypeError(f"it must be an object, not {row!r:.60}")
    if unknown := row.keys() - {field.name for field in dataclasses.fields(Result)}:
        names = ", ".join(sorted(map(str, unknown)))[:100]
        raise TypeError(f"unknown fields: {names}; a newer version of Diptych may have written it, install that")
    result = Result(**row)
    check_result(result)
    return result
