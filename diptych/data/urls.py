"""Images behind URLs as a Source: fetched in threads, in the order of the list. The key of an image is its URL."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from diptych.data.fetching import FetchLimits, fetch
from diptych.data.samples import MAX_TEXT_BYTES, decode_text
from diptych.data.source import Source
from diptych.errors import DataError
from diptych.files import open_regular, utf8
from diptych.records import Broken, Sample

URLS_PER_SHARD = 1000
_LONGEST_URL = 8192
MAX_URLS = 10_000_000


@dataclasses.dataclass(frozen=True)
class UrlSource(Source):
    """URLs of images; 1000 are a shard. An image that cannot be fetched is a broken sample.

    Attributes:
        urls: in reading order.
        limits: of each fetch.
        num_threads: fetches at a time.
    """

    urls: tuple[str, ...]
    limits: FetchLimits = FetchLimits()  # noqa: RUF009  (frozen)
    num_threads: int = 32

    @functools.cached_property
    def shards(self) -> tuple[str, ...]:
        """<first URL's number>."""
        return tuple(f"urls:{first}" for first in range(0, len(self.urls), URLS_PER_SHARD))

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the URLs; what is behind them may change."""
        return hashlib.sha256("\n".join(self.urls).encode("utf-8", "surrogatepass")).hexdigest()

    @functools.cached_property
    def num_samples(self) -> int | None:
        """The number of URLs."""
        return len(self.urls)

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """Up to 1000 images in the order of their URLs, at most two per thread ahead of the caller."""
        urls = iter(self.urls[index * URLS_PER_SHARD : (index + 1) * URLS_PER_SHARD])
        pool = concurrent.futures.ThreadPoolExecutor(self.num_threads, "diptych-fetch")
        pending: deque[concurrent.futures.Future[Sample | Broken]] = deque()
        with contextlib.ExitStack() as stack:
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
            for url in itertools.islice(urls, 2 * self.num_threads):
                pending.append(pool.submit(self._item, url, index))
            while pending:
                yield pending.popleft().result()
                pending.extend(pool.submit(self._item, url, index) for url in itertools.islice(urls, 1))

    def _item(self, url: str, index: int) -> Sample | Broken:
        try:
            content = fetch(url, self.limits)
        except DataError as error:
            return Broken(url, self.shards[index], str(error))
        return Sample(url, content) if content else Broken(url, self.shards[index], "an empty image")


def read_urls(path: str | Path) -> tuple[str, ...]:
    """The URLs of a file, one per line, or of stdin for "-". Blank lines and lines that begin with # are left out.

    Raises:
        DataError: the file cannot be read or is not UTF-8, a line is no URL, or there is none, or more than 10,000,000.
    """
    if str(path) == "-":
        return _urls(sys.stdin.buffer, "standard input")
    try:
        with open_regular(Path(path)) as file:
            return _urls(file, str(path))
    except OSError as error:
        raise DataError(f"cannot read the list of URLs {path}: {error.strerror}") from error


def _urls(file: BinaryIO, where: str) -> tuple[str, ...]:
    urls: dict[str, None] = {}  # a key occurs once
    for number in itertools.count(1):
        line = file.readline(MAX_TEXT_BYTES)
        if not line:
            break
        url = utf8(decode_text(line, f"line {number} of {where}").strip().removeprefix("\ufeff"))
        if not url or url.startswith("#"):
            continue
        if not url.lower().startswith(("http://", "https://")) or len(url) > _LONGEST_URL or " " in url:
            raise DataError(f"line {number} of {where} is no URL that begins with http:// or https://: {url[:100]}")
        urls[url] = None
        if len(urls) > MAX_URLS:
            raise DataError(f"{where} has more than {MAX_URLS:,} URLs; split it")
    if not urls:
        raise DataError(f"{where} has no URLs")
    return tuple(urls)
