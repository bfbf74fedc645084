"""How many times fewer images one objective needs than another for the same accuracy.

Source: CLIP paper, section 2.3 and figure 2.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from diptych.errors import ShapeError
from diptych.evaluate.metrics.statistics import clopper_pearson

Curve = tuple[Sequence[float], Sequence[float]]
"""Images, increasing, and the accuracy after each."""

_DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class Efficiency:
    """A ratio of images.

    Attributes:
        ratio: images that the slow curve needs, divided by those of the fast one, at `accuracy`.
        bound: "" where both counts are known; ">=" or "<=" where a curve was above `accuracy` at its first point, so
            that its true count may be smaller still.
        accuracy: where the curves are compared: where the lower of the two ends, a fraction.
        above_chance: whether `accuracy` can be told from guessing; a ratio at chance means nothing.
        low, high: of the middle 99.5 % of ratios when every point is drawn anew from its binomial distribution; None
            without numbers of pictures.
    """

    ratio: float
    bound: str
    accuracy: float
    low: float | None = None
    high: float | None = None
    above_chance: bool = True


def images_needed(images: Sequence[float], accuracy: Sequence[float], wanted: float) -> tuple[float, bool] | None:
    """The images at which a curve first reaches an accuracy: linear in the logarithm of the images between points.

    Returns:
        the images, and whether the curve was there at its first point already; None where it never is.
    """
    if accuracy[0] >= wanted:
        return images[0], True
    for place in range(1, len(images)):
        if accuracy[place] >= wanted:
            share = (wanted - accuracy[place - 1]) / (accuracy[place] - accuracy[place - 1])
            return images[place - 1] * (images[place] / images[place - 1]) ** share, False
    return None


def efficiency(fast: Curve, slow: Curve, n: int | None = None, chance: float = 0.0) -> Efficiency:
    """Compare two curves where the lower one ends, as the paper does at 400 million images.

    Args:
        fast, slow: (images, accuracy) of each, images increasing, accuracy as fractions. Where the "fast" one turns out
            lower, the comparison is made where it ends, and the ratio comes out below 1.
        n: pictures behind each accuracy, for the interval.
        chance: accuracy of guessing; where the lower bound (Clopper-Pearson, 99.5 %) of the compared accuracy is not
            above it, the ratio is marked.
    Raises:
        ShapeError: a curve is empty or its columns differ in length.
    """
    for images, accuracy in (fast, slow):
        if not images or len(images) != len(accuracy):
            raise ShapeError(f"a curve has {len(images)} images and {len(accuracy)} accuracies")
    result = _compare(fast, slow)
    if n is None:
        return result
    random = np.random.default_rng(0)
    drawn = []
    for _ in range(_DRAWS):
        again = [(images, (random.binomial(n, np.asarray(shares)) / n).tolist()) for images, shares in (fast, slow)]
        drawn.append(_compare(again[0], again[1]).ratio)
    low, high = np.quantile(drawn, [0.0025, 0.9975])
    surely = clopper_pearson(round(result.accuracy * n), n)[0]
    return dataclasses.replace(result, low=float(low), high=float(high), above_chance=surely > chance)


def _compare(fast: Curve, slow: Curve) -> Efficiency:
    wanted = min(accuracy[-1] for _, accuracy in (fast, slow))
    quick, late = images_needed(*fast, wanted), images_needed(*slow, wanted)
    assert quick is not None and late is not None  # both reach the lower of their ends
    (few, few_at_once), (many, many_at_once) = quick, late
    bound = {(True, False): ">=", (False, True): "<="}.get((few_at_once, many_at_once), "")
    return Efficiency(many / few, bound, wanted)
