"""error = a · compute^b: the straight line of figure 9, with its confidence band.

Source: CLIP paper, figure 9. The paper does not explain its band; the band here is that of ordinary least squares.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit  # Student's quantile; scipy.stats takes a second to load

from diptych.errors import ShapeError

LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """error = a · compute^b, a straight line between logarithms, by least squares.

    Attributes:
        a, b: its coefficients.
        deviation: standard deviation of the log errors from the line; 0 with two points.
        centre, spread: mean of log compute, and sum of squared distances to it.
        num_points: number of fitted points.
    """

    a: float
    b: float
    deviation: float
    centre: float
    spread: float
    num_points: int

    def __call__(self, compute: float) -> float:
        """The error on the line."""
        return self.a * compute**self.b

    def band(self, compute: float, level: float = LEVEL) -> tuple[float, float]:
        """Confidence interval of the line itself at one compute (ordinary least squares, Student's distribution)."""
        if self.num_points < 3:
            return self(compute), self(compute)
        quantile = float(stdtrit(self.num_points - 2, (1 + level) / 2))
        distance = (math.log(compute) - self.centre) ** 2 / self.spread
        half = quantile * self.deviation * math.sqrt(1 / self.num_points + distance)
        return self(compute) * math.exp(-half), self(compute) * math.exp(half)

    def exponent_interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Confidence interval of b."""
        if self.num_points < 3:
            return self.b, self.b
        half = float(stdtrit(self.num_points - 2, (1 + level) / 2)) * self.deviation / math.sqrt(self.spread)
        return self.b - half, self.b + half

    def in_words(self) -> str:
        """Text such as "error = 54.0 · GFLOPs^-0.103 (-0.113 to -0.093)"."""
        low, high = self.exponent_interval()
        return f"error = {self.a:.1f} · GFLOPs^{self.b:.3f} ({low:.3f} to {high:.3f})"


def fit_power_law(compute: Sequence[float], errors: Sequence[float]) -> PowerLaw:
    """Fit error = a · compute^b.

    Args:
        compute, errors: positive, of the same length, with at least two different values of compute.
    Raises:
        ShapeError: there are too few points, or one is not positive.
    """
    if len(compute) != len(errors) or len(set(compute)) < 2 or min(*compute, *errors) <= 0:
        raise ShapeError(f"a power law needs two or more positive points; got {list(compute)} and {list(errors)}")
    x, y = np.log(np.asarray(compute)), np.log(np.asarray(errors))
    centre, spread = float(x.mean()), float(((x - x.mean()) ** 2).sum())
    b = float(((x - centre) * (y - y.mean())).sum() / spread)
    rest = y - y.mean() - b * (x - centre)
    deviation = math.sqrt(float((rest**2).sum()) / (len(x) - 2)) if len(x) > 2 else 0.0
    return PowerLaw(math.exp(float(y.mean()) - b * centre), b, deviation, centre, spread, len(x))
