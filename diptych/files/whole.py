"""Atomic writing: a file or folder is complete or absent, even if the process that writes it is killed.

An unfinished file has a hidden name that contains the process id. A killed process cannot delete it, and the
unfinished vectors of a large set take gigabytes; so a later process deletes it once its writer is dead.
"""

import contextlib
import itertools
import logging
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from diptych.errors import DataError
from diptych.files.paths import replaceable

_log = logging.getLogger(__name__)
_HOST = re.sub(r"[^\w-]", "_", socket.gethostname())
_NAME = re.compile(r"\..*\.(\d{1,10})@([\w-]+)(\.[^.]*)?")
_numbers = itertools.count()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError inside the block (full disk, read-only disk, name too long) into an error that names the file.

    Raises:
        DataError: the file cannot be written; the message gives the file, the reason and what to do.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder, "
            "then repeat the command: results that are already saved are kept"
        ) from error


@contextlib.contextmanager
def new_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Write a file atomically; if several processes write the same file, the last one wins.

    Args:
        path: the file; if it is a link, the link's target is replaced.
        durable: the file also survives a power failure, which takes slightly longer.
    Yields:
        The hidden path to write to. It is renamed to `path` at the end of the block. After an error it is deleted, and
        an older file at `path` is unchanged.
    Raises:
        OSError: the file cannot be written (a full disk), or `path` is a folder or a device.
    """
    path = replaceable(path)
    unfinished = path.with_name(unfinished_name(path.name))
    try:
        yield unfinished
        if durable:
            _sync(unfinished)
        unfinished.replace(path)
        if durable:
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # of two errors, the first is more informative
            unfinished.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a cache file; its folder is created if it is missing, and a folder of its name is renamed to NAME.old.

    Raises:
        OSError: as for new_file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as unfinished:
        unfinished.write_bytes(content)
        if path.is_dir():
            path.rename(path.with_name(f"{path.name}.old"))


@contextlib.contextmanager
def new_folder(path: Path, *, replace: bool = False, stays: Callable[[], bool] | None = None) -> Iterator[Path]:
    """Write a folder atomically.

    Args:
        path: the folder; its parent is created if it is missing.
        replace: replace an older folder. It is renamed to `old_place(path)` for a moment, and stays there if the
            process is killed between the two renames.
        stays: called if `path` exists at the end; returns whether it is a complete folder of another process, which
            is kept. Otherwise it is deleted.
    Yields:
        A hidden folder to write into. It is renamed to `path` at the end of the block, and deleted after an error.
    Raises:
        OSError: the folder cannot be written, or `path` exists and neither `replace` nor `stays` is given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path.parent)
    unfinished, old = path.with_name(unfinished_name(path.name)), old_place(path)
    try:
        unfinished.mkdir()
        yield unfinished
        if replace and path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        if stays is not None:
            _put(unfinished, path, stays)
        else:
            unfinished.rename(path)
    finally:
        if replace and old.exists() and not path.exists():
            with contextlib.suppress(OSError):  # the old folder can still be read at its temporary path
                old.rename(path)
        shutil.rmtree(unfinished, ignore_errors=True)
        if replace and path.exists():
            shutil.rmtree(old, ignore_errors=True)


def old_place(path: Path) -> Path:
    """The temporary path of a folder while a new one replaces it."""
    return path.with_name(f".{path.name}.old")


def _put(unfinished: Path, path: Path, stays: Callable[[], bool]) -> None:
    if os.path.lexists(path):
        if stays():
            return
        remove(path)
    try:
        unfinished.replace(path)
    except OSError:  # another process was faster
        if not stays():
            raise


def unfinished_name(name: str) -> str:
    """A hidden name for this process's unfinished file `name`; different at each call."""
    return f".{name}.{os.getpid()}@{_HOST}.{next(_numbers)}"


def remove_unfinished(folder: Path, *, of_living: bool = False) -> None:
    """Delete the unfinished files and folders of this machine's dead processes; a log message names each.

    Those of live processes are kept. So are those of other machines, which may share the disk: whether their processes
    are alive cannot be checked from here.

    Args:
        of_living: also delete those; the caller holds a lock on the folder, so that no other process writes there.
    """
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if not match or not (of_living or (match[2] == _HOST and not _lives(int(match[1])))):
            continue
        _log.info("%s was left by process %s, which was killed: deleted", path, match[1])
        with contextlib.suppress(OSError):
            remove(path)


def remove(path: Path) -> None:
    """Delete a file, a link or a folder with its content, if it exists.

    Raises:
        OSError: the path cannot be deleted.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power failure, if the file system supports it."""
    with contextlib.suppress(OSError):
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lives(process: int) -> bool:
    """Whether a process with this id is running; True if that cannot be determined."""
    if process == 0 or sys.platform == "win32":  # Windows has no such check: signal 0 is Ctrl+C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process, or not a valid process id
        return True
    return True
