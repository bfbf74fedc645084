"""Cached files of an earlier run: read if they are intact, computed again if they are broken."""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)
_DIGEST_BYTES = 32
_BLOCK = 1 << 20


def read_or_none(path: Path, read: Callable[[Path], T], what: str) -> T | None:
    """What `read` returns for the path; None if nothing is there, or, with a warning, if it is broken.

    Args:
        path: file or folder.
        read: may raise any exception for a broken file. It checks sizes before it allocates memory.
        what: a name for the warning, such as "the kept probe".
    """
    if not os.path.lexists(path):
        return None
    try:
        return read(path)
    except Exception as error:  # a broken file can fail in any way, and computing again is always right
        _log.warning("%s %s is broken (%s); it is computed again", what, path, error or type(error).__name__)
        return None


def new_digest() -> hashlib.blake2b:
    """A digest to update with a file's content; its 32 bytes are written at the end of the file."""
    return hashlib.blake2b(digest_size=_DIGEST_BYTES)


def check_digest(path: Path, num_bytes: int) -> Path:
    """Check that a file consists of `num_bytes` bytes and their digest; return its path.

    Raises:
        ValueError: the size or the digest is wrong.
        OSError: the file cannot be read.
    """
    size = path.stat().st_size
    if size != num_bytes + _DIGEST_BYTES:
        raise ValueError(f"{path.name} has {size} bytes, not {num_bytes} and a digest")
    digest, left = new_digest(), num_bytes
    with path.open("rb") as file:
        while left and (block := file.read(min(left, _BLOCK))):
            digest.update(block)
            left -= len(block)
        if file.read() != digest.digest():
            raise ValueError(f"{path.name} was changed since it was written")
    return path
