"""Line charts with linear, logarithmic and logit axes, as SVG: data in, markup out.

One drawing serves as a file of its own, which carries its colours with it, and as a part of a page, whose style
includes STYLE. Sizes are in the units of the drawing, pixels at its natural size.
"""

import dataclasses
import math
from collections.abc import Sequence

from markupsafe import Markup

from diptych.errors import ShapeError
from diptych.report import formats
from diptych.report.axes import Axis, doublings, linear_ticks, log_ticks
from diptych.report.names import Box, place_names, point_boxes
from diptych.report.svg import STYLE, Drawing, element, line, marker, points, svg_file, text, upright

__all__ = [
    "STYLE",
    "Chart",
    "Series",
    "chart_drawing",
    "doublings",
    "line_chart",
    "linear_ticks",
    "log_ticks",
    "picture",
]

WIDTH, HEIGHT = 560, 400
SMALL = (340.0, 270.0)  # one of many charts beside each other
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 34, 52  # margins around the plot area
_LEGEND_LINE = 18
_LEGEND_SHARE = 0.5  # of the plot's height; a legend that is higher stands below the plot
_NUM_COLOURS = 5


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
        names: of the points, or empty; those for which there is room stand beside them, and a pointer that rests on a
            marker is told all of them.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    colour: int = 0
    form: str = "points"
    band: bool = False
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        given = [len(values) for values in (self.x, self.y, self.low, self.high) if values is not None]
        given += [len(self.names)] if self.names else []
        if len(set(given)) != 1 or not 0 <= self.colour < _NUM_COLOURS:
            raise ShapeError(f"the series {self.label!r} has columns of lengths {given} and the colour {self.colour}")


@dataclasses.dataclass(frozen=True)
class Chart:
    """Axes and what is drawn on them.

    Attributes:
        x_base: 2 or 10 for a logarithmic axis with ticks there; None for a linear one. Likewise y_base.
        legend: the corner of the legend: "top left", "top right", "bottom left" or "bottom right"; one that would
            cover much of the curves stands below them.
        x_from_zero, y_from_zero: a linear axis begins at 0, if nothing is negative; else it is as long as the data.
        logit: both axes are spaced by log(p / (100 - p)); values are percent, and those of 0 and 100 are left out.
        diagonal: a dashed line where y = x.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    x_base: int | None = None
    y_base: int | None = None
    legend: str = "top left"
    x_from_zero: bool = True
    y_from_zero: bool = True
    logit: bool = False
    diagonal: bool = False


def line_chart(chart: Chart) -> Markup:
    """A chart as one SVG element of the class "chart"; the page's style must include STYLE."""
    return element(chart_drawing(chart))


def picture(charts: Sequence[Chart]) -> str:
    """Charts beside each other as the text of an SVG file that follows the light and the dark scheme."""
    return svg_file([chart_drawing(chart) for chart in charts], len(charts))


def chart_drawing(chart: Chart, size: tuple[float, float] = (WIDTH, HEIGHT)) -> Drawing:
    """A chart of this width and height."""
    width, height = size
    right, bottom = width - _RIGHT, height - _BOTTOM
    series = [_visible(one, chart) for one in chart.series]
    across = [value for one in series for value in one.x]
    x = Axis(across, chart.x_base, _LEFT, right, from_zero=chart.x_from_zero, logit=chart.logit)
    heights = [v for one in series for values in (one.y, one.low, one.high) if values is not None for v in values]
    y = Axis(heights, chart.y_base, bottom, _TOP, from_zero=chart.y_from_zero, logit=chart.logit)
    parts = [
        text(_LEFT, 18, chart.title, "title"),
        text((_LEFT + right) / 2, height - 10, chart.x_label, "soft", "middle"),
        upright(14, (_TOP + bottom) / 2, chart.y_label),
    ]
    for tick in y.ticks:
        parts.append(line(_LEFT, y(tick), right, y(tick), "grid"))
        parts.append(text(_LEFT - 8, y(tick) + 4, formats.short_number(tick), "soft", "end"))
    for tick in _apart(x, right):
        parts.append(line(x(tick), bottom, x(tick), bottom + 5, "axis"))
        parts.append(text(x(tick), bottom + 20, formats.short_number(tick), "soft", "middle"))
    parts.append(line(_LEFT, bottom, right, bottom, "axis"))
    if chart.diagonal and (least := max(x.low, y.low)) < (most := min(x.high, y.high)):
        parts.append(line(x(least), y(least), x(most), y(most), "diagonal"))
    parts += [_curve(one, x, y) for one in series]
    legend = _Legend.of(chart, size)
    parts += [_names(series, x, y, (_LEFT, _TOP - 6, right + 4, bottom), legend.box)]
    return Drawing(Markup("").join(parts) + legend.drawn(chart), width, height + legend.below, chart.title)


def _apart(axis: Axis, end: float) -> list[float]:
    """The ticks of an axis across, without those whose numbers would touch the one before."""
    kept: list[float] = []
    for tick in axis.ticks:
        if not kept or axis(tick) - axis(kept[-1]) >= 7 * (len(formats.short_number(tick)) + 1):
            kept.append(tick)
    return [tick for tick in kept if axis(tick) <= end + 1]


def _visible(series: Series, chart: Chart) -> Series:
    """The points that the axes can show; an interval that reaches 0 on a logarithm ends at a tenth of its point."""
    kept = [
        place
        for place, (x, y) in enumerate(zip(series.x, series.y, strict=True))
        if math.isfinite(x + y)
        and (chart.x_base is None or x > 0)
        and (chart.y_base is None or y > 0)
        and not (chart.logit and not (0 < x < 100 and 0 < y < 100))
    ]
    x, y = ([values[place] for place in kept] for values in (series.x, series.y))
    low, high = (None if v is None else [v[place] for place in kept] for v in (series.low, series.high))
    if low is not None and chart.y_base is not None:
        low = [bound if bound > 0 else point / 10 for bound, point in zip(low, y, strict=True)]
    if low is not None and high is not None and chart.logit:
        low, high = [max(bound, 0.01) for bound in low], [min(bound, 99.99) for bound in high]
    names = [series.names[place] for place in kept] if series.names else ()
    return dataclasses.replace(series, x=x, y=y, low=low, high=high, names=names)


def _curve(series: Series, x: Axis, y: Axis) -> Markup:
    places = [(x(a), y(b)) for a, b in zip(series.x, series.y, strict=True)]
    parts = []
    if series.low is not None and series.high is not None:
        lows = [(x(a), y(b)) for a, b in zip(series.x, series.low, strict=True)]
        highs = [(x(a), y(b)) for a, b in zip(series.x, series.high, strict=True)]
        if series.band:
            area = points([*lows, *highs[::-1]])
            parts.append(Markup('<polygon class="band f{}" points="{}"/>').format(series.colour, area))
        else:
            whisker = f"whisker s{series.colour}"
            parts += [line(a, b, c, d, whisker) for (a, b), (c, d) in zip(lows, highs, strict=True)]
    form = {"dashed": " dashed", "thin": " thin"}.get(series.form, "")
    if series.form != "markers":
        parts.append(Markup('<polyline class="curve s{}{}" points="{}"/>').format(series.colour, form, points(places)))
    if series.form in ("points", "markers"):
        names = series.names or [""] * len(places)
        parts += [marker(a, b, series.colour, name) for (a, b), name in zip(places, names, strict=True)]
    return Markup("").join(parts)


def _names(series: Sequence[Series], x: Axis, y: Axis, inside: Box, legend: Box) -> Markup:
    """Names beside points; every marker of the chart keeps its place, named or not."""
    places = [[(x(a), y(b)) for a, b in zip(one.x, one.y, strict=True)] for one in series]
    marked = [
        spot for one, some in zip(series, places, strict=True) if one.form in ("points", "markers") for spot in some
    ]
    taken = [*point_boxes(marked), legend]
    return Markup("").join(
        place_names(some, one.names, inside, taken) for one, some in zip(series, places, strict=True) if one.names
    )


@dataclasses.dataclass(frozen=True)
class _Legend:
    """Where the legend stands.

    Attributes:
        places: left and top of each of its lines.
        box: what it covers of the plot: left, top, right and bottom; empty where it stands below.
        below: height that it adds to the drawing.
    """

    places: Sequence[tuple[float, float]]
    box: Box = (0.0, 0.0, 0.0, 0.0)
    below: float = 0.0

    @classmethod
    def of(cls, chart: Chart, size: tuple[float, float]) -> "_Legend":
        """The legend of a chart: in its corner, or in two columns below where it would cover too much."""
        labels = [one.label for one in chart.series if one.label]
        width = max([0.0, *(7.0 * len(label) for label in labels)]) + 34
        deep = float(_LEGEND_LINE * len(labels))
        if deep > _LEGEND_SHARE * (size[1] - _TOP - _BOTTOM):
            room = size[0] - 2 * _RIGHT
            columns = max(1, int(room // (6.5 * max(map(len, labels)) + 40)))
            rows = math.ceil(len(labels) / columns)
            spots = [divmod(place, rows) for place in range(len(labels))]
            places = [(_RIGHT + room / columns * column, size[1] + _LEGEND_LINE * row) for column, row in spots]
            return cls(places, below=float(_LEGEND_LINE * rows + 6))
        vertical, side = chart.legend.split()
        left = _LEFT + 12 if side == "left" else size[0] - _RIGHT - 12 - width
        top = _TOP + 2.0 if vertical == "top" else size[1] - _BOTTOM - 6 - deep
        box = (left, top, left + width, top + deep) if labels else cls.box
        return cls([(left, top + _LEGEND_LINE * place) for place in range(len(labels))], box)

    def drawn(self, chart: Chart) -> Markup:
        """A sample of each curve, and its name."""
        parts = []
        for (x, top), one in zip(self.places, (one for one in chart.series if one.label), strict=True):
            height = top + 14
            form = {"dashed": " dashed", "thin": " thin"}.get(one.form, "")
            if one.form != "markers":
                parts.append(line(x, height - 4, x + 24, height - 4, f"curve s{one.colour}{form}"))
            if one.form in ("points", "markers"):
                parts.append(marker(x + 12, height - 4, one.colour))
            parts.append(text(x + 34, height, one.label))
        return Markup("").join(parts)
