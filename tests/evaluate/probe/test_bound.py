"""The bound of the probe's excess and the step of its biases: solved by hand, and beside autograd's Hessian."""

import math

import numpy as np
import pytest
import torch

from diptych.evaluate.probe import bound, design, losses
from diptych.evaluate.probe.bound import FAR, excess_bound, settle, without_absent
from diptych.evaluate.probe.design import Design

CPU = torch.device("cpu")
LINE = np.array([[-1.0], [1.0], [3.0]])  # the mean is 1, the farthest row 2 away
PLANE = np.array([[-1.0, 1.0], [1.0, 1.0], [3.0, -2.0]])  # the mean is (1, 0), the farthest row sqrt(8) away


def evaluated(table, targets, point, penalty, prior, is_bias=True):
    rows = Design(table, CPU, is_bias)
    (found,) = losses.evaluate(rows, targets, [point], [penalty], prior, torch.float64)
    return rows, (found.objective, found.gradient)


def test_the_bound_of_two_classes_on_a_line_by_hand():
    targets = torch.tensor([0, 1, 1])
    zero, penalty = torch.zeros(2, 2, dtype=torch.float64), 0.5
    rows, found = evaluated(LINE, targets, zero, penalty, zero)
    # Both classes have 1/2 everywhere. Residuals of the first: -1/2, 1/2, 1/2 at -2, 0, 2 from the mean.
    assert found[0] == pytest.approx(3 * math.log(2))
    assert found[1].abs().flatten().tolist() == pytest.approx([2, 0.5, 2, 0.5])
    of_weights = (2**2 + 2**2) / (2 * penalty)
    # Weights at the minimum are shorter than sqrt(2 f / lambda); two classes' differ by sqrt(2) times that at most.
    reach = 3 * math.log(2) + math.sqrt(2) * math.sqrt(2 * 3 * math.log(2) / penalty) * 2
    assert excess_bound(rows, zero, found, penalty, zero, True) == pytest.approx(of_weights + (0.5 + 0.5) / 2 * reach)
    # Biases apart at the point: what lies between them is added. One that is out of reach does not count.
    apart = torch.tensor([[0, 0.2], [0, -0.3]], dtype=torch.float64)
    assert excess_bound(rows, apart, found, penalty, zero, True) == pytest.approx(of_weights + (0.5 + reach) / 2)
    far = torch.cat([apart, torch.tensor([[0, -FAR]], dtype=torch.float64)])
    three = found[0], torch.cat([found[1], torch.zeros(1, 2)])
    pull = torch.zeros_like(far)
    assert excess_bound(rows, far, three, penalty, pull, True) == pytest.approx(of_weights + (0.5 + reach) / 2)


def test_the_bound_of_independent_classes_by_hand():
    targets = torch.tensor([[1, -1, -1], [-1, 1, 1]], dtype=torch.int8)
    zero, penalty = torch.zeros(2, 2, dtype=torch.float64), 0.5
    rows, found = evaluated(LINE, targets, zero, penalty, zero)
    assert found[0] == pytest.approx(6 * math.log(2))
    assert found[1].abs().flatten().tolist() == pytest.approx([2, 0.5, 2, 0.5])
    reach = 6 * math.log(2) + math.sqrt(2 * 6 * math.log(2) / penalty) * 2
    assert excess_bound(rows, zero, found, penalty, zero, False) == pytest.approx(8 + (0.5 + 0.5) * reach)
    apart = torch.tensor([[0, 0.2], [0, -0.3]], dtype=torch.float64)
    assert excess_bound(rows, apart, found, penalty, zero, False) == pytest.approx(8 + reach + 0.5 * (0.2 + 0.3))
    far = torch.tensor([[0, 0.2], [0, -FAR]], dtype=torch.float64)
    assert excess_bound(rows, far, found, penalty, zero, False) == pytest.approx(8 + 0.5 * (0.2 + reach))
    # Weights pulled elsewhere are longer by the length of what pulls; its bias pulls nothing.
    pull = torch.tensor([[3, 50], [4, 50]], dtype=torch.float64)
    assert excess_bound(rows, zero, found, penalty, pull, False) == pytest.approx(8 + reach + 5 * 2)


def test_the_bound_counts_every_direction():
    zero, penalty = torch.zeros(2, 3, dtype=torch.float64), 0.5
    rows, found = evaluated(PLANE, torch.tensor([0, 1, 1]), zero, penalty, zero)
    # Residuals -1/2, 1/2, 1/2 at (-2, 1), (0, 1), (2, -2): the gradient is (2, -1), and (-2, 1) of the other class.
    assert found[1][:, :-1].square().sum().item() == pytest.approx(10)
    pull = torch.tensor([[1.0, 2, 9], [0, 2, 9]], dtype=torch.float64)  # 3 long without the bias
    reach = 3 * math.log(2) + math.sqrt(2) * math.sqrt(8) * (math.sqrt(2 * 3 * math.log(2) / penalty) + 3)
    assert excess_bound(rows, zero, found, penalty, pull, True) == pytest.approx(10 / (2 * penalty) + 0.5 * reach)
    apart = torch.tensor([[7.0, 0, 0.2], [0, 0, -0.3]], dtype=torch.float64)  # the bias is the last column
    assert excess_bound(rows, apart, found, penalty, pull, True) == pytest.approx(
        10 / (2 * penalty) + (0.5 + reach) / 2
    )


def test_what_all_biases_have_in_common_is_not_heard():
    rows, targets = Design(PLANE, CPU), torch.tensor([0, 1, 2])
    point = torch.tensor([[0.5, 0, 0.1], [0, -1, 0.2], [0.3, 0, -0.4]], dtype=torch.float64)
    gradients = torch.tensor([[0.02, 0.01, -0.03]], dtype=torch.float64)
    step, other = (point[:, -1] - settle(rows, targets, [point], gradients + more)[0] for more in (0, 0.5))
    assert step.abs().max() > 0.01
    torch.testing.assert_close(step - step.mean(), other - other.mean(), rtol=1e-9, atol=1e-12)


def test_without_a_bias_the_weights_alone_count():
    targets, zero = torch.tensor([0, 1, 1]), torch.zeros(2, 2, dtype=torch.float64)
    rows, found = evaluated(LINE, targets, zero, 4.0, zero, is_bias=False)
    assert found[1][:, 0].abs().tolist() == pytest.approx([2.5, 2.5])  # 1/2 (1 + 1 + 3)
    assert excess_bound(rows, zero, found, 4.0, zero, True) == pytest.approx((2.5**2 + 2.5**2) / 8)


def targets_of(kind, num_rows=40):
    rng = np.random.default_rng(3)
    labels = torch.from_numpy(rng.integers(0, 3, num_rows))
    if kind == "softmax":
        return labels
    signs = torch.where(labels == torch.arange(3)[:, None], 1, -1).to(torch.int8)
    signs[1, ::5] = 0  # does not count
    return signs


def loss_of_bias(rows, targets, point, bias):
    logits = point[:, :-1] @ rows.T + bias[:, None]
    if targets.ndim == 1:
        return torch.nn.functional.cross_entropy(logits.T, targets, reduction="sum")
    return (torch.nn.functional.softplus(-targets * logits) * (targets != 0)).sum()


def hessian_of_bias(rows, targets, point):
    """Without differences of numbers that are nearly equal: sure predictions have a tiny Hessian, all digits of it."""
    logits = point[:, :-1] @ rows.T + point[:, -1:]
    if targets.ndim > 1:
        return torch.diag((logits.sigmoid() * (-logits).sigmoid() * (targets != 0)).sum(dim=1))
    shares = logits.softmax(dim=0)
    outer = shares @ shares.T
    outer.diagonal().zero_()
    return torch.diag(outer.sum(dim=1)) - outer


@pytest.mark.parametrize("kind", ["softmax", "independent"])
@pytest.mark.parametrize("scale", [1.0, 1e-3, 10.0])
def test_biases_take_one_step_of_newtons_method(monkeypatch, kind, scale):
    """Two models at once, rows in two chunks. Where H v is the gradient, v is the step."""
    monkeypatch.setitem(design.CHUNK_VALUES, "cpu", 1)  # 256 rows a chunk
    table = np.random.default_rng(0).standard_normal((300, 4)) * scale
    targets, rows = targets_of(kind, 300), Design(table, CPU)
    generator = torch.Generator().manual_seed(0)
    points = [torch.randn(3, 5, dtype=torch.float64, generator=generator) for _ in range(2)]
    steps = 0.5 * torch.rand(2, 3, dtype=torch.float64, generator=generator) - 0.25
    turned = (torch.from_numpy(table) - rows.mean) @ rows.basis
    hessians = [hessian_of_bias(turned, targets, point) for point in points]
    if scale == 1:
        loss = lambda bias: loss_of_bias(turned, targets, points[0], bias)  # noqa: E731
        torch.testing.assert_close(hessians[0], torch.autograd.functional.hessian(loss, points[0][:, -1]))
    gradients = torch.stack([hessian @ step for hessian, step in zip(hessians, steps, strict=True)])
    found = torch.stack([point[:, -1] for point in points]) - settle(rows, targets, points, gradients)
    if kind == "softmax":  # what all classes have in common changes nothing
        found, steps = (one - one.mean(dim=1, keepdim=True) for one in (found, steps))
    torch.testing.assert_close(found, steps, rtol=1e-7, atol=1e-9)


def test_a_step_too_wide_to_trust_is_not_taken():
    rows, targets = Design(LINE, CPU), torch.tensor([0, 1, 1])
    point = torch.tensor([[0, 0.3], [0, -0.3]], dtype=torch.float64)
    for gradient, moved in ((0.1, True), (1e3, False), (math.nan, False)):
        gradients = torch.tensor([[gradient, -gradient]], dtype=torch.float64)
        found = settle(rows, targets, [point], gradients)
        assert (not torch.equal(found[0], point[:, -1])) == moved and found.isfinite().all()


def test_each_model_takes_its_step_or_none_of_it():
    """Two independent classes at 0: the Hessian of each is 3 / 4, so that a gradient of 3 / 4 is a step of 1."""
    rows, targets = Design(LINE, CPU), torch.tensor([[1, -1, 1], [-1, 1, 1]], dtype=torch.int8)
    points = [torch.zeros(2, 2, dtype=torch.float64)] * 4
    gradients = torch.tensor([[0.3, -0.6], [0.3, -0.9], [0.9, 0.3], [math.nan, 0.3]], dtype=torch.float64)
    found = settle(rows, targets, points, gradients)
    torch.testing.assert_close(found[0], -gradients[0] / 0.75)
    assert not found[1:].any()


def test_a_step_that_cannot_be_computed_is_none(monkeypatch):
    def fails(*arguments, **options):
        raise torch.linalg.LinAlgError

    monkeypatch.setattr(bound.torch.linalg, "pinv", fails)
    point = torch.tensor([[0, 0.3], [0, -0.3]], dtype=torch.float64)
    found = settle(Design(LINE, CPU), torch.tensor([0, 1, 1]), [point], torch.full((1, 2), 0.1, dtype=torch.float64))
    assert torch.equal(found[0], point[:, -1])


def test_classes_without_rows_and_classes_of_all_rows_stay_and_the_others_settle():
    rows = Design(LINE, CPU)
    own = torch.tensor([[1, -1, -1]], dtype=torch.int8)
    targets = torch.cat([own, torch.tensor([[-1, -1, -1], [1, 1, 1], [0, -1, -1]], dtype=torch.int8)])
    point = torch.tensor([[0.3, 0.1], [0.2, -2.0], [0.1, 2.0], [0.0, -1.0]], dtype=torch.float64)
    gradients = torch.tensor([[0.2, 0.3, -0.3, 0.4]], dtype=torch.float64)
    found = settle(rows, targets, [point], gradients)
    alone = settle(rows, own, [point[:1]], gradients[:, :1])
    assert found[0, 0] == pytest.approx(float(alone[0, 0])) != 0.1
    assert found[0, 1:].tolist() == [-2, 2, -1]
    far = without_absent(targets, point)
    assert far[:, -1].tolist() == pytest.approx([0.1, -2 - FAR, 2 + FAR, -1 - FAR])
    assert torch.equal(far[:, :-1], point[:, :-1])
    assert without_absent(own, point[:1]) is None
    assert without_absent(torch.tensor([0, 1, 1]), point) is None  # of a softmax such classes take no part


def test_the_bound_holds_far_from_the_minimum_where_the_biases_are_wrong():
    """Rows far from their mean, few of them on one side: the minimum's bias is far from the point's."""
    table = np.r_[np.linspace(-50, 50, 11), 400.0][:, None]
    targets = torch.tensor([0] * 11 + [1])
    zero = torch.zeros(2, 2, dtype=torch.float64)
    for penalty in (1e-4, 1e-1, 1e3):
        start = torch.tensor([[0, -3.0], [0, 3.0]], dtype=torch.float64)
        rows, found = evaluated(table, targets, start, penalty, zero)
        point = start.clone().requires_grad_()
        optimiser = torch.optim.LBFGS([point], lr=1, max_iter=500, line_search_fn="strong_wolfe", tolerance_change=0)
        turned = (torch.from_numpy(table) - rows.mean) @ rows.basis

        def objective(point=point, turned=turned, penalty=penalty, optimiser=optimiser):
            optimiser.zero_grad()
            loss = loss_of_bias(turned, targets, point, point[:, -1]) + penalty / 2 * point[:, :-1].square().sum()
            loss.backward()
            return loss

        optimiser.step(objective)
        assert found[0] - objective().item() <= excess_bound(rows, start, found, penalty, zero, True) < math.inf
