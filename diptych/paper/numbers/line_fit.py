"""A straight line through points of data sets, with correlation and a bootstrap interval of the slope.

Source: CLIP paper, section 3.1.5 and figure 8. The paper does not say how it computed its interval; a bootstrap over
data sets gives the same interval to within 0.02.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr  # Student's distribution; scipy.stats takes a second to load

from diptych.errors import ShapeError
from diptych.evaluate.metrics.comparison import bootstrap

LEVEL = 0.95
_RESAMPLES = 10_000
FEWEST = 8  # fewest points for an interval: with fewer, some draws have only one distinct point, and no slope


@dataclasses.dataclass(frozen=True)
class LineFit:
    """y = intercept + slope · x by least squares.

    Attributes:
        r: Pearson's correlation.
        p: two-sided p-value of the correlation.
        low, high: interval of the slope; None with too few points.
        num_points: number of fitted points.
    """

    slope: float
    intercept: float
    r: float
    p: float
    low: float | None
    high: float | None
    num_points: int

    def __call__(self, x: float) -> float:
        """The y of the line at x."""
        return self.intercept + self.slope * x

    def in_words(self) -> str:
        """Text such as "r = 0.82, slope 1.28 (0.94 to 1.78)"."""
        interval = f" ({self.low:.2f} to {self.high:.2f})" if self.low is not None else ""
        return f"r = {self.r:.2f}, slope {self.slope:.2f}{interval}"


def fit_line(x: Sequence[float], y: Sequence[float], *, level: float = LEVEL, seed: int = 0) -> LineFit:
    """Fit a line.

    Args:
        x, y: at least three finite points; neither all x nor all y are equal.
        level: coverage of the slope's interval.
        seed: seed of the bootstrap.
    Raises:
        ShapeError: a line or a correlation cannot be computed from these points.
    """
    across, up = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    fits = across.shape == up.shape and across.ndim == 1 and across.size >= 3
    if not (fits and np.isfinite([across, up]).all() and np.ptp(across) > 0 and np.ptp(up) > 0):
        raise ShapeError(f"a line needs three or more finite points that differ; got {list(x)} and {list(y)}")
    return _fitted(tuple(across.tolist()), tuple(up.tolist()), level, seed)


@functools.lru_cache(maxsize=64)  # the lines of the paper's numbers are needed repeatedly
def _fitted(x: tuple[float, ...], y: tuple[float, ...], level: float, seed: int) -> LineFit:
    across, up = np.asarray(x), np.asarray(y)
    slope = _slope(across, up)
    r = float(np.corrcoef(across, up)[0, 1])
    n = len(across)
    t = abs(r) * math.sqrt((n - 2) / max(1 - r * r, 1e-300))
    low = high = None
    if n >= FEWEST:
        low, high = bootstrap(
            lambda rows: _slope(across[rows], up[rows]), n, level=level, resamples=_RESAMPLES, seed=seed
        )
    return LineFit(slope, float(up.mean() - slope * across.mean()), r, 2 * float(stdtr(n - 2, -t)), low, high, n)


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    across = x - x.mean()
    return float(across @ y / (across @ across))
