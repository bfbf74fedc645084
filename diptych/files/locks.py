"""A lock for a file that several processes append to: one writer at a time."""

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
# The errors of file systems that do not support locks, such as some network disks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


@contextlib.contextmanager
def locked(path: Path, patience: float = _PATIENCE) -> Iterator[IO[bytes]]:
    """The file, locked for this process and opened unbuffered to read and append; created if it is missing.

    If another process replaces the file while this one waits, the new file is locked instead. On a disk that does not
    support locks, the file is used without one.

    Args:
        patience: seconds to wait while another process holds the lock.
    Raises:
        OSError: the file cannot be opened, or is not a regular file.
        DataError: another process holds the lock for longer.
    """
    deadline = time.monotonic() + patience
    path = replaceable(path)
    while True:
        file = path.open("a+b", buffering=0)
        try:
            if not _lock(file):
                if time.monotonic() > deadline:
                    since = f" for {patience:.0f} seconds" if patience else ""
                    raise DataError(f"another process has {path} locked{since}; end it, and repeat")
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

    _FAR = 2**62  # locks a byte beyond the end of any file, so that the content stays readable

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
        """Lock the open file, not the process, so that it also works between threads. False if another holds it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        return True

    def _unlock(file: IO[bytes]) -> None:
        """Closing the file releases the lock."""
