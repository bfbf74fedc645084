"""Confidence intervals of proportions."""

from numbers import Integral

from diptych.errors import InputError


def clopper_pearson(k: int, n: int, level: float = 0.995) -> tuple[float, float]:
    """Exact two-sided interval of a binomial proportion: the rates that k of n does not reject, (1 - level) / 2 a side.

    Args:
        k: successes, 0 to n.
        n: trials, at least 1.
        level: coverage, in (0, 1).
    Returns:
        (low, high), fractions; low is 0 for k = 0, high is 1 for k = n.
    Raises:
        InputError: k, n or level is outside its range.
    Source: Clopper & Pearson (1934); the 99.5 % level is the CLIP paper's, appendix A.4.
    """
    from scipy.special import betaincinv  # the quantile of the beta distribution; loading takes half a second

    if not (isinstance(k, Integral) and isinstance(n, Integral) and 0 <= k <= n and n >= 1):
        raise InputError(f"an interval needs whole numbers with 0 <= k <= n and n >= 1; got k = {k}, n = {n}")
    if not 0 < level < 1:
        raise InputError(f"the level of an interval must lie between 0 and 1; got {level}")
    tail = (1 - level) / 2
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
    return low, high
