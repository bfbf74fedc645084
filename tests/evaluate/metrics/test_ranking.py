"""Rankings: hand-solved cases, plain loops, and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, top_k_accuracy_score

from diptych.errors import InputError, ShapeError
from diptych.evaluate import average_precision_11_point, mean_average_precision, recall_at_k, roc_auc
from diptych.evaluate.metrics.ranking import resampled_mean_average_precision
from diptych.evaluate.metrics.score import score

ROWS = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=1, max_size=25).filter(
    lambda rows: any(right for right, _ in rows)
)


def test_average_precision_by_hand():
    # Right, wrong, right, wrong: precision 1 until recall 1/2 (0 to 0.5: six places), then 2/3 (0.6 to 1: five).
    found = average_precision_11_point([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    assert found == pytest.approx((6 * 1 + 5 * 2 / 3) / 11)
    assert average_precision_11_point([1, 1, 0], [3, 2, 1]) == 1.0
    assert average_precision_11_point([0, 0, 1], [3, 2, 1]) == pytest.approx(1 / 3)
    # All equal: one group, whatever the order.
    assert (
        average_precision_11_point([1, 0, 0, 0], [1, 1, 1, 1])
        == average_precision_11_point([0, 0, 0, 1], [1] * 4)
        == 0.25
    )


def test_what_is_not_counted_is_not_there():
    kept = np.array([True, False, True, True, False])
    relevant, scores = np.array([True, False, False, True, True]), np.array([0.1, 0.9, 0.5, 0.3, 0.8])
    assert average_precision_11_point(relevant, scores, kept) == average_precision_11_point(
        relevant[kept], scores[kept]
    )


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_average_precision_against_a_loop(rows):
    relevant, scores = zip(*rows, strict=True)
    total, points = sum(relevant), []
    for least in sorted(set(scores)):
        chosen = [right for right, score in rows if score >= least]
        points.append((sum(chosen) / total, sum(chosen) / len(chosen)))
    expected = sum(max(p for r, p in points if r * 10 >= tenth - 1e-6) for tenth in range(11)) / 11
    assert average_precision_11_point(relevant, scores) == pytest.approx(expected, abs=1e-12)


def test_the_mean_over_classes():
    relevant = np.array([[1, 0], [0, 1], [1, 1]])
    scores = np.array([[0.9, 0.2], [0.5, 0.1], [0.3, 0.7]])
    each = [average_precision_11_point(relevant[:, c], scores[:, c]) for c in range(2)]
    assert mean_average_precision(relevant, scores) == pytest.approx(np.mean(each))


def test_roc_auc_by_hand_and_against_scikit_learn():
    assert roc_auc([0, 1], [0.1, 0.9]) == 1.0
    assert roc_auc([0, 0, 1, 1], [1, 2, 2, 3]) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(2, size=200), rng.integers(20, size=200)
    assert roc_auc(labels, scores) == roc_auc_score(labels, scores)


def test_recall_with_several_captions_by_hand():
    # Three pictures, captions of pictures 0, 0, 1, 2, 2.
    owners = [0, 0, 1, 2, 2]
    scores = np.array([[0.1, 0.9, 0.8, 0.0, 0.0], [0.5, 0.4, 0.3, 0.6, 0.2], [0.7, 0.7, 0.1, 0.7, 0.1]])
    to_texts = [recall_at_k(scores, [0, 1, 2], owners, k) for k in (1, 2, 3, 4)]
    assert to_texts == pytest.approx([1 / 3, 1 / 3, 2 / 3, 1.0])  # the tie: caption 3 stands behind captions 0 and 1
    to_images = [recall_at_k(scores.T, owners, [0, 1, 2], k) for k in (1, 2, 3)]
    # Ranks of the right picture, caption by caption: third, first, second, first, second.
    assert to_images == pytest.approx([2 / 5, 4 / 5, 1.0])


def test_recall_of_single_items_against_scikit_learn():
    scores = np.random.default_rng(1).normal(size=(50, 12))
    owners = np.arange(50) % 12
    for k in (1, 3, 5):
        expected = top_k_accuracy_score(owners, scores, k=k)
        assert recall_at_k(scores, owners, np.arange(12), k) == pytest.approx(expected)
    assert recall_at_k(scores, owners, np.arange(12), 40) == 1.0


def test_resampled_precision_is_that_of_the_drawn_samples():
    rng = np.random.default_rng(3)
    relevant, scores = rng.random((60, 4)) < 0.3, rng.integers(0, 9, (60, 4)).astype(np.float32)
    counted = relevant | (rng.random((60, 4)) < 0.8)
    found = resampled_mean_average_precision(relevant, scores, counted, resamples=130, seed=5)
    same = np.random.default_rng(5)
    assert len(found) == 130
    for value in found:
        rows = same.integers(60, size=60)
        assert value == pytest.approx(mean_average_precision(relevant[rows], scores[rows], counted[rows]))


def test_a_draw_without_a_class_leaves_it_out():
    relevant = np.array([[True, False], [True, False], [True, True]])
    scores = np.array([[1.0, 0.9], [1.0, 0.0], [1.0, 1.0]])
    found = resampled_mean_average_precision(relevant, scores, resamples=50)
    assert found.tolist() == [1] * 50  # not the draw: the other class still counts


def test_a_mean_average_precision_has_its_interval():
    rng = np.random.default_rng(0)
    relevant = rng.random((300, 5)) < 0.3
    scores = relevant + rng.normal(0, 1.0, (300, 5))
    found = score("mean_average_precision_11_point", np.zeros(300, np.int64), scores, relevant=relevant)
    assert 0.4 < found.low < found.value < found.high < 0.9 and found.interval == "bootstrap 99.5%"
    assert score("mean_average_precision_11_point", np.zeros(300, np.int64), scores, relevant=relevant) == found


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: average_precision_11_point([1, 0], [0.1]), ShapeError, "shape"),
        (lambda: average_precision_11_point([0, 0], [0.1, 0.2]), InputError, "0 of 2 samples are relevant"),
        (lambda: average_precision_11_point([2, 0], [0.1, 0.2]), InputError, "True and False"),
        (lambda: average_precision_11_point([1, 0], [np.nan, 0.2]), InputError, "1 scores are NaN"),
        (lambda: average_precision_11_point([1, 0], [0.1, 0.2], [1, 1]), ShapeError, "counted must be bool"),
        (lambda: mean_average_precision([[1]], [[0.1, 0.2]]), ShapeError, "share one shape"),
        (lambda: roc_auc([1, 1], [0.1, 0.2]), InputError, "nothing to rank"),
        (lambda: recall_at_k([[0.1]], [0, 1], [0], 1), ShapeError, "do not fit"),
        (lambda: recall_at_k([[0.1]], [1], [0], 1), InputError, "have no item, the first one 1"),
        (lambda: recall_at_k([[0.1]], [0], [0], 0), InputError, "at least 1"),
        (lambda: recall_at_k([[np.nan]], [0], [0], 1), InputError, "NaN"),
    ],
)
def test_what_cannot_be_ranked_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
