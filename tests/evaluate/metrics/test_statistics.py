import numpy as np
import pytest
from scipy.stats import binom, binomtest

from diptych.errors import InputError
from diptych.evaluate.metrics.statistics import clopper_pearson


@pytest.mark.parametrize("level", [0.5, 0.95, 0.995])
@pytest.mark.parametrize("n", [1, 2, 7, 100, 10_000])
def test_agrees_with_scipys_exact_interval(n, level):
    for k in sorted({0, 1, n // 3, n // 2, n - 1, n}):
        expected = binomtest(k, n).proportion_ci(confidence_level=level, method="exact")
        assert clopper_pearson(k, n, level) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)


def test_known_values():
    # 0 of n: the upper bound solves (1 - p)^n = 0.0025; n of n mirrors it.
    assert clopper_pearson(0, 10) == (0.0, pytest.approx(1 - 0.0025**0.1))
    assert clopper_pearson(10, 10) == (pytest.approx(0.0025**0.1), 1.0)
    assert clopper_pearson(1, 1) == (pytest.approx(0.0025), 1.0)
    # ImageNet's 76.2 % of 50,000, the paper's headline number.
    low, high = clopper_pearson(38_100, 50_000)
    assert (low, high) == (pytest.approx(0.7566, abs=5e-5), pytest.approx(0.7673, abs=5e-5))


def test_covers_at_least_the_level():
    n, rate = 40, 0.3
    k = np.arange(n + 1)
    bounds = np.array([clopper_pearson(int(i), n) for i in k])
    covered = (bounds[:, 0] <= rate) & (rate <= bounds[:, 1])
    assert binom.pmf(k[covered], n, rate).sum() >= 0.995


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 5), (6, 5), (1.5, 5), (float("nan"), 5), (1, -1)])
def test_impossible_counts(k, n):
    with pytest.raises(InputError, match="k ="):
        clopper_pearson(k, n)


@pytest.mark.parametrize("level", [0, 1, 99.5, -0.5])
def test_impossible_levels(level):
    with pytest.raises(InputError, match="level"):
        clopper_pearson(1, 2, level)
