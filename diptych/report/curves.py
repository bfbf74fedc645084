"""Line charts with linear and logarithmic axes, as SVG: data in, markup out.

One drawing serves as a file of its own, which carries its colours with it, and as a part of a page, whose style
includes STYLE. Sizes are in the units of the drawing, pixels at its natural size.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from markupsafe import Markup

from diptych.errors import ShapeError
from diptych.report import formats

WIDTH, HEIGHT = 560, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 34, 52  # margins around the plot area
_LEGEND_LINE = 18
_NUM_COLOURS = 5

# Light and dark schemes; curves are told apart by lightness too, and by their markers.
STYLE = (Path(__file__).parent / "templates" / "chart.css").read_text(encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        label: its line in the legend; "" for none.
        x, y: its points, finite; those that an axis cannot show (0 on a logarithmic one) are left out.
        low, high: interval of each point, or None.
        colour: 0 to 4; it chooses the marker too.
        form: "points" (markers, joined), "markers" (not joined), "line", "dashed", or "thin".
        band: draw the intervals as one band, not as a whisker at each point.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    colour: int = 0
    form: str = "points"
    band: bool = False

    def __post_init__(self) -> None:
        given = [len(values) for values in (self.x, self.y, self.low, self.high) if values is not None]
        if len(set(given)) != 1 or not 0 <= self.colour < _NUM_COLOURS:
            raise ShapeError(f"the series {self.label!r} has columns of lengths {given} and the colour {self.colour}")


@dataclasses.dataclass(frozen=True)
class Chart:
    """Axes and what is drawn on them.

    Attributes:
        x_base: 2 or 10 for a logarithmic axis with ticks there; None for a linear one from 0. Likewise y_base.
        legend: the corner of the legend: "top left", "top right" or "bottom left".
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    x_base: int | None = None
    y_base: int | None = None
    legend: str = "top left"


def line_chart(chart: Chart) -> Markup:
    """A chart as one SVG element of the class "chart"; the page's style must include STYLE."""
    return _svg(_drawing(chart), chart.title, WIDTH)


def picture(charts: Sequence[Chart]) -> str:
    """Charts beside each other as the text of an SVG file that follows the light and the dark scheme."""
    parts = [
        Markup('<g transform="translate({} 0)">{}</g>').format(place * WIDTH, _drawing(chart))
        for place, chart in enumerate(charts)
    ]
    paper = Markup('<rect width="100%" height="100%" fill="var(--chart-paper)"/>')
    style = Markup("<style>{}</style>").format(Markup(STYLE))
    title = "; ".join(chart.title for chart in charts)
    return str(_svg(style + paper + Markup("").join(parts), title, WIDTH * len(charts))) + "\n"


def _svg(content: Markup, title: str, width: int) -> Markup:
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {0} {1}" width="{0}" height="{1}" '
        'role="img" aria-label="{2}">{3}</svg>'
    ).format(width, HEIGHT, title, content)


def _drawing(chart: Chart) -> Markup:
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    series = [_visible(one, chart) for one in chart.series]
    x = _Axis([value for one in series for value in one.x], chart.x_base, _LEFT, right)
    heights = [
        value for one in series for values in (one.y, one.low, one.high) if values is not None for value in values
    ]
    y = _Axis(heights, chart.y_base, bottom, _TOP)
    parts = [
        _text(_LEFT, 18, chart.title, "title"),
        _text((_LEFT + right) / 2, HEIGHT - 10, chart.x_label, "soft", "middle"),
    ]
    middle = (_TOP + bottom) / 2
    parts.append(
        Markup('<text class="soft" transform="translate(14 {}) rotate(-90)" text-anchor="middle">{}</text>').format(
            _round(middle), chart.y_label
        )
    )
    for tick in y.ticks:
        parts.append(_line(_LEFT, y(tick), right, y(tick), "grid"))
        parts.append(_text(_LEFT - 8, y(tick) + 4, formats.short_number(tick), "soft", "end"))
    for tick in x.ticks:
        parts.append(_line(x(tick), bottom, x(tick), bottom + 5, "axis"))
        parts.append(_text(x(tick), bottom + 20, formats.short_number(tick), "soft", "middle"))
    parts.append(_line(_LEFT, bottom, right, bottom, "axis"))
    parts += [_curve(one, x, y) for one in series]
    return Markup("").join(parts) + _legend(chart)


class _Axis:
    """From values to places on the drawing, with the ticks between."""

    def __init__(self, values: Sequence[float], base: int | None, start: float, end: float) -> None:
        low, high = (min(values), max(values)) if values else (1.0, 2.0)
        self._scale: Callable[[float], float] = float
        if base is None:
            low, high = 0.0, max(high * 1.04, 1e-9)
            self.ticks = linear_ticks(low, high, 5)
        else:
            self._scale, first = math.log, low
            room = (high / low) ** 0.04 if high > low else 1.5
            low, high = low / room, high * room
            self.ticks = doublings(first, high) if base == 2 else log_ticks(low, high)
        self._low, self._high = self._scale(low), self._scale(high)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (self._scale(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)


def linear_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers in [low, high], about `count` of them."""
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * number for number in range(first, last + 1)]


def doublings(first: float, high: float) -> list[float]:
    """`first`, twice that, ... up to `high`; of more than eight every second, third, ..."""
    number = math.floor(math.log2(high / first) + 1e-9) + 1
    return [first * 2.0**power for power in range(0, number, max(1, -(-number // 8)))]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers in [low, high] for a logarithmic axis: 1, 2, 5 a decade; evenly spaced ones on a short axis."""
    if high / low < 8:
        return [tick for tick in linear_ticks(low, high, 5) if tick > 0]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high / low < 2000 else (1,)
    found = [factor * 10.0**power for power in decades for factor in factors]
    return [tick for tick in found if low <= tick <= high]


def _visible(series: Series, chart: Chart) -> Series:
    """The points that logarithmic axes can show; an interval that reaches 0 ends at a tenth of its point there."""
    kept = [
        place
        for place, (x, y) in enumerate(zip(series.x, series.y, strict=True))
        if math.isfinite(x + y) and (chart.x_base is None or x > 0) and (chart.y_base is None or y > 0)
    ]
    x, y = ([values[place] for place in kept] for values in (series.x, series.y))
    low, high = (None if v is None else [v[place] for place in kept] for v in (series.low, series.high))
    if low is not None and chart.y_base is not None:
        low = [bound if bound > 0 else point / 10 for bound, point in zip(low, y, strict=True)]
    return dataclasses.replace(series, x=x, y=y, low=low, high=high)


def _curve(series: Series, x: _Axis, y: _Axis) -> Markup:
    places = [(x(a), y(b)) for a, b in zip(series.x, series.y, strict=True)]
    parts = []
    if series.low is not None and series.high is not None:
        lows = [(x(a), y(b)) for a, b in zip(series.x, series.low, strict=True)]
        highs = [(x(a), y(b)) for a, b in zip(series.x, series.high, strict=True)]
        if series.band:
            parts.append(
                Markup('<polygon class="band f{}" points="{}"/>').format(series.colour, _points([*lows, *highs[::-1]]))
            )
        else:
            whisker = f"whisker s{series.colour}"
            parts += [_line(a, b, c, d, whisker) for (a, b), (c, d) in zip(lows, highs, strict=True)]
    form = {"dashed": " dashed", "thin": " thin"}.get(series.form, "")
    if series.form != "markers":
        parts.append(Markup('<polyline class="curve s{}{}" points="{}"/>').format(series.colour, form, _points(places)))
    if series.form in ("points", "markers"):
        parts += [_marker(a, b, series.colour) for a, b in places]
    return Markup("").join(parts)


def _legend(chart: Chart) -> Markup:
    named = [one for one in chart.series if one.label]
    vertical, side = chart.legend.split()
    x = _LEFT + 12 if side == "left" else WIDTH - _RIGHT - 12 - max([0, *(7 * len(one.label) for one in named)]) - 34
    y = _TOP + 16 if vertical == "top" else HEIGHT - _BOTTOM - 10 - _LEGEND_LINE * (len(named) - 1)
    parts = []
    for place, one in enumerate(named):
        height = y + place * _LEGEND_LINE
        form = {"dashed": " dashed", "thin": " thin"}.get(one.form, "")
        if one.form != "markers":
            parts.append(_line(x, height - 4, x + 24, height - 4, f"curve s{one.colour}{form}"))
        if one.form in ("points", "markers"):
            parts.append(_marker(x + 12, height - 4, one.colour))
        parts.append(_text(x + 34, height, one.label))
    return Markup("").join(parts)


def _marker(x: float, y: float, colour: int) -> Markup:
    """A disc, a square, a diamond, a triangle, or a square on its side: forms differ where colours cannot be told."""
    shapes: dict[int, list[tuple[float, float]]] = {
        1: [(-4, -4), (4, -4), (4, 4), (-4, 4)],
        2: [(0, -6), (6, 0), (0, 6), (-6, 0)],
        3: [(0, -6), (5.5, 4), (-5.5, 4)],
        4: [(0, 6), (5.5, -4), (-5.5, -4)],
    }
    if colour not in shapes:
        return Markup('<circle class="f{}" cx="{}" cy="{}" r="4.5"/>').format(colour, _round(x), _round(y))
    corners = _points([(x + a, y + b) for a, b in shapes[colour]])
    return Markup('<polygon class="f{}" points="{}"/>').format(colour, corners)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(kind, *map(_round, (x1, y1, x2, y2)))


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, _round(x), _round(y), anchor, text
    )


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_round(a)},{_round(b)}" for a, b in places)


def _round(value: float) -> str:
    return f"{np.round(value, 2):g}"
