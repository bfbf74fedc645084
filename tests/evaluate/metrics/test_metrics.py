import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, top_k_accuracy_score

from diptych.errors import InputError, ShapeError
from diptych.evaluate.metrics.classification import accuracy, accuracy_top_k, confusion_matrix, mean_per_class_accuracy

# Six samples of four classes, solved by hand; class 3 has no sample.
LABELS = np.array([0, 0, 0, 1, 1, 2])
SCORES = np.array(
    [
        [0.7, 0.1, 0.1, 0.1],  # right
        [0.2, 0.5, 0.2, 0.1],  # 1; class 0 is second, it ties with 2 and has the lower index
        [0.1, 0.2, 0.3, 0.4],  # 3; class 0 is last
        [0.1, 0.6, 0.2, 0.1],  # right
        [0.4, 0.4, 0.1, 0.1],  # 0 and 1 tie: 0 is chosen, 1 is second
        [0.3, 0.3, 0.3, 0.1],  # three tie: 0 is chosen, 2 is third
    ]
)


def test_hand_solved_scores():
    assert accuracy(LABELS, SCORES) == pytest.approx(2 / 6)
    assert accuracy_top_k(LABELS, SCORES, 1) == pytest.approx(2 / 6)
    assert accuracy_top_k(LABELS, SCORES, 2) == pytest.approx(4 / 6)
    assert accuracy_top_k(LABELS, SCORES, 3) == pytest.approx(5 / 6)
    assert accuracy_top_k(LABELS, SCORES, 4) == 1.0
    assert mean_per_class_accuracy(LABELS, SCORES) == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)
    assert confusion_matrix(LABELS, SCORES, 4).tolist() == [[1, 1, 0, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_classes_and_ranked_classes_give_the_numbers_of_the_scores():
    ranked = np.argsort(-SCORES, axis=1, kind="stable")
    for predictions in (ranked[:, 0], ranked, torch.from_numpy(SCORES), SCORES.astype(np.float32).tolist()):
        assert accuracy(LABELS, predictions) == pytest.approx(2 / 6)
        assert mean_per_class_accuracy(LABELS.tolist(), predictions) == pytest.approx(5 / 18)
    for k in (1, 2, 3, 4):
        assert accuracy_top_k(LABELS, ranked, k) == accuracy_top_k(LABELS, SCORES, k)


def test_all_scores_equal_is_not_a_win_for_every_class():
    assert accuracy(np.arange(4), np.zeros((4, 4))) == 0.25
    assert accuracy_top_k(np.arange(4), np.zeros((4, 4)), 2) == 0.5


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(3, 8))
@settings(max_examples=50, deadline=None)
def test_agrees_with_scikit_learn(seed, num_samples, num_classes):
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(num_classes, size=num_samples), rng.random((num_samples, num_classes))
    present = np.unique(labels)
    best = scores.argmax(axis=1)
    assert accuracy(labels, scores) == pytest.approx(accuracy_score(labels, best))
    assert accuracy_top_k(labels, scores, 2) == pytest.approx(
        top_k_accuracy_score(labels, scores, k=2, labels=np.arange(num_classes))
    )
    by_class = [np.mean(best[labels == c] == c) for c in present]
    assert mean_per_class_accuracy(labels, scores) == pytest.approx(np.mean(by_class))
    if len(present) == num_classes:
        assert mean_per_class_accuracy(labels, scores) == pytest.approx(balanced_accuracy_score(labels, best))
    assert confusion_matrix(labels, scores, num_classes).sum() == num_samples


@pytest.mark.parametrize("metric", [accuracy, mean_per_class_accuracy, lambda a, b: accuracy_top_k(a, b, 2)])
def test_nan_scores_are_an_error(metric):
    scores = SCORES.copy()
    scores[2, 3] = np.nan
    with pytest.raises(InputError, match="1 of 6 samples have a NaN score"):
        metric(LABELS, scores)


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [
        ([], np.zeros((0, 4))),
        ([0, 1], np.zeros((3, 4))),
        ([0, 1], [0, 1, 2]),
        ([[0, 1]], [[0, 1]]),
        ([0, 1], np.zeros((2, 0))),
        ([0, 1], np.zeros((2, 2, 2))),
        ([0, 1], [0.0, np.nan]),
        ([0, 1], 3),
    ],
)
def test_shapes_that_do_not_fit(labels, predictions):
    for metric in (accuracy, mean_per_class_accuracy, lambda a, b: accuracy_top_k(a, b, 1)):
        with pytest.raises(ShapeError):
            metric(np.array(labels, dtype=np.int64), predictions)


@pytest.mark.parametrize("k", [0, -1, 5])
def test_k_outside_the_classes(k):
    with pytest.raises(ShapeError, match=f"top {k}"):
        accuracy_top_k(LABELS, SCORES, k)


def test_labels_that_are_no_classes():
    with pytest.raises(InputError, match="whole numbers"):
        accuracy(LABELS + 0.5, SCORES)
    with pytest.raises(InputError, match=r"\[0, 4\)"):
        accuracy(LABELS + 3, SCORES)
    with pytest.raises(InputError, match=r"\[0, 4\)"):
        accuracy_top_k(LABELS - 1, SCORES, 2)
    with pytest.raises(InputError, match=r"\[0, 2\)"):
        confusion_matrix(LABELS, SCORES, 2)
