"""One writer at a time: a file that several processes append to."""

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from diptych.errors import DataError
from diptych.files.paths import replaceable

_PATIENCE = 60.0  # seconds; a row is written in milliseconds
# What systems say of a file that they cannot lock at all: some network disks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


@contextlib.contextmanager
def locked(path: Path) -> Iterator[IO[bytes]]:
    """The file, opened to be read and appended to without a buffer; made if it is missing, and this process's alone.

    It stays the file of that name: where another process has put a new one in its place, that one is waited for. A
    disk that knows no locks is used without.

    Raises:
        OSError: it cannot be opened, or is no regular file.
        DataError: another process holds it for a minute.
    """
    deadline = time.monotonic() + _PATIENCE
    path = replaceable(path)
    while True:
        file = path.open("a+b", buffering=0)
        try:
            if not _lock(file):
                if time.monotonic() > deadline:
                    raise DataError(
                        f"another process has {path} locked for {_PATIENCE:.0f} seconds; end it, and repeat"
                    )
                time.sleep(0.01)
            elif _is_named(file, path):
                yield file
                return
        finally:
            _unlock(file)
            file.close()


def _is_named(file: IO[bytes], path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


if sys.platform == "win32":
    import msvcrt

    _FAR = 2**62  # a byte that no file has: the others stay readable

    def _lock(file: IO[bytes]) -> bool:
        file.seek(_FAR)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def _unlock(file: IO[bytes]) -> None:
        with contextlib.suppress(OSError):
            file.seek(_FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock(file: IO[bytes]) -> bool:
        """Of the opened file, not of the process: it holds between threads too. False where another has it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        return True

    def _unlock(file: IO[bytes]) -> None:
        """Closing the file does it."""
