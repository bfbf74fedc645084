"""One training at a time in a run's folder."""

import logging
import sys
from pathlib import Path
from typing import IO

from diptych.errors import ConfigError

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

NAME = "run.lock"


class FolderLock:
    """Held from `acquire` to `release`, or until the process ends, however it ends.

    The lock is the process's own (POSIX record lock): workers that outlive a killed trainer do not keep it, and it
    holds between the machines that share a file system which knows such locks. Others, and Windows, go unguarded.

    Args:
        folder: of the run; it exists when the lock is acquired.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Hold the folder.

        Raises:
            ConfigError: another process trains in it.
            OSError: the folder cannot be written to.
        """
        self._file = (self._folder / NAME).open("w", encoding="utf-8")
        if sys.platform == "win32":
            return
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            self.release()
            raise ConfigError(
                f"another process is training in {self._folder}: wait until it has ended, or choose another folder "
                "(--out)"
            ) from error
        except OSError as error:
            logger.warning("%s cannot be locked (%s): start no second training in it", self._folder, error.strerror)

    def release(self) -> None:
        """Let the next one in; may be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None
