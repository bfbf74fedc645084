"""Bar charts as SVG."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from diptych.errors import InputError, ShapeError
from diptych.report.axes import linear_ticks, log_ticks
from diptych.report.display import NOTHING, readable, short_number
from diptych.report.svg import Drawing, element, line, text

WIDTH = 560
_ROW, _BAR = 22.0, 13.0
_TOP, _BOTTOM, _RIGHT = 44.0, 50.0, 16.0
_LETTER = 7.0  # width of a letter, rounded up
_LONGEST_NAME = 30
_VALUE_ROOM = 52.0  # room after the longest bar for its number


@dataclasses.dataclass(frozen=True)
class BarChart:
    """One horizontal bar per row.

    Attributes:
        rows: name and value, from top to bottom; negative bars go to the left.
        published: the paper's value for each row, or None; empty if no row has one.
        digits: decimal places of the numbers at the bars.
        log: use a logarithmic axis that starts at a power of ten; values must be positive.
        intervals: low and high of each row, drawn as whiskers, or None; empty if no row has one.
        remarks: by row name, the text to show if the row has no number.
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
    """A bar chart as one SVG element of the class "chart". The page's style must include STYLE.

    Raises:
        ShapeError: the number of paper values or intervals differs from the number of rows.
        InputError: a value is not finite, or not positive on a logarithmic axis.
    """
    return element(bar_drawing(chart))


def bar_drawing(chart: BarChart) -> Drawing:
    """Like `bar_chart`, but as a Drawing."""
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
    for index, (name, (_, value), paper) in enumerate(zip(names, chart.rows, published, strict=True)):
        y = _TOP + _ROW * (index + 0.5)
        parts.append(text(left - 8, y + 4.5, name, "", "end"))
        remark, interval = chart.remarks.get(chart.rows[index][0]), intervals[index]
        parts.append(_bar(value, paper, interval, y, scale, chart.digits, remark))
    parts.append(line(scale.zero, _TOP - 4, scale.zero, bottom, "axis"))
    if any(paper is not None for paper in published):
        end = WIDTH - _RIGHT
        parts += [_paper_marker(end - 60, 32), text(end, 36, "the paper", "name", "end")]
    return Drawing(Markup("").join(parts), WIDTH, bottom + _BOTTOM, chart.title)


def _checked(chart: BarChart) -> list[float]:
    """All numbers of the chart, including the paper's values and the interval ends, after checks."""
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
    """Map values to x coordinates; `zero` is the x at which bars begin."""

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
    y: float,
    scale: _Scale,
    digits: int,
    remark: str | None,
) -> Markup:
    """A bar with its number after the end of the bar, the paper's marker and the whisker.

    A row without a number shows the remark instead, or a dash. A row with only the paper's marker shows no text.
    """
    parts, end = [], scale.zero
    if value is not None:
        place = scale(value)
        form = '<rect class="bar f{}" x="{:.2f}" y="{:.2f}" width="{:.2f}" height="{}"/>'
        parts.append(
            Markup(form).format(
                1 if place < scale.zero else 0,
                min(place, scale.zero),
                y - _BAR / 2,
                abs(place - scale.zero),
                _BAR,
            )
        )
        end = place
    if paper is not None:
        parts.append(_paper_marker(scale(paper), y))
    is_left = end < scale.zero
    occupied_x = [end, *([scale(paper) + (-4 if is_left else 4)] if paper is not None else [])]
    if interval is not None:
        low, high = map(scale, interval)
        parts.append(line(low, y, high, y, "whisker ink"))
        parts += [line(x, y - 3, x, y + 3, "whisker ink") for x in (low, high)]
        occupied_x += [low, high]
    label_x = min(occupied_x) - 5 if is_left else max(occupied_x) + 5
    text_if_missing = remark or ("" if paper is not None else NOTHING)
    label = text_if_missing if value is None else f"{value:.{digits}f}".replace("-", "−")
    parts.append(text(label_x, y + 4.5, label, "soft" if value is None else "", "end" if is_left else "start"))
    return Markup("").join(parts)


def _paper_marker(x: float, y: float) -> Markup:
    """A hollow diamond that marks the paper's value."""
    corners = f"{x:.2f},{y - 6:.2f} {x + 4.5:.2f},{y:.2f} {x:.2f},{y + 6:.2f} {x - 4.5:.2f},{y:.2f}"
    return Markup('<polygon class="published" points="{}"/>').format(corners)
