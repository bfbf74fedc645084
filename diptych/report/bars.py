"""Bar charts, as SVG: data in, markup out."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class BarChart:
    """One horizontal bar per row.

    Attributes:
        rows: name and value, in drawing order from the top; negative bars go to the left.
        published: beside each row, the paper's value, or None; empty where there is none at all.
        digits: after the point, in the number at a bar's end.
        log: a logarithmic axis from the smallest power of ten; values must be positive.
    """

    title: str
    x_label: str
    rows: Sequence[tuple[str, float | None]]
    published: Sequence[float | None] = ()
    digits: int = 1
    log: bool = False
