"""Reading input files: refuses pipes and devices, and detects placeholders such as Git LFS pointers and web pages."""

import errno
import io
import json
import os
import stat
from pathlib import Path
from typing import Any

from diptych.errors import DataError


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading. A named pipe or a device is refused: reading it might never end.

    Raises:
        OSError: the file is missing, is not a regular file, or cannot be read.
    """
    # O_NONBLOCK: opening a named pipe must not block until there is a writer.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return open(descriptor, "rb")  # noqa: PTH123  (it takes over the descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file that Diptych wrote.

    Raises:
        DataError: the file cannot be read, or is damaged.
    """
    try:
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError(f"it contains {type(content).__name__}, not an object")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}; restore a copy, or start again in another folder") from error
    return content


_LFS = b"version https://git-lfs.github.com/spec/"
_PAGES = {b"<!doctype html": "a web page (HTML)", b"<html": "a web page (HTML)", b"<head": "a web page (HTML)"}
HEAD = 512  # bytes that are enough to recognize a placeholder


def stand_in(head: bytes, size: int, wanted: str = "file") -> str:
    """What a placeholder is and what to do, for a file that was never downloaded; "" if it may be the file itself.

    Args:
        head: the first HEAD bytes.
        size: size on disk, in bytes.
        wanted: what the file should be: "weights", "image", ...
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
    """`stand_in` for a file on disk; "" if it cannot be read."""
    try:
        with open_regular(path) as file:
            return stand_in(file.read(HEAD), path.stat().st_size, wanted)
    except OSError:
        return ""
