"""Compare models: paired tests on the same samples, and the paper's rule for bold scores."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import InputError, ShapeError
from diptych.evaluate.metrics.statistics import clopper_pearson


@dataclasses.dataclass(frozen=True)
class Paired:
    """Two models on the same samples.

    Attributes:
        only_first, only_second: numbers of samples that only the first or only the second model classifies correctly.
        difference: accuracy of the first minus that of the second, a fraction.
        low, high: exact 99.5 % interval of the difference, conditional on only_first + only_second.
        p: two-sided p-value of the hypothesis that neither model is better.
    """

    only_first: int
    only_second: int
    difference: float
    low: float
    high: float
    p: float


def paired_test(first_right: ArrayLike, second_right: ArrayLike) -> Paired:
    """McNemar's exact test.

    Args:
        first_right, second_right: bool (N,), whether each model classifies each sample correctly, in the same order.
    Raises:
        ShapeError: they are not bool arrays of one length with at least one sample.
    Source: McNemar (1947), with the exact binomial distribution.
    """
    first, second = np.asarray(first_right), np.asarray(second_right)
    if (
        first.shape != second.shape
        or first.ndim != 1
        or not first.size
        or {first.dtype, second.dtype} != {np.dtype(bool)}
    ):
        raise ShapeError(
            "two models need two bool rows of one length: "
            f"got {first.dtype} {first.shape}, {second.dtype} {second.shape}"
        )
    from scipy.special import bdtr  # the binomial cumulative distribution; loading takes half a second

    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    p = min(1.0, 2 * float(bdtr(min(b, c), b + c, 0.5))) if b + c else 1.0
    shares = clopper_pearson(b, b + c) if b + c else (0.5, 0.5)
    low, high = ((2 * share - 1) * (b + c) / len(first) for share in shares)
    return Paired(b, c, (b - c) / len(first), low, high, p)


def holm(p: Sequence[float]) -> list[float]:
    """Adjust the p-values of several tests, so that their family-wise error rate is that of a single test.

    Args:
        p: p-values of any number of tests, in any order.
    Source: Holm (1979).
    """
    adjusted, largest = [0.0] * len(p), 0.0
    for before, place in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        largest = max(largest, min(1.0, (len(p) - before) * p[place]))
        adjusted[place] = largest
    return adjusted


def bootstrap(
    statistic: Callable[[np.ndarray], float], n: int, *, level: float = 0.995, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of any statistic, from samples drawn with replacement.

    It also serves for paired differences: the statistic then measures both models on the drawn samples.

    Args:
        statistic: maps the indices of drawn samples, int64 (n,) in [0, n), to a number.
        n: number of samples, at least 2.
        level: coverage, in (0, 1).
        resamples: number of draws; resamples * (1 - level) of them lie in the tails, which should be several.
        seed: the same seed draws the same samples.
    Returns:
        (low, high).
    Raises:
        InputError: n, level or resamples is outside its range, or the statistic is NaN for a draw.
    Source: Efron (1979).
    """
    if n < 2 or not 0 < level < 1 or resamples * (1 - level) < 2:
        raise InputError(f"n = {n}, level = {level} and {resamples} resamples give no interval")
    rng = np.random.default_rng(seed)
    values = np.array([statistic(rng.integers(n, size=n)) for _ in range(resamples)])
    if np.isnan(values).any():
        raise InputError(f"the statistic is NaN for {int(np.isnan(values).sum())} of {resamples} draws")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def as_good_as_best(scores: Sequence[float | None], n: int, level: float = 0.995) -> list[bool]:
    """Which scores of a table column are bold: those inside the Clopper-Pearson interval of the best score.

    Args:
        scores: fractions, of any metric; None for a missing score, which is never bold.
        n: number of test samples of the column's dataset.
        level: coverage of the interval.
    Raises:
        InputError: a score is not a fraction, or all are missing.
    Source: CLIP paper, appendix A.4.
    """
    present = [score for score in scores if score is not None]
    if not present or not all(0 <= score <= 1 for score in present):
        raise InputError(f"a column needs fractions between 0 and 1; got {list(scores)}")
    low, _ = clopper_pearson(round(max(present) * n), n, level)
    return [score is not None and score >= low for score in scores]
