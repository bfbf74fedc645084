"""Metrics to the last sample: hand-solved cases at the edges, where a small change of the code changes a number."""

import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from diptych.errors import InputError
from diptych.evaluate import (
    accuracy,
    as_good_as_best,
    average_precision_11_point,
    bootstrap,
    clopper_pearson,
    confusion_matrix,
    great_circle_km,
    mean_average_precision,
    paired_test,
    share_within,
)
from diptych.evaluate.metrics.comparison import holm
from diptych.evaluate.metrics.geography import EARTH_RADIUS_KM
from diptych.evaluate.metrics.logit_line import LogitLine, above_line, effective_robustness, fit_logit_line
from diptych.evaluate.metrics.ranking import resampled_mean_average_precision
from diptych.evaluate.metrics.score import relevance, score
from diptych.evaluate.tasks.robustness import accuracy_pm_k

# ------------------------------------------------------------------ classes


def test_the_first_of_ranked_classes_counts():
    assert accuracy([0, 1, 2], [[0, 1], [1, 0], [2, 0]]) == 1.0
    assert accuracy([0, 1, 2], [[1, 0], [0, 1], [0, 2]]) == 0.0


def test_a_confusion_matrix_has_a_row_for_a_class_that_nobody_saw():
    assert confusion_matrix([0, 1], [0, 0], 3).tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    for labels, classes in (([0, 2], [0, 1]), ([0, 1], [0, 2])):
        with pytest.raises(InputError, match=r"\[0, 2\)"):
            confusion_matrix(labels, classes, 2)


def test_the_first_label_too_many_is_refused_and_broken_samples_are_counted():
    with pytest.raises(InputError, match=r"\[0, 2\); found 0 to 2"):
        accuracy([0, 2], [[0.1, 0.9], [0.2, 0.8]])
    with pytest.raises(InputError, match="2 of 3 samples have a NaN score"):
        accuracy([0, 1, 1], [[0.1, np.nan], [0.2, 0.8], [np.nan, np.nan]])


# ------------------------------------------------------------------ two models


def test_the_difference_of_two_models_and_its_interval():
    first = np.array([1] * 2 + [0] * 6 + [1] * 3 + [0] * 2, bool)
    second = np.array([0] * 2 + [1] * 6 + [1] * 3 + [0] * 2, bool)
    found = paired_test(first, second)
    assert (found.only_first, found.only_second) == (2, 6)
    assert found.difference == pytest.approx(first.mean() - second.mean()) == pytest.approx(-4 / 13)
    share = stats.binomtest(2, 8).proportion_ci(0.995, method="exact")
    # Of the 8 samples that one alone gets right a share s is the first's: the difference is (s - (1 - s)) 8 / 13.
    assert (found.low, found.high) == pytest.approx([(2 * one - 1) * 8 / 13 for one in share])
    level = paired_test([True] * 4 + [False] * 4, [False] * 4 + [True] * 4)
    assert level.difference == 0 and level.low == pytest.approx(-level.high) and level.high > 0.5
    same = paired_test([True, False], [True, False])
    assert (same.difference, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_holms_correction_by_hand():
    # Sorted: 0.005 * 4, 0.01 * 3, 0.03 * 2, and 0.04 * 1, which may not fall below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0] and holm([0.3]) == [0.3] and holm([]) == []
    assert holm([0.2, 0.001]) == pytest.approx([0.2, 0.002])


def test_a_bootstrap_is_the_quantiles_of_its_draws():
    values = np.random.default_rng(1).normal(size=30)
    rng = np.random.default_rng(0)
    draws = [values[rng.integers(30, size=30)].mean() for _ in range(50)]
    found = bootstrap(lambda rows: values[rows].mean(), 30, level=0.8, resamples=50)
    assert found == pytest.approx(np.quantile(draws, [0.1, 0.9]))
    assert found != bootstrap(lambda rows: values[rows].mean(), 30, level=0.8, resamples=50, seed=1)
    assert bootstrap(lambda rows: 1.0, 2, level=0.5, resamples=4) == (1.0, 1.0)  # the least that gives an interval
    for n, level, resamples in ((1, 0.5, 4), (2, 0.0, 4), (2, 1.0, 4), (2, 0.5, 3)):
        with pytest.raises(InputError, match="no interval"):
            bootstrap(lambda rows: 1.0, n, level=level, resamples=resamples)
    few = iter([float("nan"), 1.0, 1.0, float("nan")])
    with pytest.raises(InputError, match="NaN for 2 of 4"):
        bootstrap(lambda rows: next(few), 2, level=0.5, resamples=4)


def test_bold_at_the_ends_of_the_scale():
    assert as_good_as_best([1.0, 0.99, 0.5], 1000) == [True, clopper_pearson(1000, 1000)[0] <= 0.99, False]
    for scores in ([0.5, 1.5], [0.5, -0.1]):
        with pytest.raises(InputError, match="a column needs fractions"):
            as_good_as_best(scores, 10)


# ------------------------------------------------------------------ the globe


def test_places_at_the_edge_of_the_globe():
    rng = np.random.default_rng(0)
    places = rng.uniform((-90, -180), (90, 0), size=(2000, 2))
    antipodes = np.c_[-places[:, 0], places[:, 1] + 180]
    assert great_circle_km(places, antipodes) == pytest.approx(np.pi * EARTH_RADIUS_KM)  # where rounding passes 1, too
    for wrong, place in (([[0, 0], [91, 0]], 1), ([[0, 180.5]], 0), ([[0, 0], [0, None]], 1)):
        with pytest.raises(InputError, match=f"place {place} is not on the globe"):
            great_circle_km(wrong, [[0, 0]] * len(wrong))
    assert share_within([0.0, 2.0]) == {1: 0.5, 25: 1, 200: 1, 750: 1, 2500: 1}
    for wrong in ([5, -1], [None]):
        with pytest.raises(InputError, match="distances"):
            share_within(wrong)


# ------------------------------------------------------------------ the line between logits

X = np.array([0.5, 0.6, 0.7, 0.8, 0.9])
Y = expit(1.2 * logit(X) - 0.5 + np.array([0.1, -0.1, 0.05, 0.0, -0.05]))


def test_the_band_is_that_of_the_lines_drawn():
    line = fit_logit_line(X, Y)
    assert (line.a, line.b) == pytest.approx(np.polyfit(logit(X), logit(Y), 1))
    assert len(line.draws) <= 1000 and len(line.draws) > 990  # but for draws of one model alone, five times
    heights = line.draws[:, 0] * logit(0.75) + line.draws[:, 1]
    for level in (0.95, 0.5):
        low, high = line.band([0.6, 0.75], level)
        expected = expit(np.quantile(heights, [(1 - level) / 2, (1 + level) / 2]))
        assert (low[1], high[1]) == pytest.approx(expected)
    assert line.band(0.75)[0].shape == ()
    assert fit_logit_line(X[:2], Y[:2]).num_models == 2  # two models are enough


def test_effective_robustness_is_what_lies_above_the_line():
    line = fit_logit_line(X, Y, resamples=60, seed=3)
    expected = above_line(line, [0.65], [0.7])
    found = effective_robustness([0.65], [0.7], X, Y, resamples=60, seed=3)
    assert found.effective == expected.effective and (found.low, found.high) == (expected.low, expected.high)
    low, high = line.band([0.65])
    assert (found.low[0], found.high[0]) == pytest.approx((0.7 - high[0], 0.7 - low[0]))
    usual = effective_robustness([0.65], [0.7], X, Y)
    assert usual.low == above_line(fit_logit_line(X, Y, resamples=1000, seed=0), [0.65], [0.7]).low


def test_a_model_on_the_diagonal_line_closes_no_gap_without_a_warning():
    line = LogitLine(1.0, 0.0, np.array([[1.0, 0.0]]), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gap = above_line(line, [0.5, 0.5], [0.4, 0.5]).gap_closed
    assert np.isinf(gap[0]) and np.isnan(gap[1])


# ------------------------------------------------------------------ rankings, scores


def test_whole_numbers_without_a_sign_rank_like_others():
    scores = np.array([3, 0, 2, 1], np.uint8)
    assert average_precision_11_point([1, 0, 0, 1], scores) == average_precision_11_point([1, 0, 0, 1], scores * 1.0)
    relevant = np.random.default_rng(0).random((30, 2)) < 0.5
    given = resampled_mean_average_precision(relevant, relevant * 1.0, resamples=5)
    assert (given == resampled_mean_average_precision(relevant, relevant * 1.0, resamples=5, seed=0)).all()


def test_roc_auc_is_that_of_the_second_class():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    scores = rng.normal(size=(200, 2))
    scores[:, 1] += labels
    found = score("roc_auc", labels, scores)
    assert found.value == pytest.approx(roc_auc_score(labels, scores[:, 1] - scores[:, 0]))
    assert 0.65 < found.value < 0.85 and found.low < found.value < found.high
    assert score("roc_auc", labels, scores[:, ::-1]).value == pytest.approx(1 - found.value)
    # Within each class as many are drawn as there are; so is the interval of 300 draws by hand.
    assert found.interval == "bootstrap 99.5%" and found.n == 200
    assert found == score("roc_auc", labels, scores, seed=0) != score("roc_auc", labels, scores, seed=1)


def test_its_interval_is_of_draws_within_each_class_each_measured_by_scikit_learn():
    rng = np.random.default_rng(3)
    labels, surety = np.repeat([0, 1], [30, 12]), np.round(rng.standard_normal(42), 1)  # some are equal
    found, draws, rng = score("roc_auc", labels, np.stack([-surety, surety], axis=1) / 2), [], np.random.default_rng(0)
    for _ in range(1000):
        rows = np.concatenate([rng.choice(np.arange(30, 42), 12), rng.choice(np.arange(30), 30)])
        draws.append(roc_auc_score(labels[rows], surety[rows]))
    assert (found.low, found.high) == pytest.approx(np.quantile(draws, [0.0025, 0.9975]), abs=1e-12)


def test_every_metric_by_hand():
    labels = np.array([0, 1, 2, 3, 4, 5, 0, 0])
    scores = np.zeros((8, 7))
    ranks = [1, 2, 5, 6, 1, 3, 7, 1]
    for row, (label, rank) in enumerate(zip(labels, ranks, strict=True)):
        others = [one for one in range(7) if one != label]
        order = [*others[: rank - 1], label, *others[rank - 1 :]]
        scores[row, order] = np.arange(7, 0, -1)
    assert score("accuracy", labels, scores).value == 3 / 8
    top = score("accuracy_top_5", labels, scores)
    assert (top.value, top.n, top.interval) == (6 / 8, 8, "clopper-pearson 99.5%")
    assert (top.low, top.high) == clopper_pearson(6, 8)
    assert score("mean_of_top_1_and_5", labels, scores).value == (3 / 8 + 6 / 8) / 2
    per_class = score("mean_per_class_accuracy", labels, scores)
    assert per_class.value == pytest.approx((2 / 3 + 0 + 0 + 0 + 1 + 0) / 6)
    assert per_class.low < per_class.value < per_class.high and per_class.interval == "bootstrap 99.5%"
    assert score("mean_per_class_accuracy", labels[:1], scores[:1]) == score(
        "mean_of_top_1_and_5", labels[:1], scores[:1]
    )
    assert score("mean_of_top_1_and_5", labels[:1], scores[:1]).low is None  # one sample has no interval
    with pytest.raises(InputError, match="no metric"):
        score("accuracy_top_9", labels, scores)


def test_difficult_objects_do_not_count():
    """VOC: an object marked as difficult is neither a hit nor a miss of its class."""
    metadata = [
        {"labels": (0,), "ignored": (1,)},
        {"labels": (), "ignored": (0,)},
        {"labels": (1,)},
        {"labels": (0, 1), "ignored": (1,)},  # an easy object beside a difficult one of its class
    ]
    relevant, counted = relevance(metadata, 2)
    assert relevant.tolist() == [[True, False], [False, False], [False, True], [True, True]]
    assert counted.tolist() == [[True, False], [False, True], [True, True], [True, True]]
    scores = np.array([[0.5, 0.9], [0.9, 0.1], [0.1, 0.5], [0.4, 0.4]])
    # Class 0: the surest image is a difficult one and left out, then two hits, then a miss. Class 1: likewise.
    assert mean_average_precision(relevant, scores, counted) == 1.0
    found = score("mean_average_precision_11_point", np.zeros(4, int), scores, relevant=relevant, counted=counted)
    assert found.value == 1.0
    wrong = score("mean_average_precision_11_point", np.zeros(4, int), scores, relevant=relevant)
    assert wrong.value == pytest.approx(2 / 3)  # of two hits below one miss the precisions are 1/2 and 2/3


def test_frames_before_and_after_the_anchor_count():
    # Two anchors, each with a frame three before and one two after it; only the first one's earlier frame is wrong.
    anchors = ["a", "a", "a", "b", "b", "b"]
    offsets = [-3, 0, 2, -3, 0, 2]
    for wrong_row, expected in ((0, {0: 1.0, 1: 1.0, 2: 1.0, 3: 0.5}), (2, {0: 1.0, 1: 1.0, 2: 0.5, 3: 0.5})):
        right = np.arange(6) != wrong_row
        assert {k: accuracy_pm_k(right, anchors, offsets, k).value for k in range(4)} == expected
    both = np.array([False, True, True, True, True, False])
    assert accuracy_pm_k(both, anchors, offsets, 10).value == 0.0
    assert accuracy_pm_k(both, anchors, offsets, 10).n == 2
    assert accuracy_pm_k(np.array([True, False, True, True, True, True]), anchors, offsets, 0).value == 0.5
