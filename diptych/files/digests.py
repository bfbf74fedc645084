"""Files that were kept from an earlier run: read where they are whole, and computed again where they are broken."""

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
    """What `read` finds there; None where nothing is, or, with a notice, where it is broken.

    Args:
        path: file or folder.
        read: raises anything at all where it cannot be used. It checks sizes before it allocates.
        what: "the kept probe", for the notice.
    """
    if not os.path.lexists(path):
        return None
    try:
        return read(path)
    except Exception as error:  # a broken file can fail in any way, and computing again is always right
        _log.warning("%s %s is broken (%s); it is computed again", what, path, error or type(error).__name__)
        return None


def new_digest() -> hashlib.blake2b:
    """Of what is written; its 32 bytes stand at a file's end."""
    return hashlib.blake2b(digest_size=_DIGEST_BYTES)


def check_digest(path: Path, num_bytes: int) -> Path:
    """Refuse a file that is not so many bytes and their digest; returns its path.

    Raises:
        ValueError, OSError: it is not, or cannot be read.
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
