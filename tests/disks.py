"""Full or read-only disks for tests: real ones if this process may mount them, or limits with the same effect."""

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
    """A file system of this size. The test is skipped if this process may not mount one."""
    folder.mkdir(exist_ok=True)
    _mount(folder, f"size={num_bytes}")
    try:
        yield folder
    finally:
        _libc.umount2(str(folder).encode(), 2)


def make_read_only(disk: Path) -> None:
    """Make the small disk read-only, for root too."""
    _mount(disk, "", _REMOUNT | _READ_ONLY)


def fill(disk: Path) -> Path:
    """Take all the remaining space; returns the file that takes it."""
    filler = disk / "filler"
    free = os.statvfs(disk)
    with filler.open("wb", buffering=0) as file:
        file.write(bytes(free.f_bavail * free.f_frsize))
    return filler


@contextlib.contextmanager
def limited_file_size(num_bytes: int) -> Iterator[None]:
    """Writing beyond this size of any file fails, as on a full disk."""
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
