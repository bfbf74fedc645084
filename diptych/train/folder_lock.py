"""A lock that allows one training run at a time in a folder."""

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
    """Held from `acquire` to `release`, or until the process ends in any way.

    The lock belongs to the process (a POSIX record lock): workers that outlive a killed trainer do not keep it. It also
    works between machines if their shared file system supports such locks. Other file systems and Windows are not
    protected.

    Args:
        folder: of the run; it must exist when the lock is acquired.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Lock the folder.

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
                f"another process is training in {self._folder}: wait for it to end, or choose another folder (--out)"
            ) from error
        except OSError as error:
            logger.warning(
                "%s cannot be locked (%s): do not start a second training in it", self._folder, error.strerror
            )

    def release(self) -> None:
        """Unlock the folder; may be called twice."""
        if self._file is not None:
            self._file.close()
            self._file = None
