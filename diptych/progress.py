"""A progress bar on stderr; shown only if stderr is a terminal."""

import sys
import time
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
    status: Callable[[], str] = lambda: "",
    seconds_per_line: float | None = None,
) -> Iterator[T]:
    """Yield the items and show a bar with their count, their rate and the time left. The bar disappears at the end.

    Args:
        total: the expected count; by default `len(items)`, if items has a length.
        size: how much an item adds to the count; for a batch of images, the number of images.
        beside_rows: the caller prints a row per result. If stdout is a terminal, these rows show the progress and no
            bar is drawn.
        status: words shown at the end, such as what limits the rate.
        seconds_per_line: print lines instead, for a log file: at most one in this many seconds.
    """
    if seconds_per_line is not None:
        yield from _in_lines(items, description, total, size, status, seconds_per_line)
        return
    if not sys.stderr.isatty() or (beside_rows and sys.stdout.isatty()):
        yield from items
        return
    total = total or (len(items) if isinstance(items, Sized) else None)
    with _bar() as progress:
        bar = progress.add_task(description, total=total, status="")
        for item in items:
            yield item
            progress.update(bar, advance=size(item), status=status())


def _in_lines(
    items: Iterable[T],
    description: str,
    total: float | None,
    size: Callable[[T], float],
    status: Callable[[], str],
    seconds: float,
) -> Iterator[T]:
    start = last = time.monotonic()
    count = 0.0
    for item in items:
        yield item
        count += size(item)
        if (now := time.monotonic()) - last >= seconds:
            last = now
            print(progress_line(description, count, total, now - start, status()), file=sys.stderr, flush=True)


def progress_line(description: str, count: float, total: float | None, seconds: float, status: str) -> str:
    """Such as "ViT-B/32 (images): 1,200/10,000, 211/s, 42 s left, limited by decoding"."""
    rate = count / max(seconds, 1e-9)
    parts = [f"{count:,.0f}/{total:,.0f}" if total else f"{count:,.0f}", f"{rate:,.3g}/s"]
    if total and count:
        left = max(0.0, total - count) / rate
        parts.append(f"{left:.0f} s left" if left < 120 else f"{left / 60:.0f} min left")
    return f"{description}: {', '.join([*parts, *([status] if status else [])])}"


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

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        Rate(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    # Rows printed while the bar is shown go to stdout unchanged, because stdout may be a file.
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
