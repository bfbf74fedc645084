"""The solver's own promises: exact numbers without a certificate, scores in parts, what it refuses, how often it looks
at the rows."""

import numpy as np
import pytest
import torch
from test_logistic import blobs, objective

from diptych.errors import InputError, ShapeError
from diptych.evaluate.probe import logistic
from diptych.evaluate.probe.logistic import Fitted, fit_logistic, make_design

MANY = tuple(10.0 ** np.arange(-4, 5))


@pytest.fixture
def passes(monkeypatch):
    """(number of models, precision) of each pass over the rows."""
    seen, real = [], logistic.evaluate

    def counted(design, targets, points, penalties, prior, dtype):
        seen.append((len(points), dtype))
        return real(design, targets, points, penalties, prior, dtype)

    monkeypatch.setattr(logistic, "evaluate", counted)
    return seen


def test_without_a_certificate_the_numbers_are_those_of_float64_all_the_same():
    features, labels = blobs(away=200.0)
    for certify in (True, False):
        for found in fit_logistic(features, labels, 5, MANY, certify=certify):
            ours = objective(features, labels, found.weights, found.bias, found.penalty)
            assert found.objective == pytest.approx(ours, rel=1e-10)
            assert 0 < found.excess < np.inf


def test_a_search_looks_at_the_rows_some_tens_of_times_for_all_penalties(passes):
    """Nine penalties share their passes, and each begins where the last one has come near its minimum."""
    features, labels = blobs()
    together = fit_logistic(features, labels, 5, MANY, certify=False)
    num_together = len(passes)
    passes.clear()
    for penalty in MANY:
        fit_logistic(features, labels, 5, [penalty], certify=False)
    assert num_together < 60 < 0.8 * len(passes)
    assert sum(one.iterations for one in together) < 150


def test_products_are_float32_until_the_end_is_near(passes):
    features, labels = blobs()
    fit_logistic(features, labels, 5, [1.0], certify=False)
    kinds = [dtype for _, dtype in passes]
    assert kinds == sorted(kinds, key=lambda one: one == torch.float64)
    assert kinds.count(torch.float32) > 5 and 1 <= kinds.count(torch.float64) <= 5


def test_penalties_in_any_order_and_twice_come_back_in_that_order():
    features, labels = blobs(200)
    wanted = [1.0, 1e3, 1e-2, 1.0]
    found = fit_logistic(features, labels, 5, wanted)
    assert [one.penalty for one in found] == wanted
    sizes = [np.linalg.norm(one.weights) for one in found]
    assert sizes[1] < sizes[0] < sizes[2] and sizes[3] == pytest.approx(sizes[0], rel=1e-3)


@pytest.mark.parametrize("start", ["a fit", "weights and bias", "none"])
def test_starts_of_any_form_lead_to_the_same_minimum(passes, start):
    features, labels = blobs(200)
    (first,) = fit_logistic(features, labels, 5, [2.0], tolerance=1e-9)
    passes.clear()
    given = {"a fit": first, "weights and bias": (first.weights + 7, first.bias - 3), "none": None}[start]
    (again,) = fit_logistic(features, labels, 5, [2.0], starts=[given], tolerance=1e-9)
    np.testing.assert_allclose(again.scores(features), first.scores(features), atol=1e-3)
    # What all classes have in common changes no probability: a start that has it is as good as one without.
    assert len(passes) > 10 if start == "none" else len(passes) <= 6
    assert abs(again.weights.mean()) < 1e-9


def test_without_starts_each_penalty_begins_at_what_pulls_it():
    """So that one step from there is none: the penalty is so large that nothing else is heard."""
    features, labels = blobs(200)
    toward = np.random.default_rng(0).standard_normal((5, 24))
    toward -= toward.mean(axis=0)
    for starts in (None, [None]):
        (found,) = fit_logistic(features, labels, 5, [1e12], toward=toward, starts=starts, max_iterations=0)
        np.testing.assert_allclose(found.weights, toward, atol=1e-6)
        assert found.iterations == 0


def test_scores_come_in_parts_and_are_summed_in_float64(monkeypatch):
    monkeypatch.setattr(logistic, "_SCORED_ROWS", 7)
    rng = np.random.default_rng(0)
    rows, weights, bias = rng.standard_normal((50, 6)), rng.standard_normal((3, 6)), rng.standard_normal(3)
    rows[0], weights[0] = 1e8, [1, -1, 1, -1, 1, -1]  # float32 products would lose the rest
    fitted = Fitted(weights, bias, 1.0, 0.0, 0.0, 0, True)
    for table in (rows, rows.astype(np.float32), (rows * 3).astype(np.int64)):
        found = fitted.scores(table)
        assert found.dtype == np.float32 and found.shape == (50, 3)
        np.testing.assert_allclose(found, table.astype(np.float64) @ weights.T + bias, rtol=1e-6, atol=1e-6)


def test_signs_of_int8_count_by_their_sign():
    features, labels = blobs(200, num_classes=3)
    signs = np.where(labels[:, None] == np.arange(3), 1, -1).astype(np.int8)
    signs[::7] = 0
    (one,), (other,) = (fit_logistic(features, given, 3, [1.0]) for given in (signs, 5 * signs))
    assert np.array_equal(one.weights, other.weights)
    (bools,) = fit_logistic(features, signs > 0, 3, [1.0])
    assert not np.allclose(bools.weights, one.weights, atol=1e-3)  # what is 0 there is absent here


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.inf, np.nan])
def test_one_penalty_that_is_none_is_refused_among_others(wrong):
    features, labels = blobs(50)
    with pytest.raises(InputError, match="positive"):
        fit_logistic(features, labels, 5, [1.0, wrong])


def test_unusable_starts_and_pulls_are_refused():
    features, labels = blobs(50)
    weights, bias = np.zeros((5, 24)), np.zeros(5)
    for wrong in ((weights[:, 1:], bias), (weights, bias[1:]), (weights[1:], bias)):
        with pytest.raises(ShapeError, match="needed"):
            fit_logistic(features, labels, 5, [1.0], starts=[wrong])
    for wrong in ((weights + np.nan, bias), (weights, bias + np.inf)):
        with pytest.raises(InputError, match="NaN or infinity"):
            fit_logistic(features, labels, 5, [1.0], starts=[wrong])
    with pytest.raises(InputError, match="NaN or infinity"):
        fit_logistic(features, labels, 5, [1.0], toward=weights + np.nan)
    with pytest.raises(ShapeError, match="2 starts for 1"):
        fit_logistic(features, labels, 5, [1.0], starts=[None, None])
    with pytest.raises(InputError, match=r"found -1 to 4"):
        fit_logistic(features, np.where(np.arange(50) == 3, -1, labels), 5, [1.0])
    with pytest.raises(ShapeError, match="features must be numbers"):
        make_design(np.array([["a", "b"]]))
    with pytest.raises(ShapeError, match="features must be numbers"):
        make_design(np.zeros(3))
    with pytest.raises(InputError, match="no features"):
        make_design(np.zeros((3, 0)))
    assert make_design([[1, 2], [3, 5]]).width == 2
