"""What a process has not finished writing bears the process in its name, so that others can clear it once it is dead.

A process that is killed clears nothing itself, and unfinished vectors of a large set are gigabytes.
"""

import contextlib
import logging
import os
import re
import shutil
import socket
import sys
from pathlib import Path

_log = logging.getLogger(__name__)
_HOST = re.sub(r"[^\w-]", "_", socket.gethostname())
_NAME = re.compile(r"\..*\.(\d{1,10})@([\w-]+)(\.[^.]*)?")


def unfinished_name(name: str) -> str:
    """The hidden name under which this process writes what will be called `name`."""
    return f".{name}.{os.getpid()}@{_HOST}"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is complete or not there; of several processes that write one the last one's stays.

    Args:
        path: its folder is made if it is missing.
    Raises:
        OSError: it cannot be written (a full disk); a file of that name is as it was.
    """
    unfinished = path.with_name(unfinished_name(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(content)
        if path.is_dir():  # no file is as it was: whoever put a folder there keeps it under another name
            path.rename(path.with_name(f"{path.name}.old"))
        unfinished.replace(path)
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def remove_stale(folder: Path) -> None:
    """Delete the unfinished files and folders of dead processes of this machine; a log message names each.

    Those of living processes stay, and so do those of other machines, of which nobody here knows whether they live: a
    cache may lie on a disk that several share.
    """
    for path in sorted(folder.iterdir()):
        found = _NAME.fullmatch(path.name)
        if not found or found[2] != _HOST or _lives(int(found[1])):
            continue
        _log.info("%s was left by process %s, which was killed: deleted", path, found[1])
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    """Whether a process of this number runs; True where that cannot be known."""
    if process == 0 or sys.platform == "win32":  # there is no asking on Windows: signal 0 is Ctrl+C
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is another user's, or no number of a process
        return True
    return True
