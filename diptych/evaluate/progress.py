"""A progress bar on stderr, for people: none where stderr is no terminal."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def progress_bar(items: Iterable[T], description: str, total: float | None = None) -> Iterator[T]:
    """Yield items while a bar counts them; it vanishes at the end."""
    if not sys.stderr.isatty():
        yield from items
        return
    yield from track(items, description, total=total, console=Console(stderr=True), transient=True)
