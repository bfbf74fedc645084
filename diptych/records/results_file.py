"""results.jsonl: one Result a row, appended or merged whole, and read back, files of older versions too."""

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
    """Append results to a JSON-lines file, one row each: all or none; the folder is made if it is missing.

    Several processes may append to one file: each waits until it has the file alone.

    Raises:
        DataError: a result is none (NaN, a wrong type), or the file cannot be written (a full disk) or holds something
            else; it is as it was.
    """
    path = expanded(path)
    rows = _encoded(results)
    with _writing(path) as file:
        length = _healed(file, path)
        _write_all_or_none(file, rows, length)


def merge_results(results: Iterable[Result], path: str | Path) -> int:
    """Put results into a JSON-lines file, each in the place of one that measured the same before.

    The file appears whole: readers and a crash find it as it was, or as it is after.

    Args:
        results: the last one of each `identity` counts.
        path: the file; it and its folder are made if they are missing.
    Returns:
        how many rows of the file were replaced.
    Raises:
        DataError: as for write_results, or the file has a row that is no result.
    """
    path = expanded(path)
    results = list(results)
    _encoded(results)  # refuses what is no result before the file is touched
    new = {result.identity: result for result in results}
    with _writing(path) as file:
        file.seek(0)
        before = _parsed(file.read(), path)
        kept = {row.identity: row for row in before}
        # The lock belongs to the old file: a process that waits for it then finds the new one under the name.
        with new_file(path) as unfinished:
            unfinished.write_bytes(_encoded({**kept, **new}.values()))
    return len(kept.keys() & new.keys())


def read_results(path: str | Path) -> list[Result]:
    """Read a results.jsonl file back.

    Rows that an interrupted process glued together are read one by one, and of a torn row nothing but a notice is left.

    Raises:
        DataError: the file cannot be read, or a row is no Result; the message names file and line.
    """
    try:
        with open_regular(path := expanded(path)) as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"cannot read results from {path}: {error.strerror}") from error
    return _parsed(content, path)


def _encoded(results: Iterable[Result]) -> bytes:
    """The rows of results, or DataError for one that is none."""
    lines = []
    for number, result in enumerate(results, start=1):
        try:
            check_result(result)
            lines.append(json.dumps(dataclasses.asdict(result), ensure_ascii=False, allow_nan=False) + "\n")
        except (ValueError, TypeError, RecursionError) as error:
            where = f"{result.task} of {result.dataset}" if isinstance(result, Result) else repr(result)[:60]
            raise DataError(f"result {number} ({where}) cannot be written: {error}; nothing was written") from error
    # The name of a file may hold half a surrogate pair, which UTF-8 has not; its backslash form is JSON's own.
    return "".join(lines).encode("utf-8", "backslashreplace")


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path) as file:
            yield file
    except OSError as error:
        raise DataError(
            f"cannot write results to {path}: {error.strerror}; free some space or choose another file"
        ) from error


def _healed(file: IO[bytes], path: Path) -> int:
    """End the last row where a process was killed in it, and return the length of what is whole.

    A last row that lacks nothing but its newline gets it; of a torn one nothing can be saved, and it is cut off.
    """
    length = file.seek(0, os.SEEK_END)
    if length == 0:
        return 0
    file.seek(0)
    if file.read(1) not in b"{ \r\n\t":
        raise DataError(f"{path} is no file of results: it does not begin with a row; choose another file")
    begin = max(0, length - _LONGEST_ROW)
    file.seek(begin)
    content = file.read()
    if begin and b"\n" not in content:
        raise DataError(f"{path} is no file of results: its last row is longer than {_LONGEST_ROW >> 20} MiB")
    tail = content[content.rfind(b"\n") + 1 :]
    if not tail.strip():
        return length
    try:
        json.loads(tail)
    except (ValueError, RecursionError):
        _log.warning("the last row of %s was torn (a killed process, a full disk) and is taken out: %.200r", path, tail)
        file.truncate(length - len(tail))
        return length - len(tail)
    _write_all_or_none(file, b"\n", length)
    return length + 1


def _write_all_or_none(file: IO[bytes], rows: bytes, length: int) -> None:
    """Append to an unbuffered file of that length; a partial write on a full disk is truncated."""
    rest = memoryview(rows)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with contextlib.suppress(OSError):  # of the two errors, the first tells more
            file.truncate(length)
        raise


def _parsed(content: bytes, path: Path) -> list[Result]:
    begins = content.lstrip()[:1] == b"{"
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        # A crash or a power cut ends the last line anywhere, in a character too; what follows there is no row.
        if not begins or b"\n" in content[error.start :]:
            raise DataError(f"{path} holds no results: it is not UTF-8 (byte {error.start})") from error
        text = content[: error.start].decode("utf-8") + "\ufffd"
    lines = text.split("\n")
    rows: list[tuple[int, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            found = _rows(line, last=begins and number == len(lines), where=f"{path}, line {number}")
            rows += [(number, row) for row in found]
        except (ValueError, RecursionError) as error:
            raise _no_result(path, number, error) from error
    results = []
    for (number, _), row in zip(rows, as_new_rows([row for _, row in rows]), strict=True):
        try:
            results.append(_result_of(row))
        except (ValueError, TypeError) as error:
            raise _no_result(path, number, error) from error
    return results


def _no_result(path: Path, number: int, error: Exception) -> DataError:
    return DataError(f"{path}, line {number} is no result ({error}); mend the line or take it out")


def _rows(line: str, *, last: bool, where: str) -> Iterator[Any]:
    """The JSON values of a line: one, or several that were glued together; a torn one ends with a notice.

    Raises:
        ValueError: the line is no JSON.
    """
    decoder, begin = json.JSONDecoder(), 0
    while rest := line[begin:].strip():
        begin = line.index(rest[0], begin)
        try:
            value, begin = decoder.raw_decode(line, begin)
        except ValueError:
            # Torn by a crash: it is the last line, or a whole row follows in the same line.
            following = line.find('{"task": ', begin + 1)
            if not last and (following < 0 or not rest.startswith("{")):
                raise
            _log.warning("%s: a row was torn (a killed process, a full disk) and is left out: %.80r", where, rest)
            if following < 0:
                return
            begin = following
        else:
            yield value


def parse_results(rows: Sequence[Any], task: str | None = None) -> list[Result]:
    """Results of parsed rows, of files of older versions, too.

    Args:
        rows: in the order of their file.
        task: the name of the task that measured all of them, where it is known.
    Raises:
        TypeError, ValueError: one of them is no Result; the message says why.
    """
    return [_result_of(row) for row in as_new_rows(rows, task)]


def parse_result(row: Any) -> Result:
    """A Result of a parsed row, of a file of an older version, too.

    Raises:
        TypeError, ValueError: it is none; the message says why.
    """
    (result,) = parse_results([row])
    return result


def _result_of(row: Any) -> Result:
    if not isinstance(row, dict):
        raise TypeError(f"it is no object but {row!r:.60}")
    if unknown := row.keys() - {field.name for field in dataclasses.fields(Result)}:
        names = ", ".join(sorted(map(str, unknown)))[:100]
        raise TypeError(f"unknown fields: {names}; a newer version of Diptych may have written it, install that")
    result = Result(**row)
    check_result(result)
    return result
