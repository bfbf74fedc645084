"""Figures of the run page, as SVG.

An SVG here is only its plot area. Positions are percentages, so the figure stretches to any width while text and lines
keep their size. Labels overflow into the margin that the page's style gives the class of the figure. Colors come from
that style too, so a figure follows the light and the dark scheme.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from diptych.report import display

_SPAN = 1000  # curves are drawn in a square with sides of this length, which the browser stretches
_MAX_POINTS = 600


def loss_curve(log: Sequence[Mapping[str, float]], validation: Sequence[tuple[float, float]] = ()) -> Markup:
    """The training loss against pairs seen: logged values thin, their running mean thick; "" without two finite rows.

    Circles are losses of held-out pairs, `validation`: (pairs seen, loss). If every step of the log has the same number
    N of pairs, a dashed line shows the loss of guessing, ln N.
    """
    pairs, loss = _series(log, "loss")
    if len(pairs) < 2 or pairs.max() <= 0 or loss.max() <= 0:
        return Markup("")
    guessing_loss = _loss_of_guessing(log)
    held_out = [(seen, value) for seen, value in validation if math.isfinite(seen + value) and seen <= pairs.max()]
    top = max(float(loss.max()), guessing_loss or 0.0, *(value for _, value in held_out))
    x_span, y_span = float(pairs.max()), top * 1.04
    x_ticks, y_ticks = _ticks(x_span, 5), _ticks(top, 4)
    smoothed = _running_mean(loss, max(3, len(loss) // 30))
    parts = [_grid_y(tick, 100 - 100 * tick / y_span, display.number(tick)) for tick in y_ticks]
    parts += [_label_x(100 * tick / x_span, display.short_number(tick)) for tick in x_ticks]
    if guessing_loss is not None:
        y = 100 - 100 * guessing_loss / y_span
        parts.append(
            Markup(
                '<line class="reference" x1="0" x2="100%" y1="{y}%" y2="{y}%"/>'
                '<text class="small" x="100%" y="{y}%" dy="-6" text-anchor="end">guessing among {size}: {guess}</text>'
            ).format(y=_round(y), size=display.number(math.exp(guessing_loss)), guess=f"{guessing_loss:.2f}")
        )
    parts.append(_curve(pairs / x_span, loss / y_span, "raw"))
    parts.append(_curve(pairs / x_span, smoothed / y_span, "line"))
    parts += [
        Markup('<circle class="held-out" cx="{x}%" cy="{y}%" r="4"><title>validation {loss}</title></circle>').format(
            x=_round(100 * seen / x_span), y=_round(100 - 100 * value / y_span), loss=f"{value:.2f}"
        )
        for seen, value in held_out
    ]
    last = float(smoothed[-1])
    parts.append(
        Markup(
            '<circle class="dot" cx="100%" cy="{y}%" r="4"/>'
            '<text class="value" x="100%" y="{y}%" dy="-10" text-anchor="end">{last}</text>'
        ).format(y=_round(100 - 100 * last / y_span), last=f"{last:.2f}")
    )
    label = f"Training loss falls from {float(smoothed[0]):.2f} to {last:.2f} over {display.number(x_span)} pairs"
    return _svg("plot loss", label, parts)


def sparkline(log: Sequence[Mapping[str, float]], key: str, label: str, top: float | None = None) -> Markup:
    """One quantity of the log against pairs seen, from 0 to `top` or its maximum; "" without two finite rows."""
    pairs, values = _series(log, key)
    if len(pairs) < 2 or pairs.max() <= 0:
        return Markup("")
    top = top or max(float(values.max()), 1e-30)
    parts = [
        Markup('<line class="axis" x1="0" x2="100%" y1="100%" y2="100%"/>'),
        _curve(pairs / pairs.max(), values / top, "line"),
    ]
    return _svg("spark", label, parts)


def accuracy_plot(value: float, low: float | None, high: float | None, chance: float | None) -> Markup:
    """One row of a dot plot from 0 to 100 %: a dot with its interval, and a line to it from the tick of chance."""
    parts = [Markup('<line class="track" x1="0" x2="100%" y1="50%" y2="50%"/>')]
    if chance is not None and math.isfinite(chance):
        parts.append(
            Markup(
                '<line class="stem" x1="{c}%" x2="{v}%" y1="50%" y2="50%"/>'
                '<line class="chance" x1="{c}%" x2="{c}%" y1="15%" y2="85%"/>'
            ).format(c=_percent(chance), v=_percent(value))
        )
    if low is not None and high is not None and math.isfinite(low + high):
        parts.append(
            Markup('<line class="interval" x1="{}%" x2="{}%" y1="50%" y2="50%"/>').format(_percent(low), _percent(high))
        )
    parts.append(Markup('<circle class="dot" cx="{}%" cy="50%" r="5"/>').format(_percent(value)))
    return _svg("row-plot", "", parts)


def gain_plot(gain: float, span: float, interval: tuple[float, float] | None = None) -> Markup:
    """One row of a bar plot around zero, from -span to span, with a whisker over its interval."""
    share = 50 * max(-1.0, min(1.0, gain / span)) if span > 0 and math.isfinite(gain) else 0.0
    bar = Markup('<rect class="{}" x="{}%" width="{}%" y="25%" height="50%"/>').format(
        "gain" if share >= 0 else "loss", _round(50 + min(share, 0.0)), _round(abs(share))
    )
    zero = Markup('<line class="chance" x1="50%" x2="50%" y1="0" y2="100%"/>')
    parts = [Markup('<line class="track" x1="0" x2="100%" y1="50%" y2="50%"/>'), bar, zero]
    if interval is not None and span > 0 and math.isfinite(sum(interval)):
        ends = [_percent(0.5 + end / span / 2) for end in interval]
        whisker = '<line class="whisker" x1="{}%" x2="{}%" y1="50%" y2="50%"/>'
        parts.append(Markup(whisker).format(*ends))
    return _svg("row-plot", "", parts)


def _svg(css_class: str, label: str, parts: Sequence[Markup]) -> Markup:
    """An SVG element. Without a label it is hidden from screen readers: the text next to it has its numbers."""
    attributes = Markup('role="img" aria-label="{}"').format(label) if label else Markup('aria-hidden="true"')
    return Markup('<svg xmlns="http://www.w3.org/2000/svg" class="{}" {}>{}</svg>').format(
        css_class, attributes, Markup("").join(parts)
    )


def _curve(x: np.ndarray, y: np.ndarray, css_class: str) -> Markup:
    """A line through points in the unit square; y points up."""
    coordinates = " ".join(f"{_round(_SPAN * a)},{_round(_SPAN * (1 - b))}" for a, b in zip(x, y, strict=True))
    return Markup(
        '<svg width="100%" height="100%" viewBox="0 0 {0} {0}" preserveAspectRatio="none" overflow="visible">'
        '<polyline class="{1}" vector-effect="non-scaling-stroke" points="{2}"/></svg>'
    ).format(_SPAN, css_class, coordinates)


def _grid_y(tick: float, y: float, label: str) -> Markup:
    return Markup(
        '<line class="{}" x1="0" x2="100%" y1="{y}%" y2="{y}%"/>'
        '<text class="small" x="0" y="{y}%" dx="-8" dy="0.32em" text-anchor="end">{}</text>'
    ).format("grid" if tick else "axis", label, y=_round(y))


def _label_x(x: float, label: str) -> Markup:
    return Markup('<text class="small" x="{}%" y="100%" dy="20" text-anchor="middle">{}</text>').format(
        _round(x), label
    )


def _series(log: Sequence[Mapping[str, float]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """The valid (pairs, value) points of a log. If there are more than _MAX_POINTS, neighboring points are averaged."""
    rows = [(row.get("pairs"), row.get(key)) for row in log]
    points = np.array([(a, b) for a, b in rows if a is not None and b is not None], dtype=float).reshape(-1, 2)
    points = points[((points >= 0) & (points < 1e12)).all(axis=1)]  # NaN compares false
    if len(points) > _MAX_POINTS:
        points = np.array([stretch.mean(axis=0) for stretch in np.array_split(points, _MAX_POINTS)])
    return points[:, 0], points[:, 1]


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """The mean over a centered window, which is narrower at the ends."""
    kernel = np.ones(min(window, len(values)))
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def _loss_of_guessing(log: Sequence[Mapping[str, float]]) -> float | None:
    """ln of the pairs per step; None if their number varies or is unknown."""
    sizes = {row["pairs"] / row["step"] for row in log if row.get("step") and row.get("pairs")}
    size = sizes.pop() if len(sizes) == 1 else 0.0
    return math.log(size) if size > 1 and math.isfinite(size) else None


def _ticks(top: float, count: int) -> list[float]:
    """About `count` round numbers from 0 to at most `top`."""
    if not math.isfinite(top) or top <= 0:
        return [0.0]
    raw = top / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    return [step * i for i in range(math.floor(top / step * 1.0001) + 1)]


def _percent(fraction: float) -> str:
    return _round(100 * max(0.0, min(1.0, fraction))) if math.isfinite(fraction) else "0"


def _round(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
