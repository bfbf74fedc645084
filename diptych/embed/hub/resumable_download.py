"""Download a file by HTTP: resumed after a cut connection, checked against its published hash, complete or absent.

What arrives is kept in NAME.diptych.incomplete beside the target. It gets its name only when its size and its hash are
right. A process that finds such a file continues it.
"""

import contextlib
import dataclasses
import errno
import hashlib
import http.client
import logging
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from diptych.errors import DataError, WeightsError
from diptych.files import locked
from diptych.progress import progress_bar

logger = logging.getLogger(__name__)

_BLOCK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
_NUM_TRIES = 5  # in a row without a new byte
_PAUSE = 1.0  # seconds before the second try; doubled before each further one
_PATIENCE = 24 * 3600.0  # for another process that downloads the same file
_BUSY = (408, 429, 500, 502, 503, 504)
_FULL = {errno.ENOSPC, errno.EFBIG, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else [])}


class UnreachableError(WeightsError):
    """A server cannot be reached, or the connection was lost again and again."""


class StatusError(WeightsError):
    """A server refuses a request.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class DamagedError(WeightsError):
    """The content differs from what its publisher states."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file to download.

    Attributes:
        url: its address, http or https.
        path: the target.
        label: names it in messages.
        sha256: of the content, or the first digits of it; None if git_sha1 is given.
        git_sha1: of the content as a blob of git, which the hub states for small files.
        size: in bytes; None if only the server states it.
        headers: for the first server; they are not sent to another host after a redirect.
    """

    url: str
    path: Path
    label: str
    sha256: str | None = None
    git_sha1: str | None = None
    size: int | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


def is_intact(file: RemoteFile, path: Path | None = None) -> bool:
    """Whether a file with the right size and hash is there, at the target or at `path`."""
    path = path or file.path
    try:
        size = path.stat().st_size
        if not path.is_file() or (file.size is not None and size != file.size):
            return False
        digest = _Digest(file, size)
        with path.open("rb") as content:
            while block := content.read(_BLOCK):
                digest.update(block)
    except OSError:
        return False
    return digest.is_right()


def download(file: RemoteFile) -> None:
    """Download a file to its target, whose folder is created.

    Raises:
        UnreachableError: the server cannot be reached, or the connection was lost; what arrived is kept.
        StatusError: the server refuses.
        DamagedError: the content or its size is not what its publisher states; nothing is kept.
        WeightsError: the disk is full.
    """
    partial = file.path.with_name(f"{file.path.name}.diptych.incomplete")
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        with _only_writer(partial) as output:
            if is_intact(file):  # another process was faster
                partial.unlink()
                return
            _check_space(file, partial)
            for _ in progress_bar(_fill(file, output), f"{file.label}, MB", _megabytes(file), size=lambda n: n / 1e6):
                pass
            os.fsync(output.fileno())
            partial.replace(file.path)
    except DamagedError:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    except (UnreachableError, StatusError):
        with contextlib.suppress(OSError):
            if not partial.stat().st_size:
                partial.unlink()
        raise
    except OSError as error:
        raise _disk_error(file, error) from error


@contextlib.contextmanager
def _only_writer(partial: Path) -> Iterator[IO[bytes]]:
    """The unfinished file, locked for this process."""
    with contextlib.ExitStack() as stack:
        try:
            output = stack.enter_context(locked(partial, 0.0))
        except DataError:
            logger.warning("another process downloads %s; waiting for it", partial.name)
            output = stack.enter_context(locked(partial, _PATIENCE))
        yield output


def _fill(file: RemoteFile, output: IO[bytes]) -> Iterator[int]:
    """Append what is missing; yields numbers of bytes. If a resumed file turns out to be wrong, starts again once."""
    resumed = output.seek(0, os.SEEK_END)
    if file.size is not None and resumed > file.size:
        resumed = output.truncate(0)
    digest = _Digest(file, file.size)
    output.seek(0)
    while block := output.read(_BLOCK):
        digest.update(block)
        yield len(block)
    yield from _receive(file, output, digest)
    if digest.is_right():
        return
    if resumed:
        logger.warning("%s: what an earlier download left is damaged; starting again", file.label)
        output.truncate(0)
        yield from _fill(file, output)
        return
    raise DamagedError(
        f"{file.label} from {_host(file.url)} is not the published file: its hash is {digest.hex()}, not "
        f"{file.sha256 or file.git_sha1}. It was deleted. Repeat the command; if that does not help, the server or a "
        "proxy on the way is not to be trusted"
    )


def _receive(file: RemoteFile, output: IO[bytes], digest: "_Digest") -> Iterator[int]:
    """Append blocks from the server until the file is complete, with new connections where one breaks."""
    failures = 0
    while file.size is None or digest.count < file.size:
        before, problem = digest.count, "the connection was cut"
        try:
            with _open(file, digest.count) as response:
                if digest.count and response.status == 200:  # the server does not resume
                    output.truncate(0)
                    digest.restart()
                end = _end(file, response, digest.count)
                while block := response.read(_BLOCK):
                    if digest.count + len(block) > end:
                        raise DamagedError(
                            f"{file.label}: {_host(file.url)} sends more than the {end:,} bytes it states"
                        )
                    _write(file, output, block)
                    digest.update(block)
                    yield len(block)
                if digest.count == end:
                    return
        except (ConnectionError, TimeoutError, http.client.HTTPException, urllib.error.URLError) as error:
            problem = _reason(error)
            if isinstance(error, urllib.error.HTTPError) and error.code == 416 and file.size is None:
                return  # all of it had arrived before; the hash tells
            if isinstance(error, urllib.error.HTTPError) and error.code not in _BUSY:
                raise _status_error(file, error) from error
            if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
                raise UnreachableError(f"{_host(file.url)} cannot be reached: {problem}") from error
        failures = 0 if digest.count > before else failures + 1
        if failures >= _NUM_TRIES:
            raise UnreachableError(
                f"{file.label}: the connection to {_host(file.url)} broke {failures} times in a row after "
                f"{digest.count:,} bytes ({problem}). They are kept; run the same command again to resume"
            )
        if failures:
            time.sleep(_PAUSE * 2.0 ** (failures - 1))


def _open(file: RemoteFile, start: int) -> Any:
    """The response of the server from byte `start` on."""
    headers = {"User-Agent": "diptych", "Accept-Encoding": "identity", **file.headers}
    if start:
        headers["Range"] = f"bytes={start}-"
    _check_scheme(file.url)
    return urllib.request.build_opener(_Redirects).open(
        urllib.request.Request(file.url, headers=headers), timeout=_TIMEOUT
    )


def _end(file: RemoteFile, response: Any, start: int) -> int:
    """The file's size, after a check of what the server states about it."""
    length = response.headers.get("Content-Length", "")
    if not length.isdecimal():
        if file.size is None:
            raise StatusError(f"{_host(file.url)} does not state the size of {file.label}", response.status)
        return file.size
    stated = start + int(length)
    sent_range = response.headers.get("Content-Range", "")
    if start and response.status == 206 and not sent_range.startswith(f"bytes {start}-"):
        raise DamagedError(f"{file.label}: {_host(file.url)} sends the range {sent_range!r} instead of {start}-")
    if file.size is not None and stated != file.size:
        raise DamagedError(
            f"{file.label}: {_host(file.url)} sends {stated:,} bytes, and its publisher states {file.size:,}; nothing "
            "was kept. Repeat the command, or use another mirror"
        )
    return stated


def _write(file: RemoteFile, output: IO[bytes], block: bytes) -> None:
    view = memoryview(block)
    try:
        while view:
            view = view[output.write(view) :]
    except OSError as error:
        raise _disk_error(file, error) from error


class _Digest:
    """The hash of the bytes so far."""

    def __init__(self, file: RemoteFile, size: int | None) -> None:
        self._file, self._size = file, size
        self.restart()

    def restart(self) -> None:
        self.count = 0
        self._hash = hashlib.sha256() if self._file.sha256 is not None else hashlib.sha1(usedforsecurity=False)
        if self._file.sha256 is None:
            self._hash.update(f"blob {self._size}\0".encode())

    def update(self, block: bytes) -> None:
        self.count += len(block)
        self._hash.update(block)

    def hex(self) -> str:
        return self._hash.hexdigest()

    def is_right(self) -> bool:
        wanted = self._file.sha256 or self._file.git_sha1
        return bool(wanted) and self.hex().startswith(str(wanted).lower())


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects over http and https. A token for the hub is not sent to another host."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_scheme(newurl, before=req.full_url)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and _host(newurl) != _host(req.full_url):
            request.remove_header("Authorization")
        return request


def _check_scheme(url: str, before: str = "") -> None:
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in ("http", "https") or (before.startswith("https:") and scheme == "http"):
        raise UnreachableError(f"{_host(before or url)} leads to {url[:80]}, which is not followed")


def _check_space(file: RemoteFile, partial: Path) -> None:
    needed = (file.size or 0) - partial.stat().st_size
    free = shutil.disk_usage(partial.parent).free
    if needed > free:
        if not partial.stat().st_size:
            partial.unlink()
        raise WeightsError(
            f"{file.label} needs {needed / 1e6:,.0f} MB more, and the disk of {partial.parent} has only "
            f"{free / 1e6:,.0f} MB: free some space, or move the cache (HF_HOME, XDG_CACHE_HOME)"
        )


def _disk_error(file: RemoteFile, error: OSError) -> WeightsError:
    full = error.errno in _FULL
    advice = "free some space, or move the cache (HF_HOME, XDG_CACHE_HOME)"
    return WeightsError(
        f"{file.label} cannot be written into {file.path.parent}: {error.strerror or error}"
        + (f"; {advice}, and run the same command again to resume" if full else f"; {advice}")
    )


def _status_error(file: RemoteFile, error: urllib.error.HTTPError) -> StatusError:
    return StatusError(f"{_host(file.url)} refuses {file.label}: {error.code} {error.reason}", error.code)


def _megabytes(file: RemoteFile) -> float | None:
    return None if file.size is None else file.size / 1e6


def _reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc or url[:80]
