"""Files that several processes use: one writer at a time, errors that name the file, and names that begin with ~."""

import contextlib
import errno
import io
import json
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from diptych.errors import DataError, InputError

_PATIENCE = 60.0  # seconds; a row is written in milliseconds
# What systems say of a file that they cannot lock at all: some network disks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


def expanded(path: str | Path) -> Path:
    """The path with ~ or ~user at its beginning replaced by that user's home folder, as a shell does it.

    A file of the working folder whose own name begins with ~ is meant where there is no such user, and after "./".

    Raises:
        InputError: nobody knows the user, or where the home folder is; or it is neither a text nor a Path.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise InputError(f"a file or folder is named by a text or a Path, not by {shown(path)}")
    if text.startswith("./~"):
        return Path.cwd() / text  # a Path forgets the "./", and would be expanded the next time
    if not text.startswith("~"):
        return Path(path)
    try:
        whole = os.path.expanduser(text)  # noqa: PTH111  (Path.expanduser says "could not determine home directory")
    except ValueError:  # a user's name with NUL in it, or no text at all
        whole = text
    if not whole.startswith("~"):
        return Path(whole)
    if os.path.lexists(text):
        return Path(path)
    user = re.split(r"[/\\]", text, maxsplit=1)[0].removeprefix("~")
    reason = f"there is no user {user!r} on this machine" if user else "this user has no home folder (set HOME)"
    raise InputError(f"{text}: {reason}; write the whole path, or ./{text} for a name that begins with ~")


def shown(value: object) -> str:
    """A value that has the wrong type, for a message: None, 5 (int), a Model."""
    if value is None or isinstance(value, type):
        return repr(value)
    kind = type(value).__name__
    plain = isinstance(value, bool | int | float | str | bytes)
    return f"{value!r:.60} ({kind})" if plain else f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"


def cache_folder() -> Path | None:
    """Where programs keep what they can make again: $XDG_CACHE_HOME or ~/.cache; None for a user without a home."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return expanded(named)
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # in a container, of a user who is not in /etc/passwd
        return None


def open_regular(path: Path) -> io.BufferedReader:
    """A regular file, to be read. A named pipe or a device is refused: reading it may wait, or go on, for ever.

    Raises:
        OSError: there is no such file, it is not regular, or it cannot be read.
    """
    # O_NONBLOCK: opening a named pipe must not wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return open(descriptor, "rb")  # noqa: PTH123  (it takes over the descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def absence(path: Path) -> str:
    """Why there is no file to read at a path, in words: nothing has that name, or what has it is no regular file."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # ValueError: NUL in the name
        return f"{path} is a link that leads nowhere" if is_there(path) else f"{path.parent} lacks {path.name}"
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return f"{path} is no regular file but {kinds.get(stat.S_IFMT(mode), 'a device')}"


def is_there(path: Path) -> bool:
    """Whether anything has that name: a file, a folder, a pipe, a device, or a link, wherever it leads."""
    return os.path.lexists(path)


def replaceable(path: Path) -> Path:
    """The file in whose place a new one is put: where a link leads, so that the link stays one.

    Raises:
        OSError: a device or a pipe is there. As root, `--out /dev/null` would put a file in its place.
    """
    real = Path(os.path.realpath(path))
    if real.exists() and not (real.is_file() or real.is_dir()):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return real


def size_of(path: Path) -> int | None:
    """The bytes of a file; None where there is none, or none can be called so (too long a name, NUL in it)."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None


def utf8(text: str) -> str:
    """The text, with what UTF-8 has not (halves of surrogate pairs, in names of files) in backslash form."""
    return text.encode("utf-8", "backslashreplace").decode()


def read_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file of Diptych's own holds.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError(f"it holds no object but {type(content).__name__}")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}; put back a copy, or begin anew in another folder") from error
    return content


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


_LFS = b"version https://git-lfs.github.com/spec/"
_PAGES = {b"<!doctype html": "a web page (HTML)", b"<html": "a web page (HTML)", b"<head": "a web page (HTML)"}
HEAD = 512  # bytes that tell a stand-in


def stand_in(head: bytes, size: int, wanted: str = "file") -> str:
    """What lies in the place of a file that was never fetched, and what to do; "" where it may be the file itself.

    Args:
        head: the first HEAD bytes.
        size: of what is there, in bytes.
        wanted: what it should be: "weights", "image", ...
    """
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(_LFS):
        sizes = [line.split()[1:] for line in head.decode(errors="replace").splitlines() if line.startswith("size ")]
        full = f" of {int(sizes[0][0]):,} bytes" if sizes and sizes[0] and sizes[0][0].isdigit() else ""
        return f"it is a Git LFS pointer of {size} bytes, not the {wanted}{full}: run git lfs pull there"
    for start, kind in {**_PAGES, b"<?xml": "an XML document"}.items():
        if text.startswith(start):
            return f"it is {kind} of {size:,} bytes, not the {wanted}: fetch the file itself, not the page about it"
    return ""


def stand_in_at(path: Path, wanted: str = "file") -> str:
    """The same of a file on disk; "" where it cannot be read."""
    try:
        with open_regular(path) as file:
            return stand_in(file.read(HEAD), path.stat().st_size, wanted)
    except OSError:
        return ""
