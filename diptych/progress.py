"""A progress bar on stderr, for people: none where stderr is no terminal."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")


def progress_bar(
    items: Iterable[T],
    description: str,
    total: float | None = None,
    size: Callable[[T], int] = lambda item: 1,
    *,
    beside_rows: bool = False,
) -> Iterator[T]:
    """Yield items while a bar counts them, with their rate and the time left; it vanishes at the end.

    Args:
        total: how many are expected; by default the number of items, where they can be counted.
        size: how many an item counts for: a batch of pictures is as many.
        beside_rows: the caller prints what is found; on a terminal that is progress enough.
    """
    if not sys.stderr.isatty() or (beside_rows and sys.stdout.isatty()):
        yield from items
        return
    total = total or (len(items) if isinstance(items, Sized) else None)
    with _bar() as progress:
        bar = progress.add_task(description, total=total)
        for item in items:
            yield item
            progress.advance(bar, size(item))


def _bar() -> "Progress":
    """Imports what it is drawn with only here: most runs show none."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """How many are done, of how many, and how many a second."""

        def render(self, task: Task) -> Text:
            of = f"/{task.total:,.0f}" if task.total else ""
            rate = f"  {task.speed:,.0f}/s" if task.speed else ""
            return Text(f"{task.completed:,.0f}{of}{rate}")

    columns = (TextColumn("{task.description}"), BarColumn(), Rate(), TextColumn("left"), TimeRemainingColumn())
    # Rows that are printed while it is there go to stdout as they are, which may be a file.
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
