"""Tables of numbers: one description, shown in a terminal, on a page, as Markdown and as LaTeX."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class Cell:
    """One number.

    Attributes:
        value: as shown, percent where the table says so; None shows an empty cell.
        low, high: its interval, shown where the form has room.
        bold: it is as good as the best of its column.
        published: it is the paper's own, and marked as such.
        digits: after the point.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    bold: bool = False
    published: bool = False
    digits: int = 1


@dataclasses.dataclass(frozen=True)
class NumberTable:
    """Rows of numbers with a name each.

    Attributes:
        title: what it shows.
        columns: names of all columns, the first being that of the rows' names.
        rows: name and cells; a cell may be words.
        notes: under it, a sentence or two each.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell | str]]]
    notes: Sequence[str] = ()
