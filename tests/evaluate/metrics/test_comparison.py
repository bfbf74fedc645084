"""Two models on the same samples: hand-solved cases, scipy, and the paper's rule for bold scores."""

import numpy as np
import pytest
from scipy import stats

from diptych.errors import InputError, ShapeError
from diptych.evaluate import (
    accuracy_top_k,
    as_good_as_best,
    bootstrap,
    clopper_pearson,
    mean_of_top_1_and_5,
    paired_test,
)


def rows(only_first: int, only_second: int, both: int = 3, none: int = 2) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(1, 0)] * only_first + [(0, 1)] * only_second + [(1, 1)] * both + [(0, 0)] * none
    first, second = np.array(pairs, dtype=bool).T
    return first, second


def test_a_paired_test_by_hand():
    # Five heads of five: 2 / 32.
    found = paired_test(*rows(5, 0))
    assert (found.only_first, found.only_second, found.difference) == (5, 0, 0.5)
    assert found.p == pytest.approx(2 / 32)
    assert paired_test(*rows(0, 0)).p == 1.0
    assert paired_test(*rows(4, 4)).p == 1.0


@pytest.mark.parametrize(("b", "c"), [(1, 7), (20, 9), (3, 2), (150, 100)])
def test_a_paired_test_against_scipy(b, c):
    assert paired_test(*rows(b, c)).p == pytest.approx(stats.binomtest(b, b + c).pvalue)
    assert paired_test(*rows(b, c)).p == paired_test(*rows(c, b)).p


def test_a_bootstrap_of_a_share_is_near_its_exact_interval():
    right = np.arange(400) < 280
    low, high = bootstrap(lambda drawn: right[drawn].mean(), 400, resamples=4000)
    assert (low, high) == pytest.approx(clopper_pearson(280, 400), abs=0.01)
    assert (low, high) == bootstrap(lambda drawn: right[drawn].mean(), 400, resamples=4000)


def test_a_bootstrap_covers_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for number in range(200):
        values = rng.normal(size=60)
        low, high = bootstrap(
            lambda drawn, values=values: values[drawn].mean(), 60, level=0.9, resamples=300, seed=number
        )
        hits += low <= 0 <= high
    assert 165 <= hits <= 195


def test_bold_are_the_scores_inside_the_interval_of_the_best():
    low, high = clopper_pearson(900, 1000)
    assert as_good_as_best([0.9, low + 1e-9, low - 1e-9, None, 0.1], 1000) == [True, True, False, False, False]
    assert high > 0.9
    assert as_good_as_best([0.0, 0.0], 10) == [True, True]


def test_the_mean_of_top_1_and_5():
    scores = np.random.default_rng(2).normal(size=(30, 9))
    labels = np.arange(30) % 9
    expected = (accuracy_top_k(labels, scores, 1) + accuracy_top_k(labels, scores, 5)) / 2
    assert mean_of_top_1_and_5(labels, scores) == expected
    with pytest.raises(ShapeError, match="top 5"):
        mean_of_top_1_and_5([0], [[0.1, 0.2]])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: paired_test([True], [True, False]), ShapeError, "one length"),
        (lambda: paired_test([1, 0], [0, 1]), ShapeError, "bool rows"),
        (lambda: bootstrap(lambda drawn: 0.0, 1), InputError, "no interval"),
        (lambda: bootstrap(lambda drawn: 0.0, 9, resamples=100), InputError, "no interval"),
        (lambda: bootstrap(lambda drawn: float("nan"), 9), InputError, "NaN for 2000 of 2000"),
        (lambda: as_good_as_best([None], 10), InputError, "fractions"),
        (lambda: as_good_as_best([93.2], 10), InputError, "fractions"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
