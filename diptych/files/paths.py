"""File names: expansion of ~, broken links, and names that are not valid UTF-8."""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from diptych.errors import DataError, InputError


def expanded(path: str | Path) -> Path:
    """The path with a leading ~ or ~user replaced by that user's home folder, as a shell does.

    A leading ~ is part of the file's name if it follows "./", or if there is no such user but a file of that name.

    Raises:
        InputError: the user or the home folder is unknown; or the path is neither a str nor a Path.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str):
        raise InputError(f"a file or folder is named by a str or a Path, not by {shown(path)}")
    if text.startswith("./~"):
        return Path.cwd() / text  # a Path drops the "./" and would be expanded at the next call
    if not text.startswith("~"):
        return Path(path)
    try:
        whole = os.path.expanduser(text)  # noqa: PTH111  (Path.expanduser says "could not determine home directory")
    except ValueError:  # a NUL in the user's name, or text that cannot be encoded
        whole = text
    if not whole.startswith("~"):
        return Path(whole)
    if os.path.lexists(text):
        return Path(path)
    user = re.split(r"[/\\]", text, maxsplit=1)[0].removeprefix("~")
    reason = f"there is no user {user!r} on this machine" if user else "this user has no home folder (set HOME)"
    raise InputError(f"{text}: {reason}; write the whole path, or ./{text} for a name that begins with ~")


def shown(value: object) -> str:
    """A value of the wrong type, described for a message: None, 5 (int), a Model."""
    if value is None or isinstance(value, type):
        return repr(value)
    kind = type(value).__name__
    plain = isinstance(value, bool | int | float | str | bytes)
    return f"{value!r:.60} ({kind})" if plain else f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"


def cache_folder() -> Path | None:
    """The user's cache folder: $XDG_CACHE_HOME or ~/.cache; None for a user without a home folder."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return expanded(named)
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # a user who is not in /etc/passwd, in a container
        return None


def hub_cache_folder() -> Path | None:
    """The Hugging Face hub's cache: $HF_HUB_CACHE, $HF_HOME/hub or ~/.cache/huggingface/hub; None without a home."""
    if named := os.environ.get("HF_HUB_CACHE"):
        return expanded(named)
    if named := os.environ.get("HF_HOME"):
        return expanded(named) / "hub"
    caches = cache_folder()
    return None if caches is None else caches / "huggingface" / "hub"


def absence(path: Path) -> str:
    """A description of why no file can be read at a path: nothing has that name, or it is not a regular file."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # ValueError: NUL in the name
        return f"{path} is a link that leads nowhere" if is_there(path) else f"{path.parent} lacks {path.name}"
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return f"{path} is not a regular file but {kinds.get(stat.S_IFMT(mode), 'a device')}"


def is_there(path: Path) -> bool:
    """Whether anything has that name: a file, a folder, a pipe, a device, or a link, also a broken one."""
    return os.path.lexists(path)


@contextlib.contextmanager
def looking_for(path: str | Path) -> Iterator[None]:
    """Turn an OSError inside the block (a name too long, a folder that may not be entered) into a DataError.

    Raises:
        DataError: names the path, shortened, and the reason.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot look for {path!s:.200}: {error.strerror or error}") from error


def replaceable(path: Path) -> Path:
    """The path that a new file replaces: for a link its target, so that the link stays a link.

    Raises:
        OSError: the path is a device or a pipe. As root, `--out /dev/null` would replace the device with a file.
    """
    real = Path(os.path.realpath(path))
    if real.exists() and not (real.is_file() or real.is_dir()):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return real


def size_of(path: Path) -> int | None:
    """A file's size in bytes; None if there is no file, or the name is invalid (too long, or contains NUL)."""
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return None


def utf8(text: str) -> str:
    """The text, with backslash escapes for what UTF-8 cannot encode (lone surrogates in file names)."""
    return text.encode("utf-8", "backslashreplace").decode()
