"""Statistics of Overlap, Clean and All on cases solved by hand, and against scipy.stats."""

import dataclasses
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy import stats

from diptych.errors import InputError, ShapeError
from diptych.overlap.contamination import (
    NO_CLEAN,
    NO_OVERLAP,
    Subsets,
    analyse,
    correct_over_sets,
    smallest_detectable,
    subset_accuracies,
)
from diptych.overlap.detection_error import PART_LEVEL, Rate, correct_for_detector
from diptych.overlap.proportions import binomial_p, difference_limits, fisher_p, rate_limits, weighted_rate

TEN = Subsets(n_all=10, n_overlap=4, right_all=6, right_overlap=3)
"""Overlap: 3 of 4 right; Clean: 3 of 6."""


def test_ten_images_counted_by_hand():
    overlap = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool)
    right = np.array([1, 0, 1, 1, 1, 0, 0, 1, 0, 1], bool)
    subsets = subset_accuracies(right, overlap)
    assert subsets == TEN and (subsets.n_clean, subsets.right_clean, subsets.undefined) == (6, 3, None)
    assert (subsets.accuracy_overlap, subsets.accuracy_clean, subsets.accuracy_all) == (0.75, 0.5, 0.6)
    assert (subsets.contamination, subsets.gap) == (0.4, 0.25)
    assert subsets.difference == pytest.approx(0.1) == subsets.accuracy_all - subsets.accuracy_clean


def test_both_tests_of_the_ten_images_by_hand():
    found = analyse(TEN)
    assert found.p == pytest.approx((4 + 1) / 16)  # 3 or 4 heads of 4
    # 3 or 4 of the 6 right ones among 4 that are drawn from 10
    assert found.p_exact == pytest.approx((comb(6, 3) * comb(4, 1) + comb(6, 4)) / comb(10, 4))


def test_intervals_of_the_ten_images():
    found = analyse(TEN, level=0.9)
    low, high = stats.binomtest(3, 4).proportion_ci(0.9, "exact")
    assert found.overlap_interval == pytest.approx((low, high))
    assert found.paper_gap_interval == pytest.approx((low - 0.5, high - 0.5))
    # Of the error 0.1, Overlap with 4 images gets 0.06 and Clean with 6 gets 0.04.
    overlap, clean = (stats.binomtest(3, n).proportion_ci(level, "exact") for n, level in ((4, 0.94), (6, 0.96)))
    assert found.gap_interval == pytest.approx((overlap.low - clean.high, overlap.high - clean.low))
    assert found.difference_interval == pytest.approx(tuple(0.4 * end for end in found.gap_interval))


def test_no_overlap_changes_nothing():
    found = analyse(Subsets(n_all=50, n_overlap=0, right_all=20, right_overlap=0))
    assert found.subsets.undefined == NO_OVERLAP and found.subsets.accuracy_overlap is None
    assert (found.subsets.gap, found.subsets.difference, found.difference_interval) == (None, 0.0, (0.0, 0.0))
    assert found.p is found.p_exact is found.overlap_interval is found.gap_interval is found.paper_gap_interval is None


def test_without_clean_images_nothing_can_be_compared():
    found = analyse(Subsets(n_all=50, n_overlap=50, right_all=20, right_overlap=20))
    assert found.subsets.undefined == NO_CLEAN and found.subsets.accuracy_clean is None
    assert found.subsets.gap is found.subsets.difference is found.difference_interval is found.gap_interval is None
    assert found.p is found.p_exact is None and found.overlap_interval is not None


@pytest.mark.parametrize("right", [0, 50], ids=["all wrong", "all right"])
def test_a_model_that_is_always_or_never_right_shows_no_difference(right):
    found = analyse(Subsets(50, 10, right, right // 5))
    assert (found.subsets.gap, found.p, found.p_exact) == (0.0, 1.0, 1.0)
    assert found.gap_interval[0] < 0 < found.gap_interval[1]


@pytest.mark.parametrize(
    "counts", [(0, 0, 0, 0), (5, 6, 5, 5), (5, 2, 5, 3), (5, 2, 1, 2), (9, 2, 9, 1), (5, -1, 1, 0)]
)
def test_counts_that_do_not_fit_are_refused(counts):
    with pytest.raises(InputError, match="do not fit together"):
        Subsets(*counts)


@pytest.mark.parametrize(
    ("correct", "overlap"),
    [([True], [True, False]), ([], []), ([1, 0], [True, False]), ([[True]], [[True]])],
    ids=["lengths", "empty", "not bool", "two axes"],
)
def test_rows_that_do_not_fit_are_refused(correct, overlap):
    with pytest.raises(ShapeError, match="two bool rows"):
        subset_accuracies(correct, overlap)


@pytest.mark.parametrize("level", [0.0, 1.0, 99.5, float("nan")])
def test_a_level_that_is_no_fraction_is_refused(level):
    with pytest.raises(InputError, match="level is"):
        analyse(TEN, level=level)


@pytest.mark.parametrize("level", [0.9, 0.995])
def test_clopper_pearson_limits_are_those_of_scipy(level):
    for n in (1, 2, 7, 400):
        for k in {0, 1, n // 2, n}:
            expected = stats.binomtest(k, n).proportion_ci(level, "exact")
            assert tuple(map(float, rate_limits(k, n, level))) == pytest.approx((expected.low, expected.high))
    # Fractions are those of the beta distribution.
    low, high = rate_limits(2.5, 8.25, level)
    tail = (1 - level) / 2
    assert low == pytest.approx(stats.beta(2.5, 6.75).ppf(tail)) and high == pytest.approx(
        stats.beta(3.5, 5.75).ppf(1 - tail)
    )


def test_rates_are_in_rows_as_alone():
    low, high = rate_limits([0, 3, 9], 9)
    assert [(float(a), float(b)) for a, b in zip(low, high, strict=True)] == [
        tuple(map(float, rate_limits(k, 9))) for k in (0, 3, 9)
    ]
    first = difference_limits([[1], [4]], 5, [2, 60], 90)
    assert first[0].shape == (2, 2) and float(first[1][1, 0]) == float(difference_limits(4, 5, 2, 90)[1])


@pytest.mark.parametrize(("right", "trials"), [(-1, 4), (5, 4), (0, 0), (float("nan"), 3), (1, float("inf"))])
def test_an_interval_of_impossible_counts_is_refused(right, trials):
    with pytest.raises(InputError, match="an interval needs counts"):
        rate_limits(right, trials)


def test_the_binomial_test_is_that_of_scipy():
    for k, n, rate in [(0, 5, 0.3), (5, 5, 0.3), (3, 17, 0.2), (60, 80, 0.7), (1, 3, 0.0), (3, 3, 1.0), (0, 4, 0.0)]:
        expected = stats.binomtest(k, n, rate, alternative="greater").pvalue
        assert float(binomial_p(k, n, rate)) == pytest.approx(expected, abs=1e-14)


def test_fishers_test_is_that_of_scipy():
    rng = np.random.default_rng(0)
    for _ in range(60):
        overlap, clean = rng.integers(0, 40, 2)
        a, b = rng.integers(0, overlap + 1), rng.integers(0, clean + 1)
        if overlap + clean == 0:
            continue
        expected = stats.fisher_exact([[a, overlap - a], [b, clean - b]], alternative="greater").pvalue
        assert fisher_p(int(a), int(overlap), int(a + b), int(overlap + clean)) == pytest.approx(expected, abs=1e-12)


def test_fishers_test_of_a_large_set_keeps_its_digits():
    expected = stats.hypergeom(50_000, 25_000, 1_000).sf(599)
    assert fisher_p(600, 1_000, 25_000, 50_000) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(InputError, match="do not fit"):
        fisher_p(3, 2, 5, 10)


def test_holm_and_bonferroni_by_hand():
    found = correct_over_sets({"a": 0.01, "b": 0.04, "none": None, "c": 0.03})
    assert set(found) == {"a", "b", "c"}
    assert [found[name].bonferroni for name in "abc"] == pytest.approx([0.03, 0.12, 0.09])
    # The least times 3, the next times 2, the last times 1, and none below the one before.
    assert [found[name].holm for name in "abc"] == pytest.approx([0.03, 0.06, 0.06])


def test_a_family_may_hold_tests_that_were_not_made():
    found = correct_over_sets({"a": 0.001, "b": 0.5}, num_tests=35)
    assert (found["a"].bonferroni, found["a"].holm) == pytest.approx((0.035, 0.035)) and found["b"].bonferroni == 1
    assert found["b"].holm == 1
    with pytest.raises(InputError, match="a family of 1 tests cannot hold 2"):
        correct_over_sets({"a": 0.1, "b": 0.1}, num_tests=1)
    assert correct_over_sets({"a": None}) == {}


def test_the_smallest_effect_of_ten_images_by_hand():
    # P(8 or more heads of 10) = 56 / 1024 is above 0.05, P(9 or more) = 11 / 1024 is not.
    found = smallest_detectable(10, 200, 0.5)
    assert found.least_right == 9 and found.reason is None
    assert stats.binom(10, 0.5 + found.gap).sf(8) == pytest.approx(0.8)
    assert found.difference == pytest.approx(found.gap / 20)


@pytest.mark.parametrize(
    ("n", "rate", "alpha"), [(3, 0.1, 0.05), (40, 0.9, 0.02), (40, 0.9, 0.01), (500, 0.37, 0.05 / 35)]
)
def test_the_least_count_that_is_rejected_is_found_by_trying_all(n, rate, alpha):
    rejected = [k for k in range(n + 1) if stats.binomtest(k, n, rate, alternative="greater").pvalue <= alpha]
    assert smallest_detectable(n, 2 * n, rate, alpha=alpha).least_right == min(rejected, default=None)


def test_where_no_effect_can_be_shown_the_reason_is_named():
    assert smallest_detectable(0, 10, 0.5).reason == NO_OVERLAP
    few = smallest_detectable(4, 100, 0.5)  # 4 of 4 right has p = 1 / 16
    assert few.gap is few.least_right is few.difference is None and "4 overlapping images are too few" in few.reason
    assert "every Clean image is right" in smallest_detectable(40, 100, 1.0).reason
    assert smallest_detectable(3, 9, 0.0).least_right == 1
    for wrong in ({"alpha": 0}, {"power": 1}, {"alpha": 0.5, "power": 0.4}):
        with pytest.raises(InputError):
            smallest_detectable(4, 100, 0.5, **wrong)
    with pytest.raises(InputError, match="do not fit together"):
        smallest_detectable(11, 10, 0.5)


# 1,000 images, 200 of them copies, of which the detector flags 160, and 40 others: precision and recall are 0.8.
# The model is right about 9 of 10 copies and 1 of 2 others: of the flagged about 144 + 20, of all about 180 + 400.
FLAGGED = Subsets(n_all=1000, n_overlap=200, right_all=580, right_overlap=164)


def test_the_detectors_errors_are_undone_in_a_case_counted_by_hand():
    rate = Rate.of_counts(800, 1000)
    found = correct_for_detector(analyse(FLAGGED), rate, rate)
    assert FLAGGED.gap == pytest.approx(0.3)  # 0.82 - 0.52, less than the true 0.9 - 0.5
    assert (found.value, found.gap, found.difference) == pytest.approx((0.2, 0.4, 0.08))
    for value, (low, high) in ((0.2, found.interval), (0.4, found.gap_interval), (0.08, found.difference_interval)):
        assert low < value < high
    assert found.level == found.effect_level == pytest.approx(1 - 3 * (1 - PART_LEVEL))


def test_a_detector_without_errors_changes_nothing():
    sure = Rate(1.0, 1.0, 1.0)
    found = correct_for_detector(analyse(FLAGGED), sure, sure)
    parts = analyse(FLAGGED, level=PART_LEVEL)
    assert (found.value, found.gap, found.difference) == pytest.approx((0.2, FLAGGED.gap, FLAGGED.difference))
    assert found.gap_interval == pytest.approx(parts.gap_interval)
    assert found.difference_interval == pytest.approx(parts.difference_interval)


def test_known_errors_stretch_the_intervals_by_the_same_factors():
    found = correct_for_detector(analyse(FLAGGED), Rate(0.8, 0.8, 0.8), Rate(0.8, 0.8, 0.8))
    parts = analyse(FLAGGED, level=PART_LEVEL)
    assert found.gap_interval == pytest.approx(tuple(end * 0.4 / 0.3 for end in parts.gap_interval))
    assert found.difference_interval == pytest.approx(tuple(end * 0.08 / 0.3 for end in parts.gap_interval))


def test_the_interval_of_the_true_contamination_is_its_box():
    precision, recall = Rate(0.9, 0.8, 0.95), Rate(0.5, 0.4, 0.6)
    low, high = stats.binomtest(200, 1000).proportion_ci(PART_LEVEL, "exact")
    found = correct_for_detector(analyse(FLAGGED), precision, recall)
    assert found.value == pytest.approx(0.2 * 0.9 / 0.5)
    assert found.interval == pytest.approx((low * 0.8 / 0.6, high * 0.95 / 0.4))


def test_a_detector_of_which_too_little_is_known_gives_no_effect():
    sure = Rate(1.0, 1.0, 1.0)
    weak = correct_for_detector(analyse(FLAGGED), sure, Rate(0.5, 0.1, 0.9))
    assert weak.gap is weak.gap_interval is weak.difference is None and "recall may be as low as 0.100" in weak.reason
    assert weak.interval[1] == 1.0
    blind = correct_for_detector(analyse(FLAGGED), Rate.of_counts(0, 5), sure)
    assert blind.gap is None and "precision may be 0" in blind.reason and blind.interval[0] == 0.0
    empty = correct_for_detector(analyse(Subsets(100, 0, 50, 0)), sure, sure)
    assert empty.reason == NO_OVERLAP and empty.value == 0.0 and 0 < empty.interval[1] < 0.1
    everything = correct_for_detector(analyse(Subsets(100, 100, 50, 50)), sure, sure)
    assert everything.reason == NO_CLEAN and everything.value == 1.0


def test_a_rate_must_be_ordered_and_have_a_level():
    with pytest.raises(InputError, match="a rate needs 0 <= low"):
        Rate(0.5, 0.6, 0.7)
    with pytest.raises(InputError, match="level is 1"):
        Rate(0.5, 0.4, 0.7, level=1)
    assert dataclasses.astuple(Rate.of_counts(3, 4, 0.9))[1:3] == pytest.approx(
        tuple(stats.binomtest(3, 4).proportion_ci(0.9, "exact"))
    )


def test_a_rate_of_strata_by_hand():
    # 9 of 10 in a band of 300 images, 1 of 4 in a band of 100; an empty band is left out.
    rate = Rate.of_strata([(9, 10, 300), (1, 4, 100), (0, 0, 0)])
    assert rate.value == pytest.approx(0.75 * 0.9 + 0.25 * 0.25) and rate.low < rate.value < rate.high
    one = Rate.of_strata([(9, 10, 300)])  # one stratum is a little wider than Clopper-Pearson
    alone = Rate.of_counts(9, 10)
    assert one.low <= alone.low and alone.high <= one.high and one.low == pytest.approx(alone.low, abs=0.05)
    assert Rate.of_strata([(5, 5, 90), (8, 8, 10)]).high == 1.0
    for strata in ([], [(0, 0, 10)], [(1, 1, 0)]):
        with pytest.raises(InputError, match="a rate of strata needs"):
            Rate.of_strata(strata)


def test_the_effective_number_of_trials_by_hand():
    # All right: the variance is 0, and the number is 1 / (0.81 / 10 + 0.01 / 10).
    assert weighted_rate([10, 10], [10, 10], [0.9, 0.1]) == (1.0, pytest.approx(1 / 0.082))
    value, number = weighted_rate([5, 5], [10, 10], [0.5, 0.5])
    drawn = Fraction(11, 2) / 11  # as the rate itself, since both strata have it
    variance = 2 * Fraction(1, 4) * drawn * (1 - drawn) / (1 - Fraction(10, 121)) / 10
    assert (value, number) == (0.5, pytest.approx(float(Fraction(1, 4) / variance)))
    # Strata of different rates, 2 of 4 and 38 of 40: each is drawn towards their mean, 0.725, as by one more trial.
    value, number = weighted_rate([2, 38], [4, 40], [0.5, 0.5])
    first, second = (2 + Fraction(29, 40)) / 5, (38 + Fraction(29, 40)) / 41
    variance = first * (1 - first) / 4 / (1 - Fraction(4, 25)) + second * (1 - second) / 40 / (1 - Fraction(40, 1681))
    assert (value, number) == pytest.approx((0.725, float(Fraction(29 * 11, 1600) / (variance / 4))))
    with pytest.raises(ShapeError, match="three rows"):
        weighted_rate([1], [1, 2], [1])
    with pytest.raises(InputError, match="weights that sum to 1"):
        weighted_rate([1, 1], [1, 2], [0.5, 0.6])
