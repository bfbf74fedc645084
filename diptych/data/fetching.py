"""Fetch a file over HTTP or HTTPS: limited in time and size, and from public addresses only.

The standard library's client is used: no proxy, no cookies, no credentials, no compression. The name is resolved once,
its addresses are checked, and the connection goes to the checked address; each redirect is checked in the same way.
"""

import contextlib
import dataclasses
import functools
import http.client
import io
import socket
import ssl
import time
import urllib.parse
from collections.abc import Iterator

from diptych.data.addresses import checked_addresses
from diptych.data.samples import MAX_IMAGE_BYTES
from diptych.errors import DataError

_REDIRECTS = (301, 302, 303, 307, 308)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # the server may answer the next time
_BLOCK = 1 << 16
_HEADERS = {
    "User-Agent": "diptych",
    "Accept": "image/*,*/*;q=0.5",
    "Accept-Encoding": "identity",
}


@dataclasses.dataclass(frozen=True)
class FetchLimits:
    """What a fetch may take.

    Attributes:
        seconds: for one attempt, from the connection to the last byte, redirects included.
        num_bytes: size of the file.
        redirects: that are followed.
        retries: attempts after the first, if the server did not answer or asked to try again.
        allow_private: fetch from private, loopback and link-local addresses too.
    """

    seconds: float = 20.0
    num_bytes: int = MAX_IMAGE_BYTES
    redirects: int = 5
    retries: int = 2
    allow_private: bool = False


class _TryAgainError(DataError):
    """The next attempt may succeed."""


def fetch(url: str, limits: FetchLimits = FetchLimits(), *, pause: float = 1.0) -> bytes:
    """The content behind a URL. Its type is not looked at: whoever decodes it decides what it is.

    Args:
        pause: seconds before the second attempt; twice as many before each further one.
    Raises:
        DataError: the URL is not http or https, its address is not public, it is too large or too slow, or the server
            answers with an error. The message does not name the URL.
    """
    for attempt in range(limits.retries + 1):
        try:
            return _attempt(url, limits)
        except _TryAgainError as error:
            if attempt == limits.retries:
                raise DataError(f"{error} ({limits.retries + 1} attempts)" if limits.retries else str(error)) from None
            time.sleep(pause * 2**attempt)
    raise AssertionError("unreachable")


def _attempt(url: str, limits: FetchLimits) -> bytes:
    deadline = time.monotonic() + limits.seconds
    for _ in range(limits.redirects + 1):
        with _response(url, limits, deadline) as response:
            if response.status not in _REDIRECTS:
                return _content(response, limits)
            location = response.headers.get("Location")
        if not location:
            raise DataError(f"the server answers {response.status} without saying where to")
        url = urllib.parse.urljoin(url, location)
    raise DataError(f"more than {limits.redirects} redirects")


@contextlib.contextmanager
def _response(url: str, limits: FetchLimits, deadline: float) -> Iterator[http.client.HTTPResponse]:
    """The answer to GET, of the checked address; errors of the network become _TryAgainError."""
    parts, host, port = _parsed(url)
    target = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    target += f"?{urllib.parse.quote(parts.query, safe='/%:@!$&()*+,;=~-._?')}" if parts.query else ""
    try:
        sock = _connect(host, port, parts.scheme == "https", limits, deadline)
        with contextlib.closing(sock):
            connection = http.client.HTTPConnection(host, port)
            connection.sock = sock
            connection.response_class = functools.partial(_Response, deadline)  # type: ignore[assignment]
            connection.request("GET", target, headers=_HEADERS)
            with contextlib.closing(connection.getresponse()) as response:
                yield response
    except TimeoutError:
        raise _TryAgainError(f"no complete answer within {limits.seconds:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise DataError(f"its certificate is not valid: {error.verify_message}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise _TryAgainError(f"the connection failed: {str(error)[:200] or type(error).__name__}") from None


def _parsed(url: str) -> tuple[urllib.parse.SplitResult, str, int]:
    """The parts of a URL, its host and its port."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise DataError(f"not a URL: {error}") from None
    if parts.scheme not in ("http", "https"):
        raise DataError(f"only http and https are fetched, not {parts.scheme or 'a URL without either'!s:.20}")
    if parts.username is not None:
        raise DataError("a URL with a user name or a password is not fetched")
    if not host:
        raise DataError("the URL names no host")
    with contextlib.suppress(UnicodeError):
        host = host.encode("ascii").decode() if host.isascii() else host.encode("idna").decode()
    return parts, host, port or (443 if parts.scheme == "https" else 80)


def _connect(host: str, port: int, secure: bool, limits: FetchLimits, deadline: float) -> socket.socket:
    """A connection to one of the host's addresses, all of which are checked."""
    addresses = checked_addresses(host, port, allow_private=limits.allow_private)
    for number, (family, address) in enumerate(addresses):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(_left(deadline))
            sock.connect((address, port))
            return _tls().wrap_socket(sock, server_hostname=host) if secure else sock
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError) or number == len(addresses) - 1:
                raise
    raise OSError(f"{host} has no address")


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _left(deadline: float) -> float:
    """Seconds until the deadline."""
    if (left := deadline - time.monotonic()) <= 0:
        raise TimeoutError
    return left


class _TimedStream(io.RawIOBase):
    """A socket's bytes until a deadline, however slowly they come."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._socket, self._deadline = sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        self._socket.settimeout(_left(self._deadline))
        return self._socket.recv_into(buffer)


class _Response(http.client.HTTPResponse):
    """An HTTPResponse that reads until a deadline."""

    def __init__(self, deadline: float, sock: socket.socket, *arguments, **options) -> None:
        super().__init__(sock, *arguments, **options)
        self._holder = self.fp  # the connection may close its socket, which stays open until this is closed
        self.fp = io.BufferedReader(_TimedStream(sock, deadline))

    def close(self) -> None:
        super().close()
        self._holder.close()


def _content(response: http.client.HTTPResponse, limits: FetchLimits) -> bytes:
    if response.status in _AGAIN:
        raise _TryAgainError(f"the server answers {response.status}")
    if response.status != 200:
        raise DataError(f"the server answers {response.status}")
    too_large = f"larger than {limits.num_bytes >> 10} KiB"
    if response.length is not None and response.length > limits.num_bytes:
        raise DataError(too_large)
    stated, content = response.length, bytearray()
    while block := response.read1(_BLOCK):
        content += block
        if len(content) > limits.num_bytes:
            raise DataError(too_large)
    if stated is not None and len(content) < stated:
        raise _TryAgainError(f"the connection was cut after {len(content)} of {stated} bytes")
    return bytes(content)
