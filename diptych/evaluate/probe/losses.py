"""Cross-entropies of many linear models at once; gradients keep their relative precision for confident predictions."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from diptych.evaluate.probe.design import Design


class Evaluated(NamedTuple):
    """Objective and derivatives of one model at one point.

    Attributes:
        objective: nats, summed over rows, with the penalty.
        gradient: float64 (C, r + 1).
        weights: float64 (C,), sum over rows of p (1 - p): the factor of the rows' covariance in the Hessian of a class.
    """

    objective: float
    gradient: torch.Tensor
    weights: torch.Tensor


def evaluate(
    design: Design,
    targets: torch.Tensor,
    points: Sequence[torch.Tensor],
    penalties: Sequence[float],
    prior: torch.Tensor,
    dtype: torch.dtype,
) -> list[Evaluated]:
    """Objectives and gradients of K models in one pass over the rows; each product takes the weights of all models.

    Args:
        design: the rows.
        targets: int64 (N,) classes, or int8 (C, N), 1, -1 and 0 (does not count), for independent classes.
        points: K tensors float64 (C, r + 1).
        penalties: lambda of each model.
        prior: float64 (C, r + 1), the point that the penalty pulls to.
        dtype: type of the products, torch.float32 or torch.float64; sums over chunks are float64.
    """
    stacked = torch.stack(tuple(points))
    num_models, num_classes, rank = stacked.shape[0], stacked.shape[1], design.rank
    num_outputs = num_models * num_classes
    weights = design.to_products(stacked[..., :rank], dtype).reshape(num_outputs, -1)
    bias = stacked[..., rank].to(dtype).reshape(num_outputs, 1)
    totals = stacked.new_zeros(num_models)
    hessian_weights, of_bias = stacked.new_zeros(num_outputs), stacked.new_zeros(num_outputs)
    of_weights = torch.zeros_like(weights)
    is_softmax = targets.ndim == 1
    for start, stop in design.chunks(num_outputs):
        rows = design.rows(start, stop, dtype)
        logits = torch.addmm(bias, weights, rows.T).view(num_models, num_classes, stop - start)
        if is_softmax:
            totals += softmax_residuals_(logits, targets[start:stop])
        else:
            totals += sigmoid_residuals_(logits, targets[:, start:stop])
        residuals = logits.view(num_outputs, stop - start)
        of_weights.addmm_(residuals, rows)
        if design.intercept:
            of_bias += residuals.sum(dim=1, dtype=torch.float64)
        sizes = torch.linalg.vector_norm(residuals, 1, dim=1)
        hessian_weights += sizes - torch.linalg.vector_norm(residuals, 2, dim=1).square()
    gradients = torch.cat(
        [
            design.from_products(of_weights.view(num_models, num_classes, -1)),
            of_bias.view(*stacked.shape[:2], 1),
        ],
        dim=2,
    )
    distance = stacked - prior
    distance[..., rank] = 0
    penalty = stacked.new_tensor(penalties)
    objectives = totals + penalty / 2 * distance.square().sum(dim=(1, 2))
    gradients += penalty[:, None, None] * distance
    shares = hessian_weights.view(num_models, num_classes)
    return [Evaluated(*parts) for parts in zip(objectives.tolist(), gradients, shares, strict=True)]


def softmax_residuals_(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Overwrite logits by probability - truth, and return the loss of each model.

    The residual of the true class is minus the sum of the others, not p - 1, which would lose all digits near p = 1.

    Args:
        logits: (K, C, n), overwritten.
        labels: int64 (n,).
    Returns:
        float64 (K,), nats summed over rows.
    """
    num_models, num_classes, num_rows = logits.shape
    flat = logits.view(num_models, num_classes * num_rows)
    true = (labels * num_rows + torch.arange(num_rows, device=labels.device)).expand(num_models, num_rows)
    own = flat.gather(1, true)
    top = logits.amax(dim=1)
    logits.sub_(top[:, None]).exp_()
    own_power = flat.gather(1, true)
    flat.scatter_(1, true, 0)
    others = logits.sum(dim=1)
    total = others + own_power
    loss = torch.where(own == top, torch.log1p(others), top - own + torch.log(total))
    inverse = total.reciprocal_()
    logits.mul_(inverse[:, None])
    flat.scatter_(1, true, others.mul_(inverse).neg_())
    return loss.sum(dim=1, dtype=torch.float64)


def sigmoid_residuals_(logits: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
    """The same for independent classes; signs int8 (C, n): 1 if a row has a class, -1 if not, 0 does not count."""
    against = -signs.to(logits.dtype)
    logits.mul_(against)
    loss = torch.nn.functional.softplus(logits, threshold=50.0).mul_(against.abs())
    logits.sigmoid_().mul_(against)
    return loss.sum(dim=(1, 2), dtype=torch.float64)
