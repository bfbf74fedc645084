"""A progress bar on stderr; shown only if stderr is a terminal."""

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
    size: Callable[[T], float] = lambda item: 1,
    *,
    beside_rows: bool = False,
) -> Iterator[T]:
    """Yield the items and show a bar with their count, their rate and the time left. The bar disappears at the end.

    Args:
        total: the expected count; by default `len(items)`, if items has a length.
        size: how much an item adds to the count; for a batch of images, the number of images.
        beside_rows: the caller prints a row per result. If stdout is a terminal, these rows show the progress and no
            bar is drawn.
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
    """The bar; rich is imported here, because most runs show no bar."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        """The count, the total and the count per second."""

        def render(self, task: Task) -> Text:
            of = f"/{task.total:,.0f}" if task.total else ""
            rate = f"  {task.speed:,.0f}/s" if task.speed else ""
            return Text(f"{task.completed:,.0f}{of}{rate}")

    columns = (TextColumn("{task.description}"), BarColumn(), Rate(), TextColumn("left"), TimeRemainingColumn())
    # Rows printed while the bar is shown go to stdout unchanged, because stdout may be a file.
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
