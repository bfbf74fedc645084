"""Logistic regression with an L2 penalty, for several penalties at once: the solver of the linear probe.

The objective is scikit-learn's with lambda = 1 / C, on the summed loss:

    sum_i cross_entropy(softmax(W x_i + b), y_i) + lambda / 2 * ||W - toward||^2

Features are ill-conditioned, so plain L-BFGS takes hundreds of steps. Here it works in the eigenbasis of the features'
covariance, where the curvature for class k and direction j is about s_k e_j + lambda; s_k is the sum of p (1 - p) over
the rows, known after every pass, and e_j the variance. Preconditioned with it, L-BFGS takes some tens of steps. The
next lambda starts once the previous one is near its minimum, from its point and with its estimate of the Hessian; all
running lambdas share each pass over the rows. Products are float32 until an estimate of the excess is small enough.
Then they are float64, until a rigorous bound of the excess (`bound.py`) is below a millionth of the objective.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from diptych.errors import InputError, ShapeError
from diptych.evaluate.probe.bound import FAR, excess_bound, settle, without_absent
from diptych.evaluate.probe.descent import Descent
from diptych.evaluate.probe.design import Design
from diptych.evaluate.probe.feature_tables import Chosen, Joined, Rows
from diptych.evaluate.probe.losses import Evaluated, evaluate
from diptych.model.device import choose_device

_NOISE = {torch.float32: 1e-7, torch.float64: 1e-13}  # relative error of an objective
_SCORED_ROWS = 8192
_HAND_OVER = 0.01  # the next penalty starts once the excess of the current one is below this share of its objective
_CONVERGED = 1e-6  # share of the objective: the largest excess bound of a converged fit
_ROUNDS = 4  # each: descent, then the bias alone, then the bound


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A linear classifier with scores `features @ weights.T + bias`.

    Attributes:
        weights: float64 (C, D).
        bias: float64 (C,).
        penalty: lambda.
        objective: nats summed over rows, with the penalty; computed in float64.
        excess: upper bound of objective - minimum, nats; valid even if the fit has not converged.
        iterations: number of L-BFGS steps.
        converged: whether the excess is at most a millionth of the objective, or 20 times a `tolerance` above 5e-8.
    """

    weights: np.ndarray
    bias: np.ndarray
    penalty: float
    objective: float
    excess: float
    iterations: int
    converged: bool

    def scores(self, features: Rows) -> np.ndarray:
        """Class scores float32 (N, C) of features (N, D), computed in float64, in chunks of rows."""
        class_scores = np.empty((features.shape[0], len(self.bias)), np.float32)
        for start in range(0, len(class_scores), _SCORED_ROWS):
            rows = np.asarray(features[start : start + _SCORED_ROWS], dtype=np.float64)
            class_scores[start : start + _SCORED_ROWS] = rows @ self.weights.T + self.bias
        return class_scores


Array = np.ndarray | torch.Tensor
Start = Fitted | tuple[Array, Array] | None


def fit_logistic(
    features: Rows | torch.Tensor | Design,
    labels: Array,
    num_classes: int,
    lambdas: Sequence[float],
    *,
    starts: Sequence[Start] | None = None,
    toward: Array | None = None,
    intercept: bool = True,
    max_iterations: int = 1000,
    tolerance: float = 5e-8,
    certify: bool = True,
    device: str | torch.device | None = None,
) -> list[Fitted]:
    """Fit a linear classifier for each lambda.

    With a softmax and a bias, a class without rows is left out of the fit: its bias would go to minus infinity, and is
    set far below the others.

    A fit ends when the estimated excess of its objective is below `tolerance` times the objective, and a rigorous bound
    of it (`bound.py`) is below 20 times that. At weak penalties and on separable rows this takes some hundreds of
    steps. If `max_iterations` or float64 precision do not suffice, `converged` is False.

    Args:
        features: float (N, D), may be memory-mapped; or a Design of them, which several calls can share.
        labels: int (N,) in [0, C) for one softmax over the classes, also for two classes; or, for an independent
            classifier per class (sigmoid), bool (N, C), or int8 (N, C) of 1, -1 and 0, where 0 does not count.
            scikit-learn's regression on two classes corresponds to bool (N, 1).
        num_classes: C.
        lambdas: K penalties, positive.
        starts: for each lambda a Fitted, (weights, bias), or None for `toward` and no bias. Without `starts`, each
            lambda starts at the solution of the next larger one.
        toward: float (C, D), the weights that the penalty pulls to; None for 0.
        intercept: whether there is a bias; otherwise it is 0. Ignored with a Design.
        max_iterations: limit for each lambda.
        tolerance: relative to the objective.
        certify: also continue until the bound is small; otherwise only the estimate decides, and the bound, often wide
            at weak penalties, is only reported.
        device: None uses a GPU if there is one; ignored with a Design.
    Returns:
        One Fitted per lambda, in the order given.
    Raises:
        InputError: a feature is not finite, a label is out of range, a lambda is not positive, or there are no rows.
        ShapeError: two arrays do not fit together.
    Source: CLIP paper, appendix A.3.
    """
    design = features if isinstance(features, Design) else make_design(features, device, intercept)
    targets = _targets(labels, num_classes, design)
    penalties = [float(penalty) for penalty in lambdas]
    if not all(0 < penalty < float("inf") for penalty in penalties):
        raise InputError(f"lambdas must be positive numbers; got {penalties}")
    if design.intercept and targets.ndim == 1 and len(present := targets.unique()) < num_classes:
        options: dict[str, Any] = {"max_iterations": max_iterations, "tolerance": tolerance, "certify": certify}
        return _fit_present(present, design, targets, num_classes, penalties, starts, toward, **options)
    towards = _weights(toward, (num_classes, design.width), design) if toward is not None else None
    problem = _Problem(design, targets, num_classes, towards, tolerance, max_iterations, certify)
    descents = problem.solve(penalties, _starts(starts, penalties, num_classes, design))
    return [problem.fitted(descent) for descent in descents]


def _fit_present(
    present: torch.Tensor,
    design: Design,
    targets: torch.Tensor,
    num_classes: int,
    lambdas: Sequence[float],
    starts: Sequence[Start] | None,
    toward: Array | None,
    **options: Any,
) -> list[Fitted]:
    """Fit only the classes that have rows, and add the other classes with the weights that the penalty pulls to.

    A joint fit fails: the first step of a bias to minus infinity is so long that it spoils every estimate of the
    Hessian, and every penalty then seems to be at its minimum.
    """
    rows = present.cpu().numpy()

    def chosen(start: Start) -> Start:
        if start is None:
            return None
        weights, bias = (start.weights, start.bias) if isinstance(start, Fitted) else start
        return np.asarray(weights)[rows], np.asarray(bias)[rows]

    pull_to = None if toward is None else np.asarray(toward, np.float64)
    labels = torch.searchsorted(present, targets).cpu()
    fits = fit_logistic(
        design,
        labels,
        len(rows),
        lambdas,
        starts=None if starts is None else [chosen(start) for start in starts],
        toward=None if pull_to is None else pull_to[rows],
        **options,
    )
    completed = []
    for fit in fits:
        weights = np.zeros((num_classes, fit.weights.shape[1])) if pull_to is None else pull_to.copy()
        bias = np.full(num_classes, fit.bias.min() - FAR)
        weights[rows], bias[rows] = fit.weights, fit.bias
        completed.append(dataclasses.replace(fit, weights=weights, bias=bias))
    return completed


def make_design(
    features: Rows | torch.Tensor, device: str | torch.device | None = None, intercept: bool = True
) -> Design:
    """The rows of features (N, D), ready for `fit_logistic`; raises InputError or ShapeError if they are unusable."""
    features = features if isinstance(features, np.ndarray | Chosen | Joined) else np.asarray(features)
    if len(features.shape) != 2 or features.dtype.kind not in "fiub":
        raise ShapeError(f"features must be numbers (N, D); got {features.dtype} {features.shape}")
    if not all(features.shape):
        raise InputError(f"there are no features to fit: {features.shape}")
    return Design(features, choose_device(device), intercept)


class _Problem:
    """The problem that all penalties share."""

    def __init__(
        self,
        design: Design,
        targets: torch.Tensor,
        num_classes: int,
        toward: torch.Tensor | None,
        tolerance: float,
        max_iterations: int,
        certify: bool,
    ) -> None:
        self.design, self.targets = design, targets
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self.allowed = max(_CONVERGED, 20 * tolerance)
        self.certify = certify
        self.strict: float | None = None  # largest bound, as a share of the objective; None during float32
        self.toward = design.mean.new_zeros(num_classes, design.width) if toward is None else toward
        self.prior = design.coordinates(self.toward, design.mean.new_zeros(num_classes))

    def solve(self, penalties: list[float], starts: list[torch.Tensor | None] | None) -> list[Descent]:
        """Descend in float32, then check and refine in float64."""
        limit = self.max_iterations
        if starts is None:
            order = np.argsort(penalties, kind="stable")[::-1].tolist()
            waiting = [Descent(self.prior, penalties[place], self.is_near, limit) for place in order]
            done = dict(zip(order, waiting, strict=True))
            descents = [done[place] for place in range(len(penalties))]
        else:
            waiting = []
            points = [self.prior if start is None else self.without_common_part(start) for start in starts]
            descents = [Descent(*both, self.is_near, limit) for both in zip(points, penalties, strict=True)]
        self.descend(descents, waiting, torch.float32)
        for descent in descents:
            descent.point = self.without_common_part(descent.point)
            descent.again()
        if not self.certify:
            self.descend(descents, [], torch.float64)
            self.measure(descents, again=False)
            return descents
        self.strict = 0.5 * self.allowed
        for _ in range(_ROUNDS):
            for descent in descents:
                if descent.state == "converged" and descent.bound > self.allowed * descent.objective:
                    descent.again()
            self.descend(descents, [], torch.float64)
            self.settle([descent for descent in descents if descent.bound == float("inf")])
            self.strict /= 10
        return descents

    def settle(self, descents: list[Descent]) -> None:
        """Move each bias to its minimum, and compute the bound."""
        if descents and self.design.intercept:
            gradients = torch.stack([descent.gradient[:, -1] for descent in descents if descent.gradient is not None])
            points = [descent.point for descent in descents]
            for descent, bias in zip(descents, settle(self.design, self.targets, points, gradients), strict=True):
                descent.point = torch.cat([descent.point[:, :-1], bias[:, None]], dim=1)
        self.measure(descents)

    def measure(self, descents: list[Descent], again: bool = True) -> None:
        """Compute the bound of each descent; `again` first evaluates objective and gradient, for changed points."""
        if not descents:
            return
        points, is_softmax = [descent.point for descent in descents], self.targets.ndim == 1
        if again:
            for descent, evaluated in zip(descents, self.evaluate(points, descents), strict=True):
                descent.objective, descent.gradient = evaluated.objective, evaluated.gradient
        far = [without_absent(self.targets, point) for point in points] if self.design.intercept else [None]
        if far[0] is None:
            for descent in descents:
                assert descent.gradient is not None
                descent.bound = excess_bound(
                    self.design,
                    descent.point,
                    (descent.objective, descent.gradient),
                    descent.penalty,
                    self.prior,
                    is_softmax,
                )
            return
        points = [point for point in far if point is not None]
        for descent, point, evaluated in zip(descents, points, self.evaluate(points, descents), strict=True):
            bound_without = excess_bound(self.design, point, evaluated[:2], descent.penalty, self.prior, is_softmax)
            descent.bound = descent.objective - evaluated.objective + bound_without

    def evaluate(self, points: list[torch.Tensor], descents: list[Descent]) -> list[Evaluated]:
        """Evaluate points in float64, with the penalties of the descents."""
        penalties = [descent.penalty for descent in descents]
        return evaluate(self.design, self.targets, points, penalties, self.prior, torch.float64)

    def descend(self, descents: list[Descent], queue: list[Descent], dtype: torch.dtype) -> None:
        """Evaluate all running descents together until all have ended; queued descents join one by one."""
        waiting = queue[1:]
        last = queue[0] if queue else None
        while running := [descent for descent in descents if descent.state == "running" and descent not in waiting]:
            points, penalties = [descent.trial for descent in running], [descent.penalty for descent in running]
            evaluated = evaluate(self.design, self.targets, points, penalties, self.prior, dtype)
            for descent, (objective, gradient, weights) in zip(running, evaluated, strict=True):
                descent.tell(objective, gradient, self.curvature(weights, descent.penalty), _NOISE[dtype])
            if last and waiting and (last.state != "running" or last.excess <= _HAND_OVER * last.objective):
                waiting[0].follow(last)
                last, *waiting = waiting

    def curvature(self, weights: torch.Tensor, penalty: float) -> torch.Tensor:
        """An estimate of the Hessian's diagonal, (C, r + 1)."""
        diagonal = torch.outer(weights, self.design.variances)
        diagonal[:, :-1] += penalty
        return diagonal.clamp_(min=1e-12)

    def is_near(self, descent: Descent) -> bool:
        """Whether a descent may end."""
        if descent.excess > self.tolerance * descent.objective:
            return False
        assert descent.gradient is not None
        square = float(descent.gradient[:, :-1].square().sum())
        return self.strict is None or square <= 2 * descent.penalty * self.strict * descent.objective

    def without_common_part(self, point: torch.Tensor) -> torch.Tensor:
        """Remove the mean over the classes of a softmax: it does not change probabilities, but costs penalty."""
        if self.targets.ndim > 1:
            return point
        return point - (point - self.prior).mean(dim=0)

    def fitted(self, descent: Descent) -> Fitted:
        """The classifier in the coordinates of the features."""
        away = (descent.point - self.prior)[:, :-1]
        weights = self.toward + away @ self.design.basis.T
        return Fitted(
            weights=weights.cpu().numpy(),
            bias=(descent.point[:, -1] - weights @ self.design.mean).cpu().numpy(),
            penalty=descent.penalty,
            objective=descent.objective,
            excess=descent.bound,
            iterations=descent.iterations,
            converged=descent.bound <= self.allowed * descent.objective,
        )


def _targets(labels: Array, num_classes: int, design: Design) -> torch.Tensor:
    labels = np.asarray(labels)
    if labels.shape[:1] != (design.num_rows,):
        raise ShapeError(f"{design.num_rows} rows of features, but labels {labels.shape}")
    if labels.dtype in (bool, np.int8) and labels.shape[1:] == (num_classes,):
        signs = np.where(labels.T, 1, -1).astype(np.int8) if labels.dtype == bool else np.sign(labels.T)
        return torch.from_numpy(np.ascontiguousarray(signs)).to(design.device)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ShapeError(
            f"labels must be int ({design.num_rows},) or bool ({design.num_rows}, {num_classes}); "
            f"got {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise InputError(f"labels must lie in [0, {num_classes}); found {labels.min()} to {labels.max()}")
    return torch.from_numpy(labels.astype(np.int64)).to(design.device)


def _weights(values: Array, shape: tuple[int, ...], design: Design) -> torch.Tensor:
    weights = torch.as_tensor(np.asarray(values, dtype=np.float64), device=design.device)
    if tuple(weights.shape) != shape:
        raise ShapeError(f"weights of shape {tuple(weights.shape)} were given where {shape} is needed")
    if not bool(weights.isfinite().all()):
        raise InputError("the weights to start at, or to pull towards, hold NaN or infinity")
    return weights


def _starts(
    starts: Sequence[Start] | None, penalties: list[float], num_classes: int, design: Design
) -> list[torch.Tensor | None] | None:
    if starts is None:
        return None
    if len(starts) != len(penalties):
        raise ShapeError(f"{len(starts)} starts for {len(penalties)} lambdas")
    points: list[torch.Tensor | None] = []
    for start in starts:
        if start is None:
            points.append(None)
            continue
        weights, bias = (start.weights, start.bias) if isinstance(start, Fitted) else start
        shape = (num_classes, design.width)
        points.append(design.coordinates(_weights(weights, shape, design), _weights(bias, (num_classes,), design)))
    return points
