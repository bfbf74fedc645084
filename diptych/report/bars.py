"""Bar charts, as SVG: data in, markup out."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from diptych.errors import InputError, ShapeError
from diptych.report.axes import linear_ticks, log_ticks
from diptych.report.formats import NOTHING, readable, short_number
from diptych.report.svg import Drawing, element, line, text

WIDTH = 560
_ROW, _BAR = 22.0, 13.0
_TOP, _BOTTOM, _RIGHT = 44.0, 50.0, 16.0
_LETTER = 7.0  # width of a letter, generously
_LONGEST_NAME = 30
_VALUE_ROOM = 52.0  # beyond the longest bar, for its number


@dataclasses.dataclass(frozen=True)
class BarChart:
    """One horizontal bar per row.

    Attributes:
        rows: name and value, in drawing order from the top; negative bars go to the left.
        published: beside each row, the paper's value, or None; empty where there is none at all.
        digits: after the point, in the number at a bar's end.
        log: a logarithmic axis from the smallest power of ten; values must be positive.
        intervals: low and high of each row, drawn as whiskers, or None; empty where there is none at all.
        remarks: words in place of the number of a row that has none, by its name.
    """

    title: str
    x_label: str
    rows: Sequence[tuple[str, float | None]]
    published: Sequence[float | None] = ()
    digits: int = 1
    log: bool = False
    intervals: Sequence[tuple[float, float] | None] = ()
    remarks: Mapping[str, str] = dataclasses.field(default_factory=dict)


def bar_chart(chart: BarChart) -> Markup:
    """A bar chart as one SVG element of the class "chart", as high as its rows need; the page's style includes STYLE.

    Raises:
        ShapeError: the paper's values are not one per row.
        InputError: a value is not finite, or not positive on a logarithmic axis.
    """
    return element(bar_drawing(chart))


def bar_drawing(chart: BarChart) -> Drawing:
    """The same as a drawing; see `bar_chart`."""
    shown = _checked(chart)
    names = [readable(name, _LONGEST_NAME) for name, _ in chart.rows]
    left = 20 + _LETTER * max([4, *map(len, names)])
    negative = not chart.log and any(value < 0 for value in shown)
    scale = _Scale(shown, chart.log, left + (_VALUE_ROOM if negative else 0), WIDTH - _RIGHT - _VALUE_ROOM)
    bottom = _TOP + _ROW * len(chart.rows) + 4
    parts = [text(16, 18, chart.title, "title")]
    for tick in scale.ticks:
        parts.append(line(scale(tick), _TOP - 4, scale(tick), bottom, "grid"))
        parts.append(text(scale(tick), bottom + 16, short_number(tick).replace("-", "−"), "soft", "middle"))
    parts.append(text((left + WIDTH - _RIGHT) / 2, bottom + 40, chart.x_label, "soft", "middle"))
    published = chart.published or [None] * len(chart.rows)
    intervals = chart.intervals or [None] * len(chart.rows)
    for place, (name, (_, value), paper) in enumerate(zip(names, chart.rows, published, strict=True)):
        middle = _TOP + _ROW * (place + 0.5)
        parts.append(text(left - 8, middle + 4.5, name, "", "end"))
        beyond, side = chart.remarks.get(chart.rows[place][0]), intervals[place]
        parts.append(_bar(value, paper, side, middle, scale, chart.digits, beyond))
    parts.append(line(scale.zero, _TOP - 4, scale.zero, bottom, "axis"))
    if any(paper is not None for paper in published):
        end = WIDTH - _RIGHT
        parts += [_mark(end - 60, 32), text(end, 36, "the paper", "name", "end")]
    return Drawing(Markup("").join(parts), WIDTH, bottom + _BOTTOM, chart.title)


def _checked(chart: BarChart) -> list[float]:
    """All values and the paper's."""
    if chart.published and len(chart.published) != len(chart.rows):
        raise ShapeError(f"{chart.title}: {len(chart.rows)} bars and {len(chart.published)} values of the paper")
    if chart.intervals and len(chart.intervals) != len(chart.rows):
        raise ShapeError(f"{chart.title}: {len(chart.rows)} bars and {len(chart.intervals)} intervals")
    ends = [end for interval in chart.intervals if interval for end in interval]
    shown = [value for value in (*(value for _, value in chart.rows), *chart.published, *ends) if value is not None]
    if not all(map(math.isfinite, shown)) or (chart.log and min(shown, default=1) <= 0):
        raise InputError(f"{chart.title}: bars need {'positive' if chart.log else 'finite'} numbers; got {shown}")
    return shown


class _Scale:
    """From values to places across; `zero` is where bars begin."""

    def __init__(self, values: Sequence[float], log: bool, start: float, end: float) -> None:
        self._log, self._start, self._end = log, start, end
        if log:
            low = 10.0 ** math.floor(math.log10(min(values, default=1.0)) + 1e-12)
            high = max(values, default=10.0)
            high = high if high > low else 10 * low
            self.ticks = log_ticks(low, high)
            self.ticks = self.ticks if len(self.ticks) <= 8 else [tick for tick in self.ticks if f"{tick:e}"[0] == "1"]
        else:
            low, high = min([0.0, *values]), max([0.0, *values])
            high = high if high > low else 1.0
            self.ticks = linear_ticks(low, high, 5)
        self._low, self._high = self._of(low), self._of(high)
        self.zero = self(low if log else 0.0)

    def _of(self, value: float) -> float:
        return math.log(value) if self._log else value

    def __call__(self, value: float) -> float:
        share = (self._of(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)


def _bar(
    value: float | None,
    paper: float | None,
    interval: tuple[float, float] | None,
    middle: float,
    scale: _Scale,
    digits: int,
    remark: str | None,
) -> Markup:
    """A bar with its number at its end, beyond the paper's mark and the whisker if they are farther out.

    A row without a number has the remark in its place, or else a dash, but nothing beside the paper's mark alone.
    """
    parts, end = [], scale.zero
    if value is not None:
        place = scale(value)
        form = '<rect class="bar f{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{}"/>'
        parts.append(
            Markup(form).format(
                1 if place < scale.zero else 0,
                min(place, scale.zero),
                middle - _BAR / 2,
                abs(place - scale.zero),
                _BAR,
            )
        )
        end = place
    if paper is not None:
        parts.append(_mark(scale(paper), middle))
    to_the_left = end < scale.zero
    ends = [end, *([scale(paper) + (-4 if to_the_left else 4)] if paper is not None else [])]
    if interval is not None:
        low, high = map(scale, interval)
        parts.append(line(low, middle, high, middle, "whisker ink"))
        parts += [line(x, middle - 3, x, middle + 3, "whisker ink") for x in (low, high)]
        ends += [low, high]
    beyond = min(ends) - 5 if to_the_left else max(ends) + 5
    missing = remark or ("" if paper is not None else NOTHING)
    words = missing if value is None else f"{value:.{digits}f}".replace("-", "−")
    parts.append(text(beyond, middle + 4.5, words, "soft" if value is None else "", "end" if to_the_left else "start"))
    return Markup("").join(parts)


def _mark(x: float, y: float) -> Markup:
    """The paper's value: a hollow diamond."""
    corners = f"{x:.2f},{y - 6:.2f} {x + 4.5:.2f},{y:.2f} {x:.2f},{y + 6:.2f} {x - 4.5:.2f},{y:.2f}"
    return Markup('<polygon class="published" points="{}"/>').format(corners)
