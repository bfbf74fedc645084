"""The descent of the probe: its directions beside the dense formula of BFGS, its lengths solved by hand."""

import math

import numpy as np
import pytest
import torch

from diptych.evaluate.probe.descent import _MAX_LENGTHENED, _MAX_NOISY_TRIALS, _MAX_TRIALS, MEMORY, Descent

SHAPE = (4, 10)


def quadratic(seed=0, penalty=0.0):
    """x'Ax / 2 - b'x on points (4, 10), whose penalty leaves the last column alone: a function of objective and
    gradient, and A."""
    rng = np.random.default_rng(seed)
    turned = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    shrink = np.full(SHAPE, penalty)
    shrink[:, -1] = 0
    hessian = turned * np.geomspace(1, 1e3, 40) @ turned.T + np.diag(shrink.ravel())
    linear = rng.standard_normal(40)

    def at(point):
        flat = point.numpy().ravel()
        return flat @ hessian @ flat / 2 - linear @ flat, torch.from_numpy((hessian @ flat - linear).reshape(SHAPE))

    return at, hessian


def dense_direction(pairs, gradient, curvature):
    """-H g with H = V'HV + s s' / (s'y), V = 1 - y s' / (s'y), from the oldest pair to the newest (Nocedal and Wright,
    7.16), around the inverse of `curvature`, scaled so that it suits the newest pair."""
    inverse = np.diag(1 / curvature.numpy().ravel())
    if pairs:
        step, change = pairs[-1]
        inverse *= step @ change / (change @ inverse @ change)
    for step, change in pairs:
        turned = np.eye(len(step)) - np.outer(change, step) / (step @ change)
        inverse = turned.T @ inverse @ turned + np.outer(step, step) / (step @ change)
    return -inverse @ gradient.numpy().ravel()


def begin(start=None, near=lambda descent: False, limit=1000, penalty=1.0):
    return Descent(torch.zeros(SHAPE, dtype=torch.float64) if start is None else start, penalty, near, limit)


def flat(tensor):
    return tensor.numpy().ravel()


def test_directions_are_those_of_the_dense_formula_over_the_steps_that_it_remembers():
    at, _ = quadratic()
    descent, rng, pairs, before, checked = begin(), np.random.default_rng(1), [], None, 0
    for _ in range(60):
        curvature = torch.from_numpy(rng.uniform(0.5, 2, SHAPE))
        descent.tell(*at(descent.trial), curvature, 1e-13)
        if before is not None and descent.point is before[0]:
            continue  # another length of the same direction
        if before is not None:
            pairs.append((flat(descent.point - before[0]), flat(descent.gradient - before[1])))
        before = descent.point, descent.gradient
        expected = dense_direction(pairs[-MEMORY:], descent.gradient, curvature)
        np.testing.assert_allclose(flat(descent.trial - descent.point), expected, rtol=1e-6, atol=1e-12)
        assert descent.iterations == len(pairs)
        checked += 1
    assert checked > MEMORY + 5


def test_the_excess_of_a_quadratic_with_a_known_diagonal_is_exact():
    curvature = torch.rand(SHAPE, dtype=torch.float64) + 0.5
    gradient = torch.randn(SHAPE, dtype=torch.float64)
    descent = begin()
    descent.tell(3.0, gradient, curvature, 0.0)
    # f = 3 + g x + c x^2 / 2 is lowest at -g / c, g^2 / 2c below 3.
    torch.testing.assert_close(descent.trial, -gradient / curvature)
    assert descent.excess == pytest.approx(float((gradient**2 / curvature).sum() / 2))
    assert descent.bound == math.inf and descent.objective == 3


def test_another_penalty_goes_on_with_the_pairs_of_its_own_objective():
    """What a step did to the gradient under the new penalty follows from what it did under the old one."""
    (at, _), (other, hessian) = quadratic(penalty=0.5), quadratic(penalty=200.0)
    first = begin(penalty=0.5)
    curvature = torch.ones(SHAPE, dtype=torch.float64)
    steps = []
    while first.iterations < 6:
        before = first.point
        first.tell(*at(first.trial), curvature, 1e-13)
        if first.point is not before:
            steps.append(flat(first.point - before))
    second = begin(start=torch.ones(SHAPE, dtype=torch.float64), penalty=200.0)
    second.follow(first)
    assert second.trial is second.point is first.point
    second.tell(*other(second.trial), curvature, 1e-13)
    assert second.iterations == 0  # where it begins is no step
    expected = dense_direction([(step, hessian @ step) for step in steps], second.gradient, curvature)
    np.testing.assert_allclose(flat(second.trial - second.point), expected, rtol=1e-6, atol=1e-12)


ONE = torch.tensor([[0.6, 0.8]], dtype=torch.float64)  # of length 1: a gradient of g times it has the slope g along it
FLAT = torch.ones(1, 2, dtype=torch.float64)


def along(point):
    return float((point * ONE).sum())


def downhill(objective=10.0, noise=0.0):
    """At 0 with slope -1: it looks at 1 next."""
    descent = Descent(0 * ONE, 1.0, lambda descent: False, 1000)
    descent.tell(objective, -ONE, FLAT, noise)
    assert along(descent.trial) == pytest.approx(1)
    return descent


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (11.0, 1 / 4),  # 10 - t + 2 t^2
        (10.5, 1 / 3),  # 10 - t + 3/2 t^2
        (1000.0, 0.1),  # the parabola's 1 / 1982 would give up too much
        (math.inf, 0.1),
        (math.nan, 0.1),
        (10 - 0.9e-4, 0.5),  # not far enough down for a whole step
    ],
)
def test_a_step_too_long_is_cut_to_the_lowest_point_of_the_parabola(objective, expected):
    descent = downhill()
    descent.tell(objective, 0 * ONE, FLAT, 0.0)
    assert along(descent.trial) == pytest.approx(expected, rel=1e-3)
    assert descent.iterations == 0 and along(descent.point) == 0


def test_a_step_is_cut_again_along_the_parabola_of_what_is_left():
    descent = downhill()
    descent.tell(11.0, ONE, FLAT, 0.0)
    descent.tell(10.5, ONE, FLAT, 0.0)  # at 1/4: 10 - t + 12 t^2, lowest at 1/24
    assert along(descent.trial) == pytest.approx(1 / 24)
    descent.tell(9.99, 0 * ONE, FLAT, 0.0)
    assert along(descent.point) == pytest.approx(1 / 24) and descent.iterations == 1


def test_a_gradient_that_is_no_number_is_never_accepted():
    descent = downhill()
    descent.tell(9.5, ONE * math.nan, FLAT, 0.0)
    assert along(descent.trial) == pytest.approx(0.5) and descent.iterations == 0


def test_a_decrease_in_proportion_to_the_slope_is_enough():
    enough, just, too_little = downhill(), downhill(), downhill()
    enough.tell(10 - 1.1e-4, 0 * ONE, FLAT, 0.0)
    just.tell(10 - 1e-4, 0 * ONE, FLAT, 0.0)
    assert just.iterations == 1
    too_little.tell(10 - 0.9e-4, 0 * ONE, FLAT, 0.0)
    assert (enough.iterations, too_little.iterations) == (1, 0)


def test_a_rise_within_the_noise_is_no_rise():
    for rise, noise, iterations in ((0.5e-4, 1e-5, 0), (0.5e-4, 2e-5, 1), (1.5e-4, 2e-5, 0)):
        descent = downhill()
        descent.tell(10 + rise, 0 * ONE, FLAT, noise)  # allowed: 10 - 1e-4 and 10 times the noise
        assert descent.iterations == iterations


def test_where_it_is_still_as_steep_it_goes_farther():
    descent = downhill()
    descent.tell(9.0, -0.95 * ONE, FLAT, 0.0)
    assert along(descent.trial) == pytest.approx(5) and descent.iterations == 0
    descent.tell(5.2, -0.95 * ONE, FLAT, 0.0)
    assert along(descent.trial) == pytest.approx(25)
    descent.tell(4.0, -0.89 * ONE, FLAT, 0.0)  # flat enough
    assert along(descent.point) == pytest.approx(25) and descent.iterations == 1 and descent.objective == 4


def test_flat_enough_is_a_share_of_the_slope_where_it_began():
    for slope, accepted in ((-3.5, True), (-3.7, False)):  # nine tenths of -4
        descent = Descent(0 * ONE, 1.0, lambda descent: False, 1000)
        descent.tell(10.0, -2 * ONE, FLAT, 0.0)
        assert along(descent.trial) == pytest.approx(2)
        descent.tell(3.0, slope / 2 * ONE, FLAT, 0.0)
        assert (descent.iterations == 1) == accepted


def test_a_line_without_an_end_is_left_after_some_lengths():
    descent, length, tried = downhill(), 1.0, 0
    while not descent.iterations:
        length = along(descent.trial)
        descent.tell(10 - length, -ONE, FLAT, 0.0)
        tried += 1
    assert along(descent.point) == length and tried == _MAX_LENGTHENED


def test_it_gives_up_where_no_length_goes_down_and_sooner_where_there_is_noise():
    tried = {}
    for noise in (1e-7, 1e-13):
        descent, count = downhill(noise=noise), 0
        while descent.state == "running":
            descent.tell(11.0, ONE, FLAT, noise)
            count += 1
        assert descent.state == "stalled" and along(descent.point) == 0 and descent.objective == 10
        tried[noise] = count
    assert tried == {1e-7: _MAX_NOISY_TRIALS, 1e-13: _MAX_TRIALS}


def test_how_it_ends():
    start = torch.zeros(SHAPE, dtype=torch.float64)
    one = torch.ones(SHAPE, dtype=torch.float64)
    flat_ground = begin()
    flat_ground.tell(1.0, start, one, 0.0)
    assert flat_ground.state == "stalled"
    near = begin(near=lambda descent: descent.excess <= 20)  # 40 places with 1 / 2 each
    near.tell(1.0, one, one, 0.0)
    assert near.state == "converged"
    for limit in (0, 1, 2):
        at, _ = quadratic()
        descent = begin(limit=limit)
        while descent.state == "running":
            descent.tell(*at(descent.trial), one, 1e-13)
        assert (descent.state, descent.iterations) == ("stopped", limit)


def test_what_is_evaluated_again_is_no_step():
    at, _ = quadratic()
    one = torch.ones(SHAPE, dtype=torch.float64)
    descent = begin(limit=3)
    while descent.state == "running":
        descent.tell(*at(descent.trial), one, 1e-13)
    descent.bound, point = 7.0, descent.point
    descent.again()
    assert descent.trial is point and descent.state == "running" and descent.bound == math.inf
    descent.tell(*at(descent.trial), one, 1e-13)
    assert descent.iterations == 3 and descent.point is point
