"""Reads parquet files in a separate process, so that a damaged or hostile file cannot end this one or fill its memory.

PyArrow aborts the process on some damaged footers, and a few kilobytes can unpack to gigabytes. One child process
serves all reads of this process. After a crash or a timeout, the next request starts a new child. MATLAB and HDF5 files
and videos are also read there (`call`), because their libraries crash on some damaged files.
"""

import atexit
import contextlib
import dataclasses
import functools
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from diptych.data.tar import MAX_RATIO
from diptych.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

FREE_MEMORY = 512 << 20
"""Bytes that an answer may take in addition to the column sizes that the file states."""
MAX_SECONDS = 60.0
"""CPU time for one answer."""
FREE_ROWS = 2_000_000
"""Rows that `read_small_table` reads from a file of any size. Constant columns compress without limit: a table of
verdicts with 1,000,000 equal rows has 64 rows per byte, a single column 283. As Python objects, 2,000,000 rows of five
short texts take about 1 GB."""
ROWS_PER_BYTE = 4
"""Rows that a larger file may have for each of its bytes. With keys that count up, zstd gives 1.5."""

_LENGTHS = struct.Struct("<QQ")
_SCRIPT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from diptych.data.parquet_child import serve; serve(int(sys.argv[2]))"
)


class ParquetError(DataError):
    """A parquet file, or a part of it, cannot be read."""


@dataclasses.dataclass(frozen=True)
class ParquetFile:
    """A file's metadata.

    Attributes:
        schema: schema of the columns.
        num_rows: number of rows in all row groups.
        groups: for each row group, its columns: path in the schema, compressed bytes, uncompressed bytes.
    """

    schema: "pa.Schema"
    num_rows: int
    groups: tuple[tuple[tuple[str, int, int], ...], ...]


def describe(path: str | Path) -> ParquetFile:
    """Read a file's metadata.

    Raises:
        ParquetError: the file is not a parquet file, or is damaged; the message does not name the file.
    """
    import pyarrow as pa

    (num_rows, groups), schema = _ask("describe", FREE_MEMORY, _place(path))
    return ParquetFile(pa.ipc.read_schema(pa.BufferReader(schema)), num_rows, tuple(map(tuple, groups)))


def read_batches(
    path: str | Path, group: int, columns: Sequence[str], rows: int, expected_bytes: int
) -> Iterator["pa.RecordBatch"]:
    """Read a row group, at most `rows` rows at a time.

    Args:
        path: the file.
        group: index of the row group.
        columns: names of the columns to read.
        rows: maximum number of rows decoded at a time.
        expected_bytes: uncompressed size of the columns, as the file states it.
    Raises:
        ParquetError: the row group cannot be read further; batches yielded before the error are correct.
    """
    start = 0
    while True:
        limit = FREE_MEMORY + 3 * expected_bytes
        count, data = _ask("rows", limit, _place(path), group, start, list(columns), rows)
        if not count:
            return
        yield from _table(data).to_batches()
        start += count


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> "pa.Table":
    """Read a whole file, or some of its columns.

    Raises:
        ParquetError: the file cannot be read.
    """
    stated = sum(size for group in describe(path).groups for _, _, size in group)
    expected = min(stated, MAX_RATIO * Path(path).stat().st_size)
    _, data = _ask("table", FREE_MEMORY + 3 * expected, _place(path), columns and list(columns))
    return _table(data)


def read_small_table(path: str | Path, columns: Sequence[str] | None = None) -> "pa.Table":
    """Read a whole file, or some of its columns, whose rows become Python objects: more rows could fill the memory.

    Raises:
        ParquetError: the file cannot be read, or states more than FREE_ROWS rows and ROWS_PER_BYTE for each byte.
        OSError: the file is missing.
    """
    size, stated = Path(path).stat().st_size, describe(path).num_rows
    if stated > max(FREE_ROWS, size * ROWS_PER_BYTE):
        raise ParquetError(f"its {size} bytes state {stated} rows")
    return read_table(path, columns)


def call(
    function: Callable[..., tuple[Any, bytes]], path: str | Path, *arguments: Any, num_bytes: int, seconds: float
) -> tuple[Any, bytes]:
    """Call a function in the child process, so that a crash of its library does not end this process.

    Args:
        function: a module-level function that takes plain values and returns plain values and bytes.
        path: the file, the function's first argument.
        arguments: the other arguments.
        num_bytes: memory limit.
        seconds: limit on CPU time.
    Raises:
        ParquetError: the function's error message, or how the child process ended.
    """
    return _ask("call", num_bytes, function.__module__, function.__name__, _place(path), *arguments, seconds=seconds)


def _place(path: str | Path) -> str:
    """The absolute path, as the child may have another working folder; refuses pipes, which would block for ever."""
    if (path := Path(path)).exists() and not path.is_file():
        raise ParquetError("not a regular file")
    return str(path.absolute())


def _table(data: bytes) -> "pa.Table":
    import pyarrow as pa

    return pa.ipc.open_stream(pa.BufferReader(data)).read_all()


def write_message(stream: BinaryIO, value: Any, table: Any = b"") -> None:
    """Send plain values, followed by a table's bytes."""
    data = json.dumps(value).encode()
    stream.write(_LENGTHS.pack(len(data), len(table)))
    stream.write(data)
    stream.write(table)
    stream.flush()


def read_message(stream: BinaryIO) -> tuple[Any, bytes]:
    """Receive plain values and a table's bytes.

    Raises:
        EOFError: the other process has ended.
    """
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        raise EOFError
    data, table = (stream.read(length) for length in _LENGTHS.unpack(lengths))
    if len(table) < _LENGTHS.unpack(lengths)[1]:
        raise EOFError
    return json.loads(data), table


class _Process:
    """The child process."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", _SCRIPT, json.dumps(sys.path), str(os.getpid())]
        # A process group of its own, so that signals from a terminal do not reach it.
        pipe, group = subprocess.PIPE, None if sys.platform == "win32" else 0
        try:
            self.process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, process_group=group
            )
        except OSError as error:
            raise DataError(f"no process can be started to read parquet files: {error}") from error
        with contextlib.suppress(ImportError, AttributeError, OSError):
            import fcntl  # a larger pipe needs fewer reads and writes per answer

            fcntl.fcntl(self.process.stdout, fcntl.F_SETPIPE_SZ, 1 << 20)  # type: ignore[arg-type]
        try:
            read_message(self.process.stdout)  # type: ignore[arg-type]
        except (OSError, EOFError, ValueError):
            raise DataError(
                f"the process that reads parquet files does not start ({self.end()}); does this work: "
                f"{sys.executable} -c 'import pyarrow.parquet'"
            ) from None

    def ask(self, request: tuple[Any, ...]) -> tuple[tuple[str, Any], bytes]:
        write_message(self.process.stdin, request)  # type: ignore[arg-type]
        return read_message(self.process.stdout)  # type: ignore[arg-type]

    def end(self) -> str:
        """End the process if it is still running; return how it ended."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # type: ignore[union-attr]
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=1)
        self.process.kill()
        self.process.stdout.close()  # type: ignore[union-attr]
        code = self.process.wait()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


_lock = threading.Lock()
_running: dict[int, _Process] = {}  # by process id: after a fork, the child must not use its parent's process
# These signals come from outside (a user, or the kernel when memory runs out) and are not the file's fault.
_FROM_ELSEWHERE = ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT")


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


def _ask(name: str, num_bytes: int, *arguments: Any, seconds: float | None = None) -> tuple[Any, bytes]:
    seconds = MAX_SECONDS if seconds is None else seconds
    with _lock:
        how = ""
        for _ in range(2):
            process = _process()
            try:
                (error, answer), table = process.ask((name, num_bytes, seconds, *arguments))
            except (OSError, EOFError, ValueError):
                how = _running.pop(os.getpid()).end()
                if how not in _FROM_ELSEWHERE:
                    break
            except BaseException:  # Ctrl-C between request and answer: the next request would read the wrong answer
                _running.pop(os.getpid()).end()
                raise
            else:
                if error:
                    raise ParquetError(error)
                return answer, table
    raise ParquetError(f"reading it ends the process that reads ({how}): the file is damaged")


def _process() -> _Process:
    process = _running.get(os.getpid())
    if process is None:
        process = _running[os.getpid()] = _Process()
        _end_at_exit()
    return process


@functools.cache
def _end_at_exit() -> None:
    atexit.register(lambda: _running[os.getpid()].end() if os.getpid() in _running else None)
