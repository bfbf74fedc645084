"""L-BFGS for one problem of many: it says where to evaluate next, so that several problems share each evaluation.

Source: Nocedal and Wright, Numerical Optimization, algorithms 7.4 and 3.5.
"""

from collections.abc import Callable

import torch

MEMORY = 12
"""Steps that a descent remembers, each with two tensors of the size of its point."""

_ARMIJO, _CURVATURE = 1e-4, 0.9
_LONGER = 5.0  # times a length at which the slope is still that steep; the secant would say ten times and more
_MAX_TRIALS, _MAX_NOISY_TRIALS, _MAX_LENGTHENED = 20, 6, 5  # with noise, another precision helps more than patience


class Descent:
    """One minimization: `trial` is the point to evaluate next, `tell` takes what was found there.

    Attributes:
        trial: float64 (C, r + 1).
        point, objective, gradient: the best point so far and what holds there.
        iterations: accepted steps.
        state: "running", "converged", "stalled" (no way down was found: the limit of the arithmetic) or "stopped".
        excess: estimate of objective - minimum: g'Bg / 2, B the inverse Hessian as far as it is known.
        bound: of objective - minimum, where somebody has found one; infinite before.
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
        self._curvature: torch.Tensor  # this and what follows holds from the first look at the point on
        self._direction: torch.Tensor
        self._slope: float
        self._length: float
        self._trials: int

    def follow(self, other: "Descent") -> None:
        """Begin where `other` is, the same problem with another penalty, and with what it learned of the Hessian."""
        self.trial = self.point = other.point
        for step, change, _ in other._pairs:
            moved = torch.cat([change[:, :-1] + (self.penalty - other.penalty) * step[:, :-1], change[:, -1:]], dim=1)
            self._remember(step, moved)

    def again(self) -> None:
        """Evaluate the point again, in another precision."""
        self.trial, self.gradient, self.state, self.bound = self.point, None, "running", float("inf")

    def tell(self, objective: float, gradient: torch.Tensor, curvature: torch.Tensor, noise: float) -> None:
        """Take what holds at `trial`, and choose the next one.

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
        """Whether the step is long enough and goes far enough down; otherwise choose another length."""
        self._trials += 1
        allowed = self.objective + _ARMIJO * self._length * self._slope + noise * abs(self.objective)
        if not objective <= allowed or slope != slope:
            if self._trials >= (_MAX_NOISY_TRIALS if noise > 1e-10 else _MAX_TRIALS):
                self.state = "stalled"
            rise = objective - self.objective - self._slope * self._length
            share = -self._slope * self._length / (2 * rise) if 0 < rise < float("inf") else 0.1
            self._move(self._length * min(0.5, max(0.1, share)))
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
        """The two loops of L-BFGS around the inverse of the diagonal `curvature`."""
        left, shares = gradient.clone(), []
        for step, change, inverse in reversed(self._pairs):
            share = inverse * (step * left).sum()
            left -= share * change
            shares.append(share)
        left /= self._curvature
        if self._pairs:
            step, change, inverse = self._pairs[-1]
            left *= 1 / (inverse * (change.square() / self._curvature).sum())
        for (step, change, inverse), share in zip(self._pairs, reversed(shares), strict=True):
            left += (share - inverse * (change * left).sum()) * step
        return left
