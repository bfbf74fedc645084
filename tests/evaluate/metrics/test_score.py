"""`score`: each metric's interval written out draw by draw, and its edges."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from diptych.errors import InputError, ShapeError
from diptych.evaluate.metrics import score as module
from diptych.evaluate.metrics.ranking import mean_average_precision
from diptych.evaluate.metrics.score import score

RNG = np.random.default_rng(7)
LABELS = RNG.integers(0, 3, 40)
SCORES = RNG.normal(size=(40, 3)) + np.eye(3)[LABELS]
RELEVANT = RNG.normal(size=(40, 3)) + SCORES > 0.5
TAILS = [0.0025, 0.9975]


def draws(statistic, seed: int, number: int = 40) -> list[float]:
    """Quantiles of 1,000 draws with replacement."""
    rng = np.random.default_rng(seed)
    return np.quantile([statistic(rng.integers(number, size=number)) for _ in range(1000)], TAILS)


def test_intervals_of_what_is_no_count_are_quantiles_of_draws():
    seed = 4  # another than what all begin with
    best = SCORES.argmax(axis=1)
    found = score("mean_per_class_accuracy", LABELS, SCORES, seed=seed)
    assert found.value == pytest.approx(balanced_accuracy_score(LABELS, best))
    by_class = draws(lambda rows: balanced_accuracy_score(LABELS[rows], best[rows]), seed)
    assert (found.low, found.high) == pytest.approx(by_class)
    found = score("mean_of_top_1_and_5", LABELS, SCORES, seed=seed)
    gained = ((best == LABELS) + 1.0) / 2  # of three classes all five best are all
    assert (found.low, found.high) == pytest.approx(draws(lambda rows: gained[rows].mean(), seed))
    name = "mean_average_precision_11_point"
    found = score(name, LABELS, SCORES, relevant=RELEVANT, seed=seed)
    expected = draws(lambda rows: mean_average_precision(RELEVANT[rows], SCORES[rows]), seed)
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.interval == "bootstrap 99.5%" and found.n == 40


def test_an_area_is_drawn_within_each_class():
    labels, scores = (LABELS > 0).astype(int), SCORES[:, :2]
    surety = scores[:, 1] - scores[:, 0]
    rng = np.random.default_rng(4)
    yes, no = surety[labels == 1], surety[labels == 0]
    areas = []
    for _ in range(1000):
        more, less = yes[rng.integers(len(yes), size=len(yes))], no[rng.integers(len(no), size=len(no))]
        areas.append(roc_auc_score([1] * len(yes) + [0] * len(no), [*more, *less]))
    found = score("roc_auc", labels, scores, seed=4)
    assert found.value == pytest.approx(roc_auc_score(labels, surety))
    assert (found.low, found.high) == pytest.approx(np.quantile(areas, TAILS))


def test_a_label_stands_for_its_column_where_nothing_else_is_relevant():
    found = score("mean_average_precision_11_point", LABELS, SCORES)
    assert found.value == pytest.approx(mean_average_precision(np.eye(3, dtype=bool)[LABELS], SCORES))


@pytest.mark.parametrize("metric", ["roc_auc", "mean_average_precision_11_point"])
def test_rankings_of_very_many_samples_have_no_interval(metric, monkeypatch):
    labels, scores = (LABELS > 0).astype(int), SCORES[:, :2]
    monkeypatch.setattr(module, "_MAX_RANKED", 40)
    assert score(metric, labels, scores).low is not None
    monkeypatch.setattr(module, "_MAX_RANKED", 39)
    beyond = score(metric, labels, scores)
    assert (beyond.low, beyond.high, beyond.interval, beyond.n) == (None, None, None, 40)


def test_two_samples_have_an_interval_and_one_has_none():
    for metric in ("mean_of_top_1_and_5", "mean_average_precision_11_point"):
        assert score(metric, [0, 1], np.eye(2)).interval == "bootstrap 99.5%"
        relevant = np.array([[True, True]])
        assert score(metric, [0], np.array([[1.0, 0.0]]), relevant=relevant).interval is None


def test_of_two_classes_the_wrong_one_is_the_other():
    assert score("mean_per_class_accuracy", [0, 0, 1], [[0, 1], [1, 0], [1, 0]]).value == (1 / 2 + 0) / 2


def test_what_does_not_fit_is_refused():
    for labels, scores in (([0], [0.5]), ([0, 1], np.eye(3)), ([[0]], [[1.0]]), ([], np.zeros((0, 2)))):
        with pytest.raises(ShapeError, match="must be"):
            score("accuracy", labels, scores)
    for labels in ([0, 2], [-1, 0]):
        with pytest.raises(InputError, match=r"\[0, 2\); found"):
            score("accuracy", labels, np.eye(2))
    with pytest.raises(InputError, match="2 of 3 samples"):
        score("accuracy", [0, 1, 1], [[np.nan, 0], [0, 1], [np.inf, 1]])
    with pytest.raises(ShapeError, match="two classes, not of 3"):
        score("roc_auc", LABELS, SCORES)
    assert score("accuracy", [0], [[1.0]]).value == 1.0
