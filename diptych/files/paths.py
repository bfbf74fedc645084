"""Names of files: those that begin with ~, those that lead nowhere, and those that UTF-8 cannot hold."""

import errno
import os
import re
import stat
from pathlib import Path

from diptych.errors import InputError


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
