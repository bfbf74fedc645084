"""Reading files that others made: no pipes, no devices, and nothing that stands in for a file that was not fetched."""

import errno
import io
import json
import os
import stat
from pathlib import Path
from typing import Any

from diptych.errors import DataError


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
