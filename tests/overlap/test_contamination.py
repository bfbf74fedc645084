"""Overlap, Clean and All: cases solved by hand, and scipy's tests as a reference."""

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
from diptych.overlap.detection_error import Rate, correct_for_detector
from diptych.overlap.proportions import binomial_p, difference_limits, fisher_p, rate_limits, weighted_rate


def test_a_case_counted_by_hand():
    correct = np.array([1, 1, 1, 0, 1, 0, 0, 1, 0, 0], bool)
    overlap = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], bool)
    s = subset_accuracies(correct, overlap)
    assert (s.n_all, s.n_overlap, s.n_clean, s.right_overlap, s.right_clean) == (10, 4, 6, 3, 2)
    assert (s.accuracy_all, s.accuracy_overlap, s.accuracy_clean) == (0.5, 0.75, pytest.approx(1 / 3))
    assert s.contamination == 0.4 and s.gap == pytest.approx(0.75 - 1 / 3)
    assert s.difference == pytest.approx(0.5 - 1 / 3)  # All - Clean
    assert s.difference == pytest.approx(s.contamination * s.gap)
    analysis = analyse(s)
    assert analysis.p == pytest.approx(4 * (1 / 3) ** 3 * (2 / 3) + (1 / 3) ** 4)
    assert analysis.p_exact == pytest.approx((10 * 5 + 5) / 210)  # 4 of 10 are drawn, 5 of them right
    assert analysis.difference_interval == pytest.approx(tuple(0.4 * end for end in analysis.gap_interval))


def test_subsets_without_images_are_said():
    none = analyse(subset_accuracies(np.array([True, False]), np.array([False, False])))
    assert none.subsets.undefined == NO_OVERLAP and none.p is None and none.subsets.difference == 0.0
    assert none.difference_interval == (0.0, 0.0)
    every = analyse(subset_accuracies(np.array([True, False]), np.array([True, True])))
    assert every.subsets.undefined == NO_CLEAN and every.p is None and every.subsets.difference is None


@pytest.mark.parametrize("arrays", [([True], [True, False]), ([1, 0], [True, False]), ([], [])])
def test_arrays_that_do_not_fit_are_refused(arrays):
    with pytest.raises(ShapeError, match="two bool rows"):
        subset_accuracies(*map(np.array, arrays))
    with pytest.raises(InputError, match="do not fit together"):
        Subsets(10, 11, 5, 5)


CASES = [(0, 5, 0.3), (3, 5, 0.3), (5, 5, 0.3), (40, 60, 0.61), (1, 1, 0.0), (7, 200, 1.0), (199, 200, 0.95)]


@pytest.mark.parametrize(("right", "trials", "rate"), CASES)
def test_the_binomial_test_and_the_interval_are_scipys(right, trials, rate):
    expected = stats.binomtest(right, trials, rate, alternative="greater")
    assert float(binomial_p(right, trials, rate)) == pytest.approx(expected.pvalue, abs=1e-12)
    interval = stats.binomtest(right, trials).proportion_ci(0.995, method="exact")
    assert [float(end) for end in rate_limits(right, trials)] == pytest.approx([interval.low, interval.high], abs=1e-9)


@pytest.mark.parametrize(
    ("right", "trials", "right_all", "n_all"), [(3, 4, 5, 10), (0, 4, 5, 10), (4, 4, 4, 9), (30, 50, 200, 500)]
)
def test_fishers_test_is_scipys(right, trials, right_all, n_all):
    table = [[right, trials - right], [right_all - right, n_all - right_all - (trials - right)]]
    expected = stats.fisher_exact(table, alternative="greater").pvalue
    assert fisher_p(right, trials, right_all, n_all) == pytest.approx(expected, rel=1e-9)


def test_a_difference_lies_in_its_limits_and_is_turned_with_its_samples():
    low, high = map(float, difference_limits(8, 10, 300, 1000))
    assert low < 0.5 < high
    turned = [float(end) for end in difference_limits(300, 1000, 8, 10)]
    assert turned == pytest.approx([-high, -low])


def test_corrections_are_those_of_a_hand_solved_family():
    corrected = correct_over_sets({"a": 0.01, "b": 0.04, "c": 0.03, "d": None})
    assert {name: one.bonferroni for name, one in corrected.items()} == pytest.approx({"a": 0.03, "b": 0.12, "c": 0.09})
    assert {name: one.holm for name, one in corrected.items()} == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert correct_over_sets({"a": 0.01}, num_tests=35)["a"].bonferroni == pytest.approx(0.35)
    with pytest.raises(InputError, match="cannot hold"):
        correct_over_sets({"a": 0.1, "b": 0.1}, num_tests=1)


def test_the_smallest_detectable_effect_has_the_power_that_is_stated():
    found = smallest_detectable(200, 10_000, 0.6, alpha=0.05, power=0.8)
    rate = 0.6 + found.gap
    assert stats.binom.sf(found.least_right - 1, 200, rate) == pytest.approx(0.8, abs=1e-6)
    assert stats.binom.sf(found.least_right - 1, 200, 0.6) <= 0.05 < stats.binom.sf(found.least_right - 2, 200, 0.6)
    assert found.difference == pytest.approx(0.02 * found.gap)
    assert smallest_detectable(1, 100, 0.6).gap is None  # one image proves nothing
    assert smallest_detectable(0, 100, 0.6).reason == NO_OVERLAP


def test_a_perfect_detector_changes_nothing():
    analysis = analyse(Subsets(1000, 100, 640, 80))
    perfect = Rate(1.0, 1.0, 1.0)
    corrected = correct_for_detector(analysis, perfect, perfect)
    assert corrected.value == pytest.approx(0.1)
    assert corrected.gap == pytest.approx(analysis.subsets.gap)
    assert corrected.difference == pytest.approx(analysis.subsets.difference)


def test_errors_of_the_detector_are_undone():
    """1,000 copies of 5,000 images, right at 0.9 and 0.6. Precision 0.8 and recall 0.5: 625 are flagged, 500 truly."""
    flagged_right = 500 * 0.9 + 125 * 0.6
    clean_right = 500 * 0.9 + 3875 * 0.6
    analysis = analyse(Subsets(5000, 625, round(flagged_right + clean_right), round(flagged_right)))
    corrected = correct_for_detector(analysis, Rate(0.8, 0.8, 0.8), Rate(0.5, 0.5, 0.5))
    assert corrected.value == pytest.approx(0.2)
    assert corrected.gap == pytest.approx(0.3, abs=1e-6)
    assert corrected.difference == pytest.approx(0.2 * 0.3, abs=1e-6)


def test_equal_strata_are_one_sample():
    value, n = weighted_rate([8, 8], [10, 10], [0.5, 0.5])
    assert value == pytest.approx(0.8) and 18 < n <= 20  # never more than were drawn
    assert Rate.of_strata([(8, 10, 50), (8, 10, 50)]).value == pytest.approx(0.8)
    with pytest.raises(InputError, match="judgement in each stratum"):
        Rate.of_strata([(0, 0, 50)])
