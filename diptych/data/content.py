"""What the files of a source hold, told from a bounded part of their bytes: the same wherever the files lie.

    content_fingerprint(source)     # of the data: decides whether a run is resumed on what it began with
    files_state(source)             # of this copy of it: decides whether what was kept of it is used again

The files are all those that `read` opens: images that a table names, and captions beside images, too.
Up to 256 MiB in 16,384 files are read whole. Of more, evenly spaced files are read, and of large files evenly spaced
blocks: another shard of equal size is noticed, a change of a few bytes may not be. Then `files_state` looks at inode,
mtime and ctime of every file, too; programs can set the mtime, and no program sets the ctime.
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
# A set is opened once for each of its tasks: within a process, an unchanged file is read once.
_known: dict[tuple[_Stat, int], bytes] = {}


def content_fingerprint(source: Source) -> str:
    """SHA-256 of sampled content; "" for a source without files, whose own fingerprint tells all."""
    return _content(source)[0]


def files_state(source: Source) -> str:
    """Changes with the content of a source's files: where all was read with nothing else, otherwise with inode and
    times, too, so that a copy of a large source counts as another one. "" for a source without files.
    """
    content, whole = _content(source)
    if whole:
        return content
    digest = hashlib.sha256(content.encode())
    for path in source.files():
        digest.update(f"{path.name}\0{_stat(path)}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def path_fingerprint(path: Path) -> str | None:
    """The same of a file, or of the files in a folder; None where there is neither."""
    if path.is_file():
        return _sampled([path])[0]
    if not path.is_dir():
        return None
    files = sorted(file for file in path.rglob("*") if file.is_file())
    names = "\0".join(file.relative_to(path).as_posix() for file in files)
    content, _ = _sampled(spaced(files, MAX_FILES))
    return hashlib.sha256(f"{names}\0\0{content}".encode("utf-8", "surrogatepass")).hexdigest()


def file_mark(path: str | Path) -> str:
    """Size and a short digest of one file, quickly: of a file above 64 KiB the first and the last 32 KiB and the mtime
    tell it from another. The same for all that cannot be read.
    """
    path = Path(path)
    stat = _stat(path)
    digest = hashlib.sha256(_digest(path, stat, _BLOCK))
    if stat and stat[0] > _BLOCK:
        digest.update(f" {stat[3]}".encode())
    return f"{stat[0] if stat else 0}-{digest.hexdigest()[:16]}"


def _content(source: Source) -> tuple[str, bool]:
    """The fingerprint, and whether every byte went into it."""
    files = list(source.files(MAX_FILES))
    content, whole = _sampled(files)
    # There is no file beyond those: asked without a limit, the source names no more.
    return content, whole and next(itertools.islice(source.files(), len(files), None), None) is None


def _sampled(files: Sequence[Path]) -> tuple[str, bool]:
    """SHA-256 over sizes and blocks of files, and whether these are all of their bytes."""
    if not files:
        return "", True
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        stats = list(pool.map(_stat, files))
        room = MAX_BYTES // len(files)
        whole = sum(stat[0] for stat in stats if stat) <= MAX_BYTES
        rooms = [stat[0] if whole and stat else room for stat in stats]
        digests = list(pool.map(_digest, files, stats, rooms))
    digest = hashlib.sha256()
    for stat, one in zip(stats, digests, strict=True):
        digest.update(f"{stat[0] if stat else -1} ".encode() + one)
    return digest.hexdigest(), whole


def _stat(path: Path) -> _Stat:
    """(size, inode, device, mtime, ctime); empty where there is no file."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # a name that no file can have
        return ()
    return (found.st_size, found.st_ino, found.st_dev, found.st_mtime_ns, found.st_ctime_ns)


def _digest(path: Path, stat: _Stat, room: int) -> bytes:
    """Of the file's bytes, or of blocks from its beginning to its end that hold about `room` bytes together."""
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
