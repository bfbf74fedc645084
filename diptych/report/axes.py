"""Axes of charts: map values to coordinates, and choose ticks."""

import math
from collections.abc import Callable, Sequence

_LOGIT_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9)
_MOST_TICKS = 9


class Axis:
    """One axis. Calling it with a value returns the coordinate on the drawing.

    Attributes:
        low, high: the values at its two ends.
        ticks: values, increasing.
    """

    def __init__(
        self,
        values: Sequence[float],
        base: int | None,
        start: float,
        end: float,
        *,
        from_zero: bool = True,
        logit: bool = False,
    ) -> None:
        """Make an axis that shows all values.

        Args:
            values: finite; positive for a logarithmic axis, between 0 and 100 for a logit axis.
            base: 2 or 10 for a logarithmic axis with ticks at its powers, None for a linear axis.
            start, end: coordinates of its ends.
            from_zero: start a linear axis at 0 if no value is negative.
            logit: values are percent, spaced by log(p / (100 - p)).
        """
        low, high = (min(values), max(values)) if values else ((20.0, 80.0) if logit else (1.0, 2.0))
        self._scale: Callable[[float], float] = float
        if logit:
            self._scale = _logit
            margin = max(0.04 * (_logit(high) - _logit(low)), 0.1)
            low, high = _inverse_logit(_logit(low) - margin), _inverse_logit(_logit(high) + margin)
            self.ticks = logit_ticks(low, high)
        elif base is not None:
            self._scale, first_tick = math.log, low
            margin = (high / low) ** 0.04 if high > low else 1.5
            low, high = low / margin, high * margin
            self.ticks = doublings(first_tick, high) if base == 2 else log_ticks(low, high)
        elif from_zero and low >= 0:
            low, high = 0.0, max(high * 1.04, 1e-9)
            self.ticks = linear_ticks(low, high, 5)
        else:
            margin = 0.04 * (high - low) or 0.5
            low, high = low - margin, (max(high, 0.0) if from_zero else high) + margin
            self.ticks = linear_ticks(low, high, 5)
        self.low, self.high = low, high
        self._low, self._high = self._scale(low), self._scale(high)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (self._scale(value) - self._low) / (self._high - self._low)
        return self._start + share * (self._end - self._start)


def linear_ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers in [low, high]."""
    raw = (high - low) / count
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * number for number in range(first, last + 1)]


def doublings(first: float, high: float) -> list[float]:
    """`first`, doubled until `high`; if these are more than eight, only every second, third, ... of them."""
    number = math.floor(math.log2(high / first) + 1e-9) + 1
    return [first * 2.0**power for power in range(0, number, max(1, -(-number // 8)))]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers in [low, high] for a logarithmic axis: 1, 2, 5 per decade; evenly spaced on a short axis."""
    if high / low < 8:
        return [tick for tick in linear_ticks(low, high, 5) if tick > 0]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high / low < 2000 else (1,)
    ticks = [factor * 10.0**power for power in decades for factor in factors]
    return [tick for tick in ticks if low <= tick <= high]


def logit_ticks(low: float, high: float) -> list[float]:
    """Round percentages in [low, high] for a logit axis; evenly spaced on a short axis."""
    ticks = [float(tick) for tick in _LOGIT_TICKS if low <= tick <= high]
    if len(ticks) < 4:
        return [tick for tick in linear_ticks(low, high, 5) if 0 < tick < 100]
    return ticks[:: -(-len(ticks) // _MOST_TICKS)]


def _logit(percent: float) -> float:
    return math.log(percent / (100 - percent))


def _inverse_logit(value: float) -> float:
    return 100 / (1 + math.exp(-value))
