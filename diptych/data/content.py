"""Fingerprints of a source's file contents, from a bounded number of bytes; independent of where the files are stored.

    content_fingerprint(source)     # identifies the data: a run resumes only on the data that it started with
    files_state(source)             # identifies this copy of the data: cached results are reused only for the same copy

The fingerprint covers all files that `read` opens, including images that a table names and captions next to images.
Up to 256 MiB in 16,384 files are read completely. Beyond that, evenly spaced files are read, and evenly spaced blocks
of large files: a different shard of equal size is detected, a change of a few bytes may not be. In that case
`files_state` also uses inode, mtime and ctime of every file; programs can set the mtime but not the ctime.
"""

import concurrent.futures
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

from diptych.data.source import Source, spaced
from diptych.files import open_regular

MAX_BYTES = 256 << 20
MAX_FILES = 16_384
_BLOCK = 64 << 10
_THREADS = 8
_MISSING = b"missing"
_Stat = tuple[int, ...]
# A data set is opened once per task. Within a process, an unchanged file is read only once.
_known: dict[tuple[_Stat, int], bytes] = {}


def content_fingerprint(source: Source) -> str:
    """SHA-256 of sampled content; "" for a source without files, whose own fingerprint is sufficient."""
    return _content(source)[0]


def files_state(source: Source) -> str:
    """A value that changes when the content of a source's files changes; "" for a source without files.

    If all bytes were read, it depends on the content only. Otherwise it also depends on inode and times, so that a copy
    of a large source counts as a different one.
    """
    content, whole = _content(source)
    if whole:
        return content
    digest = hashlib.sha256(content.encode())
    for path in source.files():
        digest.update(f"{path.name}\0{_stat(path)}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def path_fingerprint(path: Path) -> str | None:
    """The content fingerprint of a file, or of the files in a folder; None if the path is neither."""
    if path.is_file():
        return _sampled([path])[0]
    if not path.is_dir():
        return None
    files = sorted(file for file in path.rglob("*") if file.is_file())
    names = "\0".join(file.relative_to(path).as_posix() for file in files)
    content, _ = _sampled(spaced(files, MAX_FILES))
    return hashlib.sha256(f"{names}\0\0{content}".encode("utf-8", "surrogatepass")).hexdigest()


def file_mark(path: str | Path) -> str:
    """Size and short digest of one file, computed quickly. For a file above 64 KiB the digest covers the first and the
    last 32 KiB and the mtime. Missing files all give the same value.
    """
    path = Path(path)
    stat = _stat(path)
    digest = hashlib.sha256(_digest(path, stat, _BLOCK))
    if stat and stat[0] > _BLOCK:
        digest.update(f" {stat[3]}".encode())
    return f"{stat[0] if stat else 0}-{digest.hexdigest()[:16]}"


def _content(source: Source) -> tuple[str, bool]:
    """The fingerprint, and whether it covers every byte."""
    files = list(source.files(MAX_FILES))
    content, whole = _sampled(files)
    # The fingerprint is complete only if the source lists no further file without a limit.
    return content, whole and next(itertools.islice(source.files(), len(files), None), None) is None


def _sampled(files: Sequence[Path]) -> tuple[str, bool]:
    """SHA-256 over sizes and blocks of files, and whether the blocks cover all bytes."""
    if not files:
        return "", True
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        stats = list(pool.map(_stat, files))
        room = MAX_BYTES // len(files)
        whole = sum(stat[0] for stat in stats if stat) <= MAX_BYTES
        rooms = [stat[0] if whole and stat else room for stat in stats]
        digests = list(pool.map(_digest, files, stats, rooms))
    digest = hashlib.sha256()
    for stat, file_digest in zip(stats, digests, strict=True):
        digest.update(f"{stat[0] if stat else -1} ".encode() + file_digest)
    return digest.hexdigest(), whole


def _stat(path: Path) -> _Stat:
    """(size, inode, device, mtime, ctime); empty if there is no file."""
    try:
        stat = path.stat()
    except (OSError, ValueError):  # ValueError: an invalid file name
        return ()
    return (stat.st_size, stat.st_ino, stat.st_dev, stat.st_mtime_ns, stat.st_ctime_ns)


def _digest(path: Path, stat: _Stat, room: int) -> bytes:
    """Digest of the file's bytes, or of evenly spaced blocks that together have about `room` bytes."""
    if not stat:
        return _MISSING
    if (known := _known.get((stat, room))) is not None:
        return known
    size, digest = stat[0], hashlib.sha256()
    block = min(_BLOCK, max(1, room // 2))
    count = max(2, room // block)
    starts = [0] if size <= room else [index * (size - block) // (count - 1) for index in range(count)]
    try:
        with open_regular(path) as file:
            for start in starts:
                file.seek(start)
                left = size if len(starts) == 1 else block
                while left > 0 and (data := file.read(min(left, 1 << 20))):
                    digest.update(data)
                    left -= len(data)
    except OSError as error:
        return f"unreadable: {error.errno}".encode()
    if len(_known) > 8 * MAX_FILES:
        _known.clear()
    return _known.setdefault((stat, room), digest.digest())
