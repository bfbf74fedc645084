"""Files and folders that are whole or not there, whenever the process that writes them is killed.

What is not finished has a hidden name with the process in it, so that others can remove it once that process is dead:
a process that is killed removes nothing, and the unfinished vectors of a large set are gigabytes.
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
    """Within, a file is written; what the disk refuses (full, read-only, a name too long) is an error that names it.

    Raises:
        DataError: names the file, the reason and what to do.
    """
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder, "
            "then repeat the command: what is measured and saved stays"
        ) from error


@contextlib.contextmanager
def new_file(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Write a file that is complete or not there; of several processes that write one, the last one's stays.

    Args:
        path: the file; where it is a link, what it links to is replaced.
        durable: it also survives a power cut, which takes a moment longer.
    Yields:
        The hidden path to write to, which gets the name at the end of the block. After an error it is removed, and
        what has the name stays as it was.
    Raises:
        OSError: it cannot be written (a full disk), or a folder or a device has the name.
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
        with contextlib.suppress(OSError):  # of two errors, the first says more
            unfinished.unlink()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file of the cache; its folder is made if it is missing, and a folder of its name is renamed NAME.old.

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
    """Write a folder that is complete or not there.

    Args:
        path: the folder; the one around it is made if it is missing.
        replace: put it in the place of an older one, which lies at `old_place(path)` for a moment: after a kill
            between the two renames it is there.
        stays: asked where something has the name at the end, whether that is a whole one of another process and stays;
            otherwise it is removed.
    Yields:
        A hidden folder to write into, which gets the name at the end of the block. After an error it is removed.
    Raises:
        OSError: it cannot be written, or something has the name and neither `replace` nor `stays` is given.
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
            with contextlib.suppress(OSError):  # it can still be read there
                old.rename(path)
        shutil.rmtree(unfinished, ignore_errors=True)
        if replace and path.exists():
            shutil.rmtree(old, ignore_errors=True)


def old_place(path: Path) -> Path:
    """Where a folder lies while a new one takes its place."""
    return path.with_name(f".{path.name}.old")


def _put(unfinished: Path, path: Path, stays: Callable[[], bool]) -> None:
    if os.path.lexists(path):
        if stays():
            return
        remove(path)
    try:
        unfinished.replace(path)
    except OSError:  # another process was faster by a moment
        if not stays():
            raise


def unfinished_name(name: str) -> str:
    """A hidden name under which this process writes what will be called `name`; another one at each call."""
    return f".{name}.{os.getpid()}@{_HOST}.{next(_numbers)}"


def remove_unfinished(folder: Path, *, of_living: bool = False) -> None:
    """Delete the unfinished files and folders of dead processes of this machine; a log message names each.

    Those of living processes stay, and so do those of other machines, of which nobody here knows whether they live: a
    folder may lie on a disk that several machines share.

    Args:
        of_living: delete those, too: the caller has locked the folder, so that no other process writes there.
    """
    for path in sorted(folder.iterdir()):
        match = _NAME.fullmatch(path.name)
        if not match or not (of_living or (match[2] == _HOST and not _lives(int(match[1])))):
            continue
        _log.info("%s was left by process %s, which was killed: deleted", path, match[1])
        with contextlib.suppress(OSError):
            remove(path)


def remove(path: Path) -> None:
    """Delete a file, a link or a folder with all that is in it, if it is there.

    Raises:
        OSError: it cannot be deleted.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _lives(process: int) -> bool:
    """Whether a process of this number runs; True where that cannot be known."""
    if process == 0 or sys.platform == "win32":  # Windows cannot be asked: signal 0 is Ctrl+C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process, or no number of a process
        return True
    return True
