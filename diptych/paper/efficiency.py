"""How many times fewer images one objective needs than another for the same accuracy.

Source: CLIP paper, section 2.3 and figure 2.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from diptych.errors import ShapeError

_DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class Efficiency:
    """A ratio of images.

    Attributes:
        ratio: images that the slow curve needs, divided by those of the fast one, at `accuracy`.
        bound: "" where both counts are known; ">=" or "<=" where a curve was above `accuracy` at its first point, so
            that its true count may be smaller still.
        accuracy: where the curves are compared: the highest that both reach, a fraction.
        low, high: of the middle 99.5 % of ratios when every point is drawn anew from its binomial distribution; None
            without numbers of pictures.
    """

    ratio: float
    bound: str
    accuracy: float
    low: float | None = None
    high: float | None = None


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


def efficiency(
    fast: tuple[Sequence[float], Sequence[float]], slow: tuple[Sequence[float], Sequence[float]], n: int | None = None
) -> Efficiency:
    """Compare two curves where the lower one ends, as the paper does at 400 million images.

    Args:
        fast, slow: (images, accuracy) of each, images increasing, accuracy as fractions. Where the "fast" one turns out
            lower, the comparison is made where it ends, and the ratio comes out below 1.
        n: pictures behind each accuracy, for the interval.
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
    return dataclasses.replace(result, low=float(low), high=float(high))


def _compare(
    fast: tuple[Sequence[float], Sequence[float]], slow: tuple[Sequence[float], Sequence[float]]
) -> Efficiency:
    tops = [max(accuracy) for _, accuracy in (fast, slow)]
    wanted = min(tops)
    quick, late = images_needed(*fast, wanted), images_needed(*slow, wanted)
    assert quick is not None and late is not None  # both reach the lower of their tops
    (few, few_at_once), (many, many_at_once) = quick, late
    bound = {(True, False): ">=", (False, True): "<="}.get((few_at_once, many_at_once), "")
    return Efficiency(many / few, bound, wanted)
