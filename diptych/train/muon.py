"""Muon: momentum whose matrices are made orthogonal, so that every direction of a weight learns at the same pace."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

# Five steps of this polynomial bring singular values from 0.002 to 1 into the range from 0.68 to 1.2.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_SCALE = 0.2  # root mean square of an update's entries, that of AdamW's


class Muon(torch.optim.Optimizer):
    """Muon with decoupled weight decay, for matrices and kernels; the rest is AdamW's.

    The direction of a step is the momentum's orthogonal factor, U Vᵀ of U S Vᵀ, found by a few matrix products. A
    kernel (O, I, k, k) counts as the matrix (O, I · k · k). Learning rates and decay have the sizes of AdamW's.

    Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); the scale is of Liu et al. 2025, arXiv 2502.16982.
    """

    def __init__(
        self, params: Iterable[torch.Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        if closure is not None:
            raise NotImplementedError("Muon takes no closure: it evaluates the loss once a step")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"].mul_(group["momentum"]).add_(gradient)
        direction = orthogonalised(gradient.add(momentum, alpha=group["momentum"]).flatten(1))  # Nesterov's
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        size = _SCALE * max(direction.shape) ** 0.5
        parameter.add_(direction.view_as(parameter), alpha=-group["lr"] * size)


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """(A, B) -> (A, B) with the same singular vectors and singular values near 1; computed in bf16.

    Newton and Schulz's iteration; a matrix of zeros stays one.
    """
    a, b, c = _COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.T).to(matrix.dtype)
