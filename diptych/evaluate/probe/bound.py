"""A rigorous upper bound of an objective minus its minimum, for any features.

For weights W and bias b with the gradients g_W and g_b, convexity and the penalty's strong convexity in W give

    f - f* <= ||g_W||^2 / (2 lambda) + <g_b, b - b*>

The only fact known about the minimum b* is that its loss is at most f: a row of class c has a loss of at least
(b*_a - b*_c) - ||w*_a - w*_c|| ||x||, and ||W* - toward||^2 <= 2 f / lambda. That radius is large. Therefore Newton's
method first moves the bias to its minimum for these weights (`settle`), after which g_b is close to 0.

The bias of an independent class without rows has no minimum: the loss falls as it goes to minus infinity. The remaining
loss of that class is then the difference to the objective without it. (With a softmax, such classes are left out before
the fit.)
"""

from collections.abc import Sequence

import torch

from diptych.evaluate.probe.design import Design
from diptych.evaluate.probe.losses import sigmoid_residuals_, softmax_residuals_

FAR = 1e5  # a bias this far away makes the probability of a class 0 in float64


def excess_bound(
    design: Design,
    point: torch.Tensor,
    found: tuple[float, torch.Tensor],
    penalty: float,
    prior: torch.Tensor,
    is_softmax: bool,
) -> float:
    """Upper bound of objective - minimum, nats.

    Args:
        design: the rows.
        point: float64 (C, r + 1).
        found: objective and gradient at `point`, in float64. The bias of independent classes without rows must be far
            away (see `without_absent`).
        penalty: lambda.
        prior: float64 (C, r + 1), the point that the penalty pulls to.
        is_softmax: one softmax over the classes, or independent ones.
    """
    objective, gradient = found
    bound = float(gradient[:, :-1].square().sum()) / (2 * penalty)
    if not design.intercept:
        return bound
    of_bias, bias = gradient[:, -1].abs(), point[:, -1]
    near = bias.abs() < FAR / 2
    length = (2 * objective / penalty) ** 0.5 + float(torch.linalg.matrix_norm(prior[:, :-1]))
    reach = objective + length * design.longest * (2**0.5 if is_softmax else 1)
    if is_softmax:
        return bound + float(of_bias.sum()) / 2 * (float(bias[near].max() - bias[near].min()) + reach)
    return bound + float((of_bias * (bias.abs() + reach))[near].sum())


def without_absent(targets: torch.Tensor, point: torch.Tensor) -> torch.Tensor | None:
    """Move the bias of each independent class that no row, or every row, has far away in its direction.

    Returns:
        The moved point; None if there is no such class.
    """
    away = _absent(targets, point)
    if not bool(away.any()):
        return None
    return torch.cat([point[:, :-1], point[:, -1:] + FAR * away[:, None]], dim=1)


def _absent(targets: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """Float64 (C,): -1 for an independent class that no row has, 1 for one that every row has, otherwise 0."""
    if targets.ndim == 1:
        return point.new_zeros(len(point))
    return (~(targets == -1).any(dim=1)).to(point) - (~(targets == 1).any(dim=1)).to(point)


def settle(
    design: Design, targets: torch.Tensor, points: Sequence[torch.Tensor], gradients: torch.Tensor
) -> torch.Tensor:
    """One Newton step for the bias of each point; returns the new bias, float64 (K, C).

    Args:
        points: K tensors float64 (C, r + 1).
        gradients: float64 (K, C), gradients of the bias.
    """
    stacked = torch.stack(tuple(points))
    before = stacked[..., -1]
    gradients = gradients * (_absent(targets, stacked[0]) == 0)  # a class without rows has no minimum
    if targets.ndim == 1:
        gradients = gradients - gradients.mean(dim=1, keepdim=True)
    hessians = _hessians(design, targets, stacked)
    scale = hessians.diagonal(dim1=1, dim2=2).clamp(min=1e-300).rsqrt()
    scaled = hessians * scale[:, :, None] * scale[:, None]
    # Pseudoinverse: a softmax's Hessian has one direction without curvature, in which the gradient is 0.
    try:
        step = torch.linalg.pinv(scaled, hermitian=True, rtol=1e-13) @ (gradients * scale)[..., None]
    except torch.linalg.LinAlgError:  # no step; the bound stays wide
        return before
    step = step[..., 0] * scale
    is_reliable = step.abs().amax(dim=1) < 1  # a longer step, or NaN, is not reliable
    return before - torch.where(is_reliable[:, None], step, 0.0)


def _hessians(design: Design, targets: torch.Tensor, stacked: torch.Tensor) -> torch.Tensor:
    """Hessians of the bias, float64 (K, C, C)."""
    num_models, num_classes, rank = stacked.shape[0], stacked.shape[1], design.rank
    num_outputs = num_models * num_classes
    weights = design.to_products(stacked[..., :rank], torch.float64).reshape(num_outputs, -1)
    total = stacked.new_zeros(num_models, num_classes, num_classes)
    for start, stop in design.chunks(num_outputs):
        rows = design.rows(start, stop, torch.float64)
        shape = num_models, num_classes, stop - start
        logits = torch.addmm(stacked[..., rank].reshape(-1, 1), weights, rows.T).view(shape)
        if targets.ndim > 1:
            sigmoid_residuals_(logits, targets[:, start:stop])
            total.diagonal(dim1=1, dim2=2).add_((logits.abs() * (1 - logits.abs())).sum(dim=2))
            continue
        labels = targets[start:stop]
        softmax_residuals_(logits, labels)
        places = torch.arange(stop - start, device=labels.device)
        logits[:, labels, places] += 1  # probabilities
        total -= logits @ logits.transpose(1, 2)
    if targets.ndim == 1:  # each row sums to 0; this keeps all digits of a small diagonal
        total.diagonal(dim1=1, dim2=2).zero_()
        total.diagonal(dim1=1, dim2=2).copy_(-total.sum(dim=2))
    return total
