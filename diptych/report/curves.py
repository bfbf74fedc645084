"""Line charts with linear, logarithmic and logit axes, as SVG.

A drawing is either a separate file, which includes its colors, or part of a page, whose style must include STYLE.
Sizes are in units of the drawing: pixels at its natural size.
"""

import dataclasses
import math
from collections.abc import Sequence

from markupsafe import Markup

from diptych.errors import ShapeError
from diptych.report import display
from diptych.report.axes import Axis, doublings, linear_ticks, log_ticks
from diptych.report.point_labels import Box, place_names, point_boxes
from diptych.report.svg import STYLE, Drawing, element, line, marker, points, svg_file, text, upright

__all__ = [
    "STYLE",
    "Chart",
    "Series",
    "chart_drawing",
    "charts_svg",
    "doublings",
    "line_chart",
    "linear_ticks",
    "log_ticks",
]

WIDTH, HEIGHT = 560, 400
SMALL = (340.0, 270.0)  # size of a chart in a grid of many
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 34, 52  # margins around the plot area
_LEGEND_LINE = 18
_LEGEND_SHARE = 0.5  # of the plot's height; a higher legend goes below the plot
_NUM_COLOURS = 5


@dataclasses.dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        label: text in the legend; "" for no entry.
        x, y: points, finite; points that an axis cannot show (0 on a logarithmic axis) are omitted.
        low, high: interval of each point, or None.
        colour: 0 to 4; it also determines the marker.
        form: "points" (markers, joined), "markers" (not joined), "line", "dashed", or "thin".
        band: draw the intervals as one band, not as a whisker at each point.
        outlined: draw the markers as outlines.
        names: names of the points, or empty. The chart shows names that fit; a tooltip of each marker shows its name.
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
    outlined: bool = False

    def __post_init__(self) -> None:
        lengths = [len(values) for values in (self.x, self.y, self.low, self.high) if values is not None]
        lengths += [len(self.names)] if self.names else []
        if len(set(lengths)) != 1 or not 0 <= self.colour < _NUM_COLOURS:
            raise ShapeError(f"the series {self.label!r} has columns of lengths {lengths} and the colour {self.colour}")


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart: axes and the curves on them.

    Attributes:
        x_base, y_base: 2 or 10 for a logarithmic axis with ticks at its powers; None for a linear axis.
        legend: the corner of the legend: "top left", "top right", "bottom left" or "bottom right"; a legend that
            would cover much of the curves goes below them.
        x_from_zero, y_from_zero: start a linear axis at 0 if no value is negative; otherwise it spans the data.
        logit: space both axes by log(p / (100 - p)); values are percent, and 0 and 100 are omitted.
        diagonal: draw a dashed line y = x.
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


def charts_svg(charts: Sequence[Chart]) -> str:
    """Charts side by side, as the text of an SVG file with a light and a dark color scheme."""
    return svg_file([chart_drawing(chart) for chart in charts], len(charts))


def chart_drawing(chart: Chart, size: tuple[float, float] = (WIDTH, HEIGHT)) -> Drawing:
    """A chart as a drawing of the given (width, height)."""
    width, height = size
    right, bottom = width - _RIGHT, height - _BOTTOM
    series = [_visible(curve, chart) for curve in chart.series]
    x_values = [value for curve in series for value in curve.x]
    x = Axis(x_values, chart.x_base, _LEFT, right, from_zero=chart.x_from_zero, logit=chart.logit)
    y_values = [
        v for curve in series for values in (curve.y, curve.low, curve.high) if values is not None for v in values
    ]
    y = Axis(y_values, chart.y_base, bottom, _TOP, from_zero=chart.y_from_zero, logit=chart.logit)
    parts = [
        text(_LEFT, 18, chart.title, "title"),
        text((_LEFT + right) / 2, height - 10, chart.x_label, "soft", "middle"),
        upright(14, (_TOP + bottom) / 2, chart.y_label),
    ]
    for tick in y.ticks:
        parts.append(line(_LEFT, y(tick), right, y(tick), "grid"))
        parts.append(text(_LEFT - 8, y(tick) + 4, display.short_number(tick), "soft", "end"))
    for tick in _spaced_ticks(x, right):
        parts.append(line(x(tick), bottom, x(tick), bottom + 5, "axis"))
        parts.append(text(x(tick), bottom + 20, display.short_number(tick), "soft", "middle"))
    parts.append(line(_LEFT, bottom, right, bottom, "axis"))
    if chart.diagonal and (least := max(x.low, y.low)) < (most := min(x.high, y.high)):
        parts.append(line(x(least), y(least), x(most), y(most), "diagonal"))
    parts += [_curve(curve, x, y) for curve in series]
    legend = _Legend.of(chart, size)
    parts += [_point_names(series, x, y, (_LEFT, _TOP - 6, right + 4, bottom), legend.box)]
    return Drawing(Markup("").join(parts) + legend.drawn(chart), width, height + legend.below, chart.title)


def _spaced_ticks(axis: Axis, right: float) -> list[float]:
    """The ticks of the x axis, without those whose labels would touch the previous label."""
    ticks: list[float] = []
    for tick in axis.ticks:
        if not ticks or axis(tick) - axis(ticks[-1]) >= 7 * (len(display.short_number(tick)) + 1):
            ticks.append(tick)
    return [tick for tick in ticks if axis(tick) <= right + 1]


def _visible(series: Series, chart: Chart) -> Series:
    """The points that the axes can show. On a logarithmic axis, an interval that reaches 0 ends at a tenth of y."""
    indices = [
        index
        for index, (x, y) in enumerate(zip(series.x, series.y, strict=True))
        if math.isfinite(x + y)
        and (chart.x_base is None or x > 0)
        and (chart.y_base is None or y > 0)
        and not (chart.logit and not (0 < x < 100 and 0 < y < 100))
    ]
    x, y = ([values[index] for index in indices] for values in (series.x, series.y))
    low, high = (None if v is None else [v[index] for index in indices] for v in (series.low, series.high))
    if low is not None and chart.y_base is not None:
        low = [bound if bound > 0 else point / 10 for bound, point in zip(low, y, strict=True)]
    if low is not None and high is not None and chart.logit:
        low, high = [max(bound, 0.01) for bound in low], [min(bound, 99.99) for bound in high]
    names = [series.names[index] for index in indices] if series.names else ()
    return dataclasses.replace(series, x=x, y=y, low=low, high=high, names=names)


def _curve(series: Series, x: Axis, y: Axis) -> Markup:
    positions = [(x(a), y(b)) for a, b in zip(series.x, series.y, strict=True)]
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
        parts.append(
            Markup('<polyline class="curve s{}{}" points="{}"/>').format(series.colour, form, points(positions))
        )
    if series.form in ("points", "markers"):
        names = series.names or [""] * len(positions)
        parts += [
            marker(a, b, series.colour, name, series.outlined) for (a, b), name in zip(positions, names, strict=True)
        ]
    return Markup("").join(parts)


def _point_names(series: Sequence[Series], x: Axis, y: Axis, inside: Box, legend: Box) -> Markup:
    """Names next to points. No name covers a marker, whether the marker has a name or not."""
    positions = [[(x(a), y(b)) for a, b in zip(curve.x, curve.y, strict=True)] for curve in series]
    marker_positions = [
        position
        for curve, own_positions in zip(series, positions, strict=True)
        if curve.form in ("points", "markers")
        for position in own_positions
    ]
    occupied = [*point_boxes(marker_positions), legend]
    return Markup("").join(
        place_names(own_positions, curve.names, inside, occupied)
        for curve, own_positions in zip(series, positions, strict=True)
        if curve.names
    )


@dataclasses.dataclass(frozen=True)
class _Legend:
    """The position of the legend.

    Attributes:
        places: left and top of each line.
        box: the part of the plot that it covers: left, top, right and bottom; empty if it is below the plot.
        below: height that it adds to the drawing.
    """

    places: Sequence[tuple[float, float]]
    box: Box = (0.0, 0.0, 0.0, 0.0)
    below: float = 0.0

    @classmethod
    def of(cls, chart: Chart, size: tuple[float, float]) -> "_Legend":
        """The legend of a chart: in its corner, or in columns below the plot if it would cover too much."""
        labels = [curve.label for curve in chart.series if curve.label]
        width = max([0.0, *(7.0 * len(label) for label in labels)]) + 34
        legend_height = float(_LEGEND_LINE * len(labels))
        if legend_height > _LEGEND_SHARE * (size[1] - _TOP - _BOTTOM):
            available = size[0] - 2 * _RIGHT
            columns = max(1, int(available // (6.5 * max(map(len, labels)) + 40)))
            rows = math.ceil(len(labels) / columns)
            cells = [divmod(place, rows) for place in range(len(labels))]
            places = [(_RIGHT + available / columns * column, size[1] + _LEGEND_LINE * row) for column, row in cells]
            return cls(places, below=float(_LEGEND_LINE * rows + 6))
        vertical, side = chart.legend.split()
        left = _LEFT + 12 if side == "left" else size[0] - _RIGHT - 12 - width
        top = _TOP + 2.0 if vertical == "top" else size[1] - _BOTTOM - 6 - legend_height
        box = (left, top, left + width, top + legend_height) if labels else cls.box
        return cls([(left, top + _LEGEND_LINE * place) for place in range(len(labels))], box)

    def drawn(self, chart: Chart) -> Markup:
        """The legend's lines: a sample of each curve and its label."""
        parts = []
        for (x, top), curve in zip(self.places, (curve for curve in chart.series if curve.label), strict=True):
            height = top + 14
            form = {"dashed": " dashed", "thin": " thin"}.get(curve.form, "")
            if curve.form != "markers":
                parts.append(line(x, height - 4, x + 24, height - 4, f"curve s{curve.colour}{form}"))
            if curve.form in ("points", "markers"):
                parts.append(marker(x + 12, height - 4, curve.colour, outlined=curve.outlined))
            parts.append(text(x + 34, height, curve.label))
        return Markup("").join(parts)
