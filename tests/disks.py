"""Disks that are full or cannot be written, for tests: real ones where one may mount, or limits that act alike."""

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

_READ_ONLY, _REMOUNT = 1, 32
_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def small_disk(folder: Path, num_bytes: int) -> Iterator[Path]:
    """A file system of so many bytes; the test is skipped where this process may not mount one."""
    folder.mkdir(exist_ok=True)
    _mount(folder, f"size={num_bytes}")
    try:
        yield folder
    finally:
        _libc.umount2(str(folder).encode(), 2)


def make_read_only(disk: Path) -> None:
    """From now on, nothing can be written to the small disk, not by root either."""
    _mount(disk, "", _REMOUNT | _READ_ONLY)


def fill(disk: Path) -> Path:
    """Take all the space that is left; returns the file that does."""
    filler = disk / "filler"
    free = os.statvfs(disk)
    with filler.open("wb", buffering=0) as file:
        file.write(bytes(free.f_bavail * free.f_frsize))
    return filler


@contextlib.contextmanager
def limited_file_size(num_bytes: int) -> Iterator[None]:
    """Writing past so many bytes of any file fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def _mount(folder: Path, options: str, flags: int = 0) -> None:
    if _libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", flags, options.encode()):
        pytest.skip(f"no tmpfs can be mounted here: {os.strerror(ctypes.get_errno())}")
