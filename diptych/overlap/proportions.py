"""Intervals and one-tailed tests of one and two proportions, for many counts at once.

`evaluate.metrics.statistics.clopper_pearson` is the interval of one count; here counts are arrays, and numbers of
trials may be fractions, as effective sample sizes are.
"""

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import InputError, ShapeError

LEVEL = 0.995
"""The level of the paper's intervals."""
_LEAST_SHARE = 0.05  # of the error that the larger sample gets; with less, its interval would grow for nothing


def rate_limits(right: ArrayLike, trials: ArrayLike, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Clopper-Pearson limits of proportions.

    Args:
        right: successes, any shape; fractions are allowed.
        trials: trials, above 0, of a shape that fits.
        level: coverage, in (0, 1).
    Returns:
        (low, high), float arrays of the common shape.
    Raises:
        InputError: a count or the level is outside its range.
    Source: Clopper & Pearson (1934).
    """
    from scipy.special import betaincinv  # loading takes half a second

    k, n = np.broadcast_arrays(np.asarray(right, float), np.asarray(trials, float))
    if not (np.isfinite(k).all() and np.isfinite(n).all() and (k >= 0).all() and (k <= n).all() and (n > 0).all()):
        raise InputError("an interval needs counts with 0 <= right <= trials and trials > 0")
    check_level(level)
    tail = (1 - level) / 2
    none, every = k == 0, k == n
    # Where a limit is 0 or 1, the beta distribution is not defined; any valid argument serves there.
    low = betaincinv(np.where(none, 1.0, k), np.where(none, 1.0, n - k + 1), tail)
    high = betaincinv(np.where(every, 1.0, k + 1), np.where(every, 1.0, n - k), 1 - tail)
    return np.where(none, 0.0, low), np.where(every, 1.0, high)


def difference_limits(
    right_first: ArrayLike, n_first: float, right_second: ArrayLike, n_second: float, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Limits of the difference of two independent proportions, first minus second; they cover at least at the level.

    The error 1 - level is divided between two Clopper-Pearson intervals, a part for each sample, and the limits are
    the differences of their ends. Whatever the rates and however few the trials, both intervals hold together with
    probability `level` or more (Bonferroni). The parts follow the sizes of the samples: with few images in the first
    and many in the second, the second costs almost no width. Score intervals (Newcombe) are narrower and fall to a
    coverage of 0.90 instead of 0.995 with few trials or rates near 0 and 1.

    Args:
        right_first, right_second: successes, any shapes that fit.
        n_first, n_second: trials, above 0; they determine the parts, and so must not depend on the outcome.
        level: coverage, in (0, 1).
    Returns:
        (low, high), float arrays of the common shape, in [-1, 1].
    """
    first_level, second_level = part_levels(n_first, n_second, level)
    first = rate_limits(right_first, n_first, first_level)
    second = rate_limits(right_second, n_second, second_level)
    return first[0] - second[1], first[1] - second[0]


def part_levels(n_first: float, n_second: float, level: float) -> tuple[float, float]:
    """The levels of two intervals that hold together at `level`; the smaller sample gets more of the error.

    Args:
        n_first, n_second: trials, above 0; they must not depend on the outcome.
        level: in (0, 1).
    """
    check_level(level)
    error = 1 - level
    # The larger sample gets the smaller part: its interval is narrow, and widens little.
    second_share = min(max(n_first / (n_first + n_second), _LEAST_SHARE), 1 - _LEAST_SHARE)
    return 1 - error * (1 - second_share), 1 - error * second_share


def binomial_p(right: ArrayLike, trials: ArrayLike, rate: ArrayLike) -> np.ndarray:
    """P(X >= right) for X ~ Bin(trials, rate): the p-value of the one-tailed test that the rate is higher.

    Args:
        right, trials: counts, 0 <= right <= trials.
        rate: the rate of the null hypothesis, in [0, 1].
    """
    from scipy.special import betainc

    k, n, p = np.broadcast_arrays(np.asarray(right, float), np.asarray(trials, float), np.asarray(rate, float))
    sure = k == 0
    return np.where(sure, 1.0, betainc(np.where(sure, 1.0, k), np.where(sure, 1.0, n - k + 1), p))


def fisher_p(right: int, trials: int, right_all: int, n_all: int) -> float:
    """Fisher's exact test, one-tailed: P(X >= right) if `trials` of n_all images are drawn, right_all of them right.

    Args:
        right, trials: right ones and all of the subset.
        right_all, n_all: the same of the whole set, which includes the subset.
    Raises:
        InputError: the counts do not fit together.
    Source: Fisher (1935).
    """
    from scipy.special import gammaln, logsumexp

    least, most = max(0, trials - (n_all - right_all)), min(trials, right_all)
    if not (0 <= trials <= n_all and 0 <= right_all <= n_all and least <= right <= most):
        raise InputError(f"{right} right of {trials} do not fit {right_all} right of {n_all}")
    if right == least:
        return 1.0

    def ways(n: ArrayLike, k: ArrayLike) -> np.ndarray:
        n, k = np.asarray(n, float), np.asarray(k, float)
        return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)

    k = np.arange(right, most + 1)
    logs = ways(right_all, k) + ways(n_all - right_all, trials - k) - ways(n_all, trials)
    return min(1.0, float(np.exp(logsumexp(logs))))


def weighted_rate(right: ArrayLike, trials: ArrayLike, weights: ArrayLike) -> tuple[float, float]:
    """A weighted mean of the rates of strata, and the number of independent trials to which it is equivalent.

    The effective number is rate * (1 - rate) / variance, but at most 1 / sum(weight^2 / trials), its value where all
    strata have one rate. In the variance each stratum's rate is drawn a little towards the mean, as by one additional
    trial, because one or two trials say nothing of their own variance. `rate_limits(value * n, n)` is the interval.

    Args:
        right: (S,) successes of each stratum.
        trials: (S,) trials of each stratum, at least 1.
        weights: (S,) at least 0, with sum 1.
    Returns:
        (value, effective number of trials).
    Raises:
        ShapeError, InputError: the arrays do not fit together, or a number is outside its range.
    Source: Korn & Graubard (1998), with another estimate of the variance.
    """
    k, n, w = (np.asarray(values, float) for values in (right, trials, weights))
    if not (k.shape == n.shape == w.shape and k.ndim == 1 and k.size):
        raise ShapeError(f"strata need three rows of one length: got {k.shape}, {n.shape} and {w.shape}")
    if not ((n >= 1).all() and (k >= 0).all() and (k <= n).all() and (w >= 0).all() and abs(w.sum() - 1) < 1e-6):
        raise InputError("each stratum needs a trial, 0 <= right <= trials, and weights that sum to 1")
    value = min(float((w * k / n).sum()), 1.0)
    most = 1 / float((w**2 / n).sum())
    drawn = (k + value) / (n + 1)
    # Divided by what the additional trial takes away from the variance where all strata have one rate.
    variance = float((w**2 * drawn * (1 - drawn) / (1 - n / (n + 1) ** 2) / n).sum())
    return value, min(most, value * (1 - value) / variance) if variance > 0 and 0 < value < 1 else most


def check_level(level: float, name: str = "level") -> None:
    """Refuse a level, a power or an alpha outside (0, 1).

    Raises:
        InputError: it lies outside; the message names it.
    """
    if not 0 < level < 1:
        raise InputError(f"{name} is {level}; it must lie between 0 and 1")
