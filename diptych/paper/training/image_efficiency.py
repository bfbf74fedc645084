"""The ratio of images that two objectives need for the same accuracy.

Source: CLIP paper, section 2.3 and figure 2.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from diptych.errors import ShapeError
from diptych.evaluate.metrics.statistics import clopper_pearson

Curve = tuple[Sequence[float], Sequence[float]]
"""Numbers of images, increasing, and the accuracy after each."""

_DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class Efficiency:
    """A ratio of images.

    Attributes:
        ratio: images that the slow curve needs, divided by those of the fast curve, at `accuracy`.
        bound: "" if both counts are known; ">=" or "<=" if a curve was above `accuracy` at its first point already, so
            its true count may be smaller.
        accuracy: the accuracy of the comparison, a fraction: the lower of the two final accuracies.
        above_chance: whether `accuracy` is distinguishable from guessing; otherwise the ratio means nothing.
        low, high: central 99.5 % interval of the ratio, with every point resampled from its binomial distribution; None
            if the number of test images is unknown.
    """

    ratio: float
    bound: str
    accuracy: float
    low: float | None = None
    high: float | None = None
    above_chance: bool = True


def images_needed(images: Sequence[float], accuracy: Sequence[float], target: float) -> tuple[float, bool] | None:
    """The number of images at which a curve first reaches `target`, interpolated linearly in log images.

    Returns:
        the images, and whether the first point already reaches it; None if the curve never does.
    """
    if accuracy[0] >= target:
        return images[0], True
    for place in range(1, len(images)):
        if accuracy[place] >= target:
            share = (target - accuracy[place - 1]) / (accuracy[place] - accuracy[place - 1])
            return images[place - 1] * (images[place] / images[place - 1]) ** share, False
    return None


def efficiency(fast: Curve, slow: Curve, n: int | None = None, chance: float = 0.0) -> Efficiency:
    """Compare two curves at the final accuracy of the lower one, as the paper does at 400 million images.

    Args:
        fast, slow: (images, accuracy) of each, images increasing, accuracy as fractions. If the "fast" curve ends
            lower, the ratio is below 1.
        n: number of test images of each accuracy, for the interval.
        chance: accuracy of guessing. If the lower bound (Clopper-Pearson, 99.5 %) of the compared accuracy is not above
            it, `above_chance` is False.
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
    ratios = []
    for _ in range(_DRAWS):
        resampled = [(images, (random.binomial(n, np.asarray(shares)) / n).tolist()) for images, shares in (fast, slow)]
        ratios.append(_compare(resampled[0], resampled[1]).ratio)
    low, high = np.quantile(ratios, [0.0025, 0.9975])
    lower_bound = clopper_pearson(round(result.accuracy * n), n)[0]
    return dataclasses.replace(result, low=float(low), high=float(high), above_chance=lower_bound > chance)


def _compare(fast: Curve, slow: Curve) -> Efficiency:
    target = min(accuracy[-1] for _, accuracy in (fast, slow))
    fast_count, slow_count = images_needed(*fast, target), images_needed(*slow, target)
    assert fast_count is not None and slow_count is not None  # both curves reach the lower of the final accuracies
    (fast_images, is_fast_bound), (slow_images, is_slow_bound) = fast_count, slow_count
    bound = {(True, False): ">=", (False, True): "<="}.get((is_fast_bound, is_slow_bound), "")
    return Efficiency(slow_images / fast_images, bound, target)
