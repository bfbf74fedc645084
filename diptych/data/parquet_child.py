"""Code of the process that reads parquet files: PyArrow under limits on memory and time.

Requests arrive on stdin and answers go to stdout. Each consists of plain values as JSON, followed by a table in Arrow's
stream format. The process has no state that a new process could not read again. The readers of some other formats,
whose libraries also crash on damaged files, are called here by name.
"""

import collections
import contextlib
import importlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from diptych.data.lifeline import end_with_parent
from diptych.data.parquet_process import read_message, write_message
from diptych.files import utf8

_ROWS, _BYTES = 64, 4 << 20  # an answer is complete when it reaches one of these
_MAX_OPEN = 32  # row groups open at the same time, one for each of the loader's lanes
_ERRORS = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError, MemoryError, RuntimeError, TypeError)


def serve(parent: int) -> None:
    """Answer until stdin closes or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent, by_signal=False)  # the thread that started this process may end before its process does
    write_message(sys.stdout.buffer, "ready")
    readers: _Readers = collections.OrderedDict()
    while True:
        try:
            (name, limit, seconds, *arguments), _ = read_message(sys.stdin.buffer)
        except EOFError:
            return
        with _limits(limit, seconds):
            try:
                answer, table = _ANSWERS[name](readers, *arguments)
                error = ""
            except _ERRORS as raised:
                error, answer, table = str(raised)[:500] or type(raised).__name__, None, b""
        write_message(sys.stdout.buffer, (error, answer), table)
        small = len(table) <= 4 * _BYTES  # large answers are not read ahead: with many lanes they would fill the memory
        del table
        if name == "rows" and not error and answer and small:
            with _limits(limit, seconds):
                next(reversed(readers.values())).read_ahead()  # the most likely next request


@contextlib.contextmanager
def _limits(num_bytes: int, seconds: float) -> Iterator[None]:
    """Limit additional memory, beyond which allocations fail, and CPU time, after which the system ends the process."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        with _limited_memory(num_bytes):
            yield
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, 0)


@contextlib.contextmanager
def _limited_memory(num_bytes: int) -> Iterator[None]:
    if sys.platform != "linux":
        yield
        return
    import resource

    # Data and stack, in pages.
    held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = held + num_bytes if hard == resource.RLIM_INFINITY else min(hard, held + num_bytes)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _open(path: str) -> pq.ParquetFile:
    """Open by name if PyArrow supports the name, which is faster than a Python file; a path may not be valid UTF-8."""
    file = path if utf8(path) == path else Path(path).open("rb")  # noqa: SIM115  (open as long as its reader)
    return pq.ParquetFile(file, buffer_size=1 << 20, page_checksum_verification=True)


def _describe(_: Any, path: str) -> tuple[Any, pa.Buffer]:
    """The number of rows, compressed and uncompressed sizes of each row group's columns, and the schema."""
    with _open(path) as file:
        groups = []
        for index in range(file.num_row_groups):
            group = file.metadata.row_group(index)
            chunks = [group.column(place) for place in range(group.num_columns)]
            groups.append([(c.path_in_schema, c.total_compressed_size, c.total_uncompressed_size) for c in chunks])
        return (file.metadata.num_rows, groups), file.schema_arrow.serialize()


class _Reader:
    """A row group; reading continues where the last answer ended."""

    def __init__(self, path: str, group: int, columns: list[str], rows: int) -> None:
        self.row = 0
        self._ahead: tuple[int, Any] | None = None
        self._error: Exception | None = None
        self._file = _open(path)
        self._batches = self._file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)

    def next(self) -> tuple[int, Any]:
        """The number of rows, and the rows; an error is raised only after the rows before it were returned."""
        self.read_ahead()
        if self._error is not None and not self._ahead:
            raise self._error
        count, table = self._ahead or (0, b"")
        self._ahead = None
        self.row += count
        return count, table

    def read_ahead(self) -> None:
        """Read the rows that `next` returns."""
        if self._ahead is not None or self._error is not None:
            return
        batches: list[pa.RecordBatch] = []
        count = size = 0
        try:
            while count < _ROWS and size < _BYTES and (batch := next(self._batches, None)) is not None:
                batch.validate()  # does not check UTF-8, which is checked when texts are decoded
                batches.append(batch)
                count, size = count + batch.num_rows, size + batch.nbytes
            if batches:
                self._ahead = count, _packed(batches[0].schema, batches)
        except _ERRORS as error:
            self._error = error
            if batches:
                self._ahead = count, _packed(batches[0].schema, batches)


def _packed(schema: pa.Schema, batches: list[pa.RecordBatch]) -> pa.Buffer:
    """Batches in Arrow's stream format, in one buffer of exactly their size."""

    def write(sink: pa.NativeFile) -> None:
        with pa.ipc.new_stream(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)

    measure = pa.MockOutputStream()
    write(measure)
    buffer = pa.allocate_buffer(measure.size())
    write(pa.FixedSizeBufferWriter(buffer))
    return buffer


_Readers = collections.OrderedDict[tuple[Any, ...], _Reader]


def _rows(readers: _Readers, path: str, group: int, start: int, columns: list[str], rows: int) -> tuple[int, Any]:
    """The next rows of a row group from `start` on; no rows at its end."""
    key = (path, group, tuple(columns), rows)
    reader = readers.pop((*key, start), None)
    if reader is None:
        reader = _Reader(path, group, columns, rows)
        while reader.row < start and reader.next()[0]:
            pass
    answer = reader.next()
    if answer[0]:
        readers[(*key, reader.row)] = reader
        while len(readers) > _MAX_OPEN:
            readers.popitem(last=False)
    return answer


def _table(_: Any, path: str, columns: list[str] | None) -> tuple[None, pa.Buffer]:
    with _open(path) as file:
        table = file.read(columns=columns, use_threads=False)
    table.validate()
    return None, _packed(table.schema, table.to_batches())


def _call(_: Any, module: str, name: str, *arguments: Any) -> tuple[Any, bytes]:
    """The result of calling one of Diptych's functions on a file."""
    try:
        result: tuple[Any, bytes] = getattr(importlib.import_module(module), name)(*arguments)
        return result
    except Exception as error:  # parsers raise any exception
        raise ValueError(str(error) or type(error).__name__) from None


_ANSWERS: dict[str, Any] = {"describe": _describe, "rows": _rows, "table": _table, "call": _call}
