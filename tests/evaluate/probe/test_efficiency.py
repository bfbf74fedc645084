"""Effective data efficiency, on curves solved by hand and on the paper's own numbers."""

import math

import numpy as np
import pytest

from diptych.errors import InputError, ShapeError
from diptych.evaluate.probe.data_efficiency import Needed, examples_to_match, summarise_needed
from diptych.report.paper_numbers import published


def test_the_score_is_linear_in_the_logarithm_of_the_examples():
    # A quarter of the way up from 4 to 64 is a quarter of the four doublings between: 4 * 2 = 8.
    assert examples_to_match([4, 64], [0.2, 0.6], 0.3) == pytest.approx(8)
    # Three points: 0.55 lies halfway between 0.5 and 0.6, and so does sqrt(2 * 8) = 4 between 2 and 8.
    assert examples_to_match([1, 2, 8], [0.1, 0.5, 0.6], 0.55) == pytest.approx(4)


def test_full_supervision_is_a_point_of_the_curve():
    # 250 / 10 = 25 examples per class and sqrt(10) times as many for half of the gain.
    assert examples_to_match([10, 250], [50, 70], 60) == pytest.approx(50)


@pytest.mark.parametrize("place", range(4))
def test_a_score_met_exactly_at_a_point_gives_its_count(place):
    shots, scores = [1, 2, 4, 500.5], [0.3, 0.5, 0.55, 0.9]
    assert examples_to_match(shots, scores, scores[place]) == pytest.approx(shots[place])


def test_numpys_interpolation_agrees_on_random_rising_curves():
    rng = np.random.default_rng(0)
    for _ in range(50):
        shots = np.cumsum(rng.uniform(0.5, 20, 6))
        scores = np.cumsum(rng.uniform(0.01, 0.2, 6))
        wanted = rng.uniform(scores[0], scores[-1])
        expected = math.exp(np.interp(wanted, scores, np.log(shots)))
        assert examples_to_match(shots.tolist(), scores.tolist(), wanted) == pytest.approx(expected)


def test_a_curve_above_zero_shot_from_the_start_is_prolonged_to_the_left():
    # 0.1 per doubling; 0.05 below the first point is half a doubling less: 1 / sqrt(2).
    assert examples_to_match([1, 2, 4], [0.6, 0.7, 0.9], 0.55) == pytest.approx(2**-0.5)


@pytest.mark.parametrize("scores", [[0.6, 0.6, 0.9], [0.6, 0.5, 0.9], [0.6]])
def test_without_a_slope_to_follow_the_first_count_is_an_upper_bound(scores):
    assert examples_to_match([1, 2, 4][: len(scores)], scores, 0.55) == 1


def test_a_curve_that_never_reaches_zero_shot_gives_none():
    assert examples_to_match([1, 16, 400], [0.1, 0.2, 0.3], 0.301) is None


def test_of_several_crossings_the_first_counts():
    assert examples_to_match([1, 2, 4, 8], [0.2, 0.4, 0.1, 0.5], 0.3) == pytest.approx(2**0.5)


@pytest.mark.parametrize("shots", [[0, 1], [2, 1], [1, 1], [-1, 1], [1, math.inf], [math.nan, 1]])
def test_examples_that_do_not_increase_from_above_0_are_refused(shots):
    with pytest.raises(InputError, match="must increase"):
        examples_to_match(shots, [0.1, 0.2], 0.15)


def test_other_bad_input_is_refused():
    with pytest.raises(ShapeError, match="2 counts of examples and 1 scores"):
        examples_to_match([1, 2], [0.1], 0.1)
    with pytest.raises(ShapeError):
        examples_to_match([], [], 0.1)
    for scores, zero_shot in (([0.1, math.nan], 0.1), ([0.1, 0.2], math.nan)):
        with pytest.raises(InputError, match="not finite"):
            examples_to_match([1, 2], scores, zero_shot)


def test_mean_and_median_over_sets():
    assert summarise_needed([1.0, 2.0, 6.0]) == Needed(3.0, 2.0, 3, 0)
    assert summarise_needed([8.0, 2.0, None]) == Needed(5.0, 8.0, 3, 1)
    assert summarise_needed([8.0, None, None]) == Needed(8.0, None, 3, 2)
    assert summarise_needed([8.0, None]) == Needed(8.0, None, 2, 1)  # halfway between 8 and more than the full set
    assert summarise_needed([]) == Needed(None, None, 0, 0)


def test_the_papers_mean_and_median_come_out_of_its_26_bars():
    needed = summarise_needed(published("figure 7")["examples per class"].values())
    assert (needed.num, needed.num_never) == (26, 0)
    assert round(needed.mean, 1) == 20.8
    assert needed.median == pytest.approx(5.4)
