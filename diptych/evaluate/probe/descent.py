"""L-BFGS that asks for the next point to evaluate, so several problems can share each evaluation.

Source: Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 3.5.
"""

from collections.abc import Callable

import torch

MEMORY = 12
"""Number of steps that a descent stores, each as two tensors of the size of its point."""

_ARMIJO, _CURVATURE = 1e-4, 0.9
_LONGER = 5.0  # factor for a step whose end is still steep; the secant rule would give ten or more
_MAX_TRIALS, _MAX_NOISY_TRIALS, _MAX_LENGTHENED = (
    20,
    6,
    5,
)  # with noise, a change of precision helps more than further trials


class Descent:
    """One minimization: evaluate the point `trial`, then pass the values to `tell`.

    Attributes:
        trial: float64 (C, r + 1).
        point, objective, gradient: the best point so far, with its objective and gradient.
        iterations: number of accepted steps.
        state: "running", "converged", "stalled" (no descent within the precision of the arithmetic) or "stopped".
        excess: estimate of objective - minimum: g'Bg / 2, with B the current estimate of the inverse Hessian.
        bound: upper bound of objective - minimum, set by the caller; infinite before.
    """

    def __init__(self, start: torch.Tensor, penalty: float, is_near: Callable[["Descent"], bool], limit: int) -> None:
        """Begin at `start`; end when `is_near` or after `limit` steps."""
        self.trial = self.point = start
        self.penalty = penalty
        self.objective = self.excess = self.bound = float("inf")
        self.gradient: torch.Tensor | None = None
        self.iterations = 0
        self.state = "running"
        self._is_near, self._limit = is_near, limit
        self._pairs: list[tuple[torch.Tensor, torch.Tensor, float]] = []
        self._curvature: torch.Tensor  # this and the following are set by the first `tell`
        self._direction: torch.Tensor
        self._slope: float
        self._length: float
        self._trials: int

    def follow(self, other: "Descent") -> None:
        """Start at the point of `other`, the same problem with another penalty, and reuse its Hessian estimate."""
        self.trial = self.point = other.point
        for step, change, _ in other._pairs:
            adjusted = torch.cat(
                [change[:, :-1] + (self.penalty - other.penalty) * step[:, :-1], change[:, -1:]], dim=1
            )
            self._remember(step, adjusted)

    def again(self) -> None:
        """Start again at the current point, in another precision."""
        self.trial, self.gradient, self.state, self.bound = self.point, None, "running", float("inf")

    def tell(self, objective: float, gradient: torch.Tensor, curvature: torch.Tensor, noise: float) -> None:
        """Take the values at `trial`, and choose the next trial.

        Args:
            objective: nats.
            gradient: like `trial`.
            curvature: like `trial`, positive: an estimate of the Hessian's diagonal.
            noise: relative error of `objective`.
        """
        if self.gradient is not None:
            slope = float((gradient * self._direction).sum())
            if not self._accept(objective, slope, noise):
                return
            self._remember(self.trial - self.point, gradient - self.gradient)
            self.iterations += 1
        self.point, self.objective, self.gradient, self._curvature = self.trial, objective, gradient, curvature
        self._aim()

    def _aim(self) -> None:
        assert self.gradient is not None
        self._direction = self._inverse_hessian(self.gradient).neg_()
        self._slope = float((self.gradient * self._direction).sum())
        self.excess = -self._slope / 2
        self._length, self._trials = 1.0, 0
        if self._is_near(self):
            self.state = "converged"
        elif not self._slope < 0:
            self.state = "stalled"
        elif self.iterations >= self._limit:
            self.state = "stopped"
        else:
            self.trial = self.point + self._direction

    def _accept(self, objective: float, slope: float, noise: float) -> bool:
        """Whether the step satisfies the Wolfe conditions; otherwise choose another length."""
        self._trials += 1
        allowed = self.objective + _ARMIJO * self._length * self._slope + noise * abs(self.objective)
        if not objective <= allowed or slope != slope:
            if self._trials >= (_MAX_NOISY_TRIALS if noise > 1e-10 else _MAX_TRIALS):
                self.state = "stalled"
            rise = objective - self.objective - self._slope * self._length
            factor = -self._slope * self._length / (2 * rise) if 0 < rise < float("inf") else 0.1
            self._move(self._length * min(0.5, max(0.1, factor)))
            return False
        if slope < _CURVATURE * self._slope and self._trials < _MAX_LENGTHENED:
            self._move(self._length * _LONGER)
            return False
        return True

    def _move(self, length: float) -> None:
        self._length = length
        self.trial = self.point + length * self._direction

    def _remember(self, step: torch.Tensor, change: torch.Tensor) -> None:
        product = float((step * change).sum())
        if product > 0:
            self._pairs = [*self._pairs[-MEMORY + 1 :], (step, change, 1 / product)]

    def _inverse_hessian(self, gradient: torch.Tensor) -> torch.Tensor:
        """The two-loop recursion of L-BFGS, starting from the inverse of the diagonal `curvature`."""
        direction, coefficients = gradient.clone(), []
        for step, change, inverse in reversed(self._pairs):
            coefficient = inverse * (step * direction).sum()
            direction -= coefficient * change
            coefficients.append(coefficient)
        direction /= self._curvature
        if self._pairs:
            step, change, inverse = self._pairs[-1]
            direction *= 1 / (inverse * (change.square() / self._curvature).sum())
        for (step, change, inverse), coefficient in zip(self._pairs, reversed(coefficients), strict=True):
            direction += (coefficient - inverse * (change * direction).sum()) * step
        return direction
