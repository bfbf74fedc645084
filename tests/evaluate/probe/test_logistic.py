"""Logistic regression of the probe: hand-solved cases, scikit-learn, and what must not change a number."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp
from sklearn.linear_model import LogisticRegression

from diptych.errors import InputError, ShapeError
from diptych.evaluate.probe.design import Design
from diptych.evaluate.probe.logistic import Fitted, fit_logistic, make_design
from diptych.evaluate.probe.losses import evaluate

LAMBDAS = (1e-4, 1e-1, 1e1, 1e3)


def blobs(num_rows=600, width=24, num_classes=5, seed=0, decay=1.5, away=2.0):
    """Classes that overlap, in features whose variances fall by a power law, far from the origin."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_rows)
    means = rng.standard_normal((num_classes, width)) * 0.4
    turned = np.linalg.qr(rng.standard_normal((width, width)))[0]
    scales = np.arange(1, width + 1) ** -decay * np.sqrt(width)
    features = ((means[labels] + rng.standard_normal((num_rows, width))) * scales) @ turned + away
    return features.astype(np.float32), labels


def objective(features, labels, weights, bias, penalty, toward=0.0):
    scores = features.astype(np.float64) @ weights.T + bias
    loss = logsumexp(scores, axis=1) - scores[np.arange(len(labels)), labels]
    return loss.sum() + penalty / 2 * np.square(weights - toward).sum()


def sklearn_fit(features, labels, penalty, tol=1e-4, solver="lbfgs"):
    return LogisticRegression(C=1 / penalty, max_iter=1000, tol=tol, solver=solver).fit(features.astype(float), labels)


def test_two_points_by_hand():
    # One feature, -1 and 1, and two classes: by symmetry W = (-w, w) and b = 0, and the gradient of
    # 2 log(1 + exp(-2w)) + lambda w^2 is zero where lambda w = 2 sigmoid(-2w). For w = 1 that is this lambda:
    penalty = 2 / (1 + np.exp(2))
    (found,) = fit_logistic(np.array([[-1.0], [1.0]]), np.array([0, 1]), 2, [penalty], tolerance=1e-14)
    np.testing.assert_allclose(found.weights, [[-1], [1]], rtol=1e-6)
    np.testing.assert_allclose(found.bias, [0, 0], atol=1e-7)
    assert found.objective == pytest.approx(2 * np.log1p(np.exp(-2)) + penalty)
    assert found.converged


def test_a_large_penalty_leaves_the_logarithms_of_the_class_shares():
    labels = np.repeat([0, 1, 2], [10, 20, 40])
    features = np.random.default_rng(0).standard_normal((70, 4))
    (found,) = fit_logistic(features, labels, 3, [1e9], tolerance=1e-12)
    np.testing.assert_allclose(found.weights, 0, atol=1e-6)
    np.testing.assert_allclose(log_softmax(found.bias), np.log([1 / 7, 2 / 7, 4 / 7]), atol=1e-5)


@pytest.mark.parametrize("shape", [(600, 24, 5), (60, 90, 4), (40, 40, 3)], ids=["tall", "wide", "square"])
def test_never_above_scikit_learn(shape):
    features, labels = blobs(*shape)
    for found in fit_logistic(features, labels, shape[2], LAMBDAS):
        peer = sklearn_fit(features, labels, found.penalty)
        theirs = objective(features, labels, peer.coef_, peer.intercept_, found.penalty)
        ours = objective(features, labels, found.weights, found.bias, found.penalty)
        assert ours <= theirs * (1 + 1e-6)
        assert found.objective == pytest.approx(ours, rel=1e-9)
        assert found.converged and found.iterations < 200


def test_the_minimum_of_scikit_learn_run_to_the_end():
    features, labels = blobs()
    for found in fit_logistic(features, labels, 5, [1e-1, 1e1]):
        peer = sklearn_fit(features, labels, found.penalty, tol=1e-9, solver="newton-cholesky")
        least = objective(features, labels, peer.coef_, peer.intercept_, found.penalty)
        assert abs(found.objective / least - 1) < 1e-6
        agree = (found.scores(features).argmax(axis=1) == peer.predict(features)).mean()
        assert agree > 0.995


def test_separable_rows_are_no_worse_than_scikit_learn_at_its_own_stop():
    features, labels = blobs(200, 60, 4, decay=0.5)
    for found in fit_logistic(features, labels, 4, [1e-6, 1e-3]):
        peer = sklearn_fit(features, labels, found.penalty)
        assert peer.score(features, labels) == 1
        theirs = objective(features, labels, peer.coef_, peer.intercept_, found.penalty)
        assert objective(features, labels, found.weights, found.bias, found.penalty) <= theirs * (1 + 1e-6)


def test_ill_conditioned_features():
    features, labels = blobs(width=40, decay=3.0, away=5.0)  # standard deviations from 6 to 1e-4
    for found in fit_logistic(features, labels, 5, [1e-6, 1e-2, 1]):
        peer = sklearn_fit(features, labels, found.penalty)
        theirs = objective(features, labels, peer.coef_, peer.intercept_, found.penalty)
        assert objective(features, labels, found.weights, found.bias, found.penalty) <= theirs * (1 + 1e-6)
        assert found.iterations < 150


def test_pulled_towards_other_weights():
    # Wide rows: what of `toward` the rows do not see must come through unchanged.
    for shape in ((600, 24, 5), (40, 60, 5)):
        features, labels = blobs(*shape)
        toward = np.random.default_rng(1).standard_normal((5, shape[1]))
        (tight,) = fit_logistic(features, labels, 5, [1e8], toward=toward)
        np.testing.assert_allclose(tight.weights, toward, atol=1e-3)
        (found,) = fit_logistic(features, labels, 5, [3.0], toward=toward, tolerance=1e-12)
        assert objective(features, labels, found.weights, found.bias, 3.0, toward) == pytest.approx(found.objective)
        _, left = gradient_by_hand(features, labels, found, toward)
        assert np.abs(left).max() < 1e-3


def test_classes_without_rows_change_nothing_for_the_others():
    features, labels = blobs(200, 12, 3)
    toward = np.random.default_rng(1).standard_normal((5, 12))
    rows = np.array([0, 2, 4])
    for pulled in (None, toward):
        few = None if pulled is None else pulled[rows]
        (alone,) = fit_logistic(features, labels, 3, [0.5], toward=few, tolerance=1e-10)
        (found,) = fit_logistic(features, rows[labels], 5, [0.5], toward=pulled, tolerance=1e-10)
        np.testing.assert_allclose(found.weights[rows], alone.weights, atol=1e-5)
        np.testing.assert_array_equal(found.weights[[1, 3]], 0 if pulled is None else pulled[[1, 3]])
        assert (found.bias[[1, 3]] < alone.bias.min() - 1e3).all()
        (again,) = fit_logistic(features, rows[labels], 5, [0.5], starts=[found], toward=pulled)
        (two,) = fit_logistic(features, rows[labels], 5, [0.5], starts=[(found.weights, found.bias)], toward=pulled)
        assert max(again.iterations, two.iterations) <= 3 < found.iterations
        (cold,) = fit_logistic(features, rows[labels], 5, [0.5], starts=[None], toward=pulled)
        assert cold.iterations > 3


def gradient_by_hand(features, labels, found: Fitted, toward):
    features = features.astype(np.float64)
    residuals = np.exp(log_softmax(features @ found.weights.T + found.bias, axis=1))
    residuals[np.arange(len(labels)), labels] -= 1
    return residuals.sum(axis=0), residuals.T @ features + found.penalty * (found.weights - toward)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("many_labels", [False, True])
@pytest.mark.parametrize("num_rows", [50, 8])
def test_gradients_are_those_of_autograd(dtype, many_labels, num_rows):
    rng = np.random.default_rng(3)
    features, truth = rng.standard_normal((num_rows, 12)) + 1, rng.integers(0, 4, num_rows)
    design = Design(features, torch.device("cpu"))
    prior = torch.from_numpy(rng.standard_normal((4, design.rank + 1)))
    points = [torch.from_numpy(rng.standard_normal((4, design.rank + 1))).requires_grad_() for _ in range(3)]
    signs = torch.from_numpy(np.where(rng.random((4, num_rows)) < 0.5, -1, 1).astype(np.int8))
    targets = signs if many_labels else torch.from_numpy(truth)
    rows = (torch.from_numpy(features) - design.mean) @ design.basis
    penalties = [0.1, 1.0, 10.0]
    found = evaluate(design, targets, [point.detach() for point in points], penalties, prior, dtype)
    for point, penalty, (value, gradient, weights) in zip(points, penalties, found, strict=True):
        logits = rows @ point[:, :-1].T + point[:, -1]
        if many_labels:
            loss = torch.nn.functional.softplus(-signs.T * logits).sum()
            shares = logits.sigmoid()
        else:
            loss = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
            shares = logits.softmax(dim=1)
        expected = loss + penalty / 2 * (point - prior)[:, :-1].square().sum()
        expected.backward()
        tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-9}
        assert value == pytest.approx(expected.item(), rel=tolerance["rtol"])
        torch.testing.assert_close(gradient, point.grad, **tolerance)
        torch.testing.assert_close(weights, (shares * (1 - shares)).sum(dim=0), **tolerance)


def test_several_lambdas_together_are_as_one_by_one():
    features, labels = blobs()
    together = fit_logistic(features, labels, 5, LAMBDAS, tolerance=1e-11)
    for penalty, found in zip(LAMBDAS, together, strict=True):
        (alone,) = fit_logistic(features, labels, 5, [penalty], tolerance=1e-11)
        assert found.penalty == alone.penalty == penalty
        assert found.objective == pytest.approx(alone.objective, rel=1e-9)
        np.testing.assert_allclose(found.scores(features), alone.scores(features), atol=2e-3)


def test_same_input_same_numbers_and_starts_save_steps():
    features, labels = blobs()
    design = make_design(features)
    first, second = (fit_logistic(design, labels, 5, LAMBDAS) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)
    (again,) = fit_logistic(design, labels, 5, [LAMBDAS[1]], starts=[first[1]])
    assert again.iterations <= 3 < first[1].iterations
    assert again.objective == pytest.approx(first[1].objective, rel=1e-6)


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "read in each pass"])
def test_features_mapped_from_disk(tmp_path, monkeypatch, kept):
    if not kept:
        monkeypatch.setattr("diptych.evaluate.probe.design._KEPT_BYTES", 0)
    monkeypatch.setattr("diptych.evaluate.probe.design.READ_ROWS", 64)
    features, labels = blobs()
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    for found, array in zip(
        fit_logistic(mapped, labels, 5, LAMBDAS), fit_logistic(features, labels, 5, LAMBDAS), strict=True
    ):
        np.testing.assert_array_equal(found.weights, array.weights)
        np.testing.assert_array_equal(found.scores(mapped), array.scores(features))


def test_half_precision_features_are_taken_as_they_are():
    features, labels = blobs(200)
    half = features.astype(np.float16)
    for found, same in zip(
        fit_logistic(half, labels, 5, [1.0]), fit_logistic(half.astype(np.float64), labels, 5, [1.0]), strict=True
    ):
        assert found.objective == pytest.approx(same.objective, rel=1e-6)


def test_many_labels_are_binary_regressions_of_scikit_learn():
    features, labels = blobs(400)
    present = (labels[:, None] == np.arange(5)) | (np.random.default_rng(1).random((400, 5)) < 0.1)
    (found,) = fit_logistic(features, present, 5, [0.5], tolerance=1e-10)
    for column in range(5):
        peer = sklearn_fit(features, present[:, column], 0.5, tol=1e-9, solver="newton-cholesky")
        np.testing.assert_allclose(found.scores(features)[:, column], peer.decision_function(features), atol=5e-3)


def test_two_classes_as_one_column_are_scikit_learns_regression():
    features, labels = blobs(300, num_classes=2)
    (found,) = fit_logistic(features, (labels == 1)[:, None], 1, [2.0], tolerance=1e-10)
    peer = sklearn_fit(features, labels, 2.0, tol=1e-9, solver="newton-cholesky")
    np.testing.assert_allclose(found.weights, peer.coef_, atol=1e-3)


@pytest.mark.parametrize("shape", [(300, 24, 5), (30, 60, 4)], ids=["tall", "wide"])
def test_without_an_intercept(shape):
    features, labels = blobs(*shape, decay=0.5)
    (found,) = fit_logistic(features, labels, shape[2], [2.0], intercept=False, tolerance=1e-12)
    peer = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-9, max_iter=1000).fit(features.astype(float), labels)
    np.testing.assert_allclose(found.weights, peer.coef_, atol=2e-3)
    assert (found.bias == 0).all()


def test_labels_that_do_not_count():
    features, labels = blobs(200, num_classes=3)
    signs = np.where(labels[:, None] == np.arange(3), 1, -1).astype(np.int8)
    signs[:60, 1] = 0
    (found,) = fit_logistic(features, signs, 3, [1.0], tolerance=1e-12)
    (alone,) = fit_logistic(features[60:], (labels[60:] == 1)[:, None], 1, [1.0], tolerance=1e-12)
    np.testing.assert_allclose(found.weights[1], alone.weights[0], atol=1e-3)


def test_the_cap_on_steps_is_kept():
    features, labels = blobs()
    (found,) = fit_logistic(features, labels, 5, [1e-4], max_iterations=3)
    assert found.iterations == 3 and not found.converged


def test_unusable_input_is_refused():
    features, labels = blobs(50)
    broken = features.copy()
    broken[7, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        fit_logistic(broken, labels, 5, [1.0])
    with pytest.raises(InputError, match="no features"):
        fit_logistic(features[:0], labels[:0], 5, [1.0])
    with pytest.raises(ShapeError, match="50 rows"):
        fit_logistic(features, labels[:-1], 5, [1.0])
    with pytest.raises(ShapeError, match="int"):
        fit_logistic(features, labels.astype(float), 5, [1.0])
    with pytest.raises(InputError, match=r"\[0, 4\)"):
        fit_logistic(features, labels, 4, [1.0])
    with pytest.raises(InputError, match="positive"):
        fit_logistic(features, labels, 5, [0.0])
    with pytest.raises(ShapeError, match="starts"):
        fit_logistic(features, labels, 5, [1.0], starts=[])
    with pytest.raises(ShapeError, match="needed"):
        fit_logistic(features, labels, 5, [1.0], toward=np.zeros((5, 3)))
