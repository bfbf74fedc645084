"""Muon: momentum with orthogonalized matrices, so that every direction of a weight learns at the same rate."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from diptych.model.device import choose_dtype

# Five steps of this polynomial map singular values from 0.002 to 1 into the range from 0.68 to 1.2.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5
_SCALE = 0.2  # root mean square of an update's entries, as in AdamW


class Muon(torch.optim.Optimizer):
    """Muon with decoupled weight decay, for matrices and kernels; AdamW updates the rest.

    The direction of a step is the orthogonal factor U Vᵀ of the momentum U S Vᵀ, computed by a few matrix products. A
    kernel (O, I, k, k) is treated as a matrix (O, I · k · k). Learning rates and decay have the scale of AdamW's.
    Matrices of equal shape, up to transposition, are multiplied together, which keeps the processor busy.

    Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); the scale is that of Liu et al. 2025, arXiv
        2502.16982.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], float] | None = None, *, divisor: torch.Tensor | None = None
    ) -> None:
        """One update of all parameters that have a gradient.

        Args:
            divisor: () float32, divides the gradients; None means 1. Muon overwrites the gradients.
        """
        if closure is not None:
            raise NotImplementedError("Muon takes no closure: it evaluates the loss once a step")
        for group in self.param_groups:
            if parameters := [parameter for parameter in group["params"] if parameter.grad is not None]:
                self._update(parameters, group, divisor)

    def _update(self, parameters: list[torch.Tensor], group: dict[str, Any], divisor: torch.Tensor | None) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if divisor is not None:
            torch._foreach_mul_(gradients, divisor.reciprocal())
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(gradient)
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, gradients)
        # Nesterov's momentum, written over the gradients: new memory would cost a CPU more time than the sums.
        torch._foreach_add_(gradients, momenta, alpha=group["momentum"])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        directions = [_as_matrix(gradient) for gradient in gradients]
        targets = [_as_matrix(parameter) for parameter in parameters]
        for indices, stack in orthogonalised_stacks(directions):
            for index, direction in zip(indices, stack, strict=True):
                target = targets[index] if targets[index].shape == direction.shape else targets[index].T
                target.add_(direction, alpha=-group["lr"] * _SCALE * max(direction.shape) ** 0.5)


def _as_matrix(tensor: torch.Tensor) -> torch.Tensor:
    """A view (O, I · k · k) of a kernel; columns are in memory order, which does not matter here."""
    if tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1).view(len(tensor), -1)
    return tensor.view(len(tensor), -1)


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """(A, B) -> (A, B) with the same singular vectors and singular values near 1.

    Uses Newton and Schulz's iteration, in bf16 if the processor supports it, otherwise in fp32 (docs/log.md compares
    them). A matrix of zeros stays zero.
    """
    _, (direction,) = next(orthogonalised_stacks([matrix]))
    return (direction if direction.shape == matrix.shape else direction.T).to(matrix.dtype, copy=True)


def orthogonalised_stacks(matrices: list[torch.Tensor]) -> Iterator[tuple[list[int], torch.Tensor]]:
    """`orthogonalised` for several (A, B): matrices of one shape together, tall ones transposed.

    Yields:
        indices of the matrices, and their results (n, min(A, B), max(A, B)) in bf16 or fp32, valid until the next.
    """
    stacks: dict[tuple[int, int], list[int]] = {}
    for index, matrix in enumerate(matrices):
        stacks.setdefault((min(matrix.shape), max(matrix.shape)), []).append(index)
    if not stacks:
        return
    # One allocation for all: two stacks and two of their squares.
    largest = max(len(indices) * rows * max(rows, columns) for (rows, columns), indices in stacks.items())
    device = matrices[0].device
    memory = torch.empty(4, largest, dtype=choose_dtype("auto", device), device=device)
    for (rows, columns), indices in stacks.items():
        n = len(indices)
        x, y = (part[: n * rows * columns].view(n, rows, columns) for part in memory[:2])
        gram, square = (part[: n * rows * rows].view(n, rows, rows) for part in memory[2:])
        for slot, index in zip(x, indices, strict=True):
            slot.copy_(matrices[index] if matrices[index].shape == slot.shape else matrices[index].T)
        yield indices, _iterate(x, y, gram, square)


def _iterate(x: torch.Tensor, y: torch.Tensor, gram: torch.Tensor, square: torch.Tensor) -> torch.Tensor:
    """The iteration's steps for (n, A, B), A at most B, in the given memory; returns x or y."""
    a, b, c = _COEFFICIENTS
    x.div_(x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    multiply_add: Callable[..., torch.Tensor] = torch.baddbmm
    if len(x) == 1:  # for one matrix, a plain product is faster
        multiply_add = torch.addmm
        x, y, gram, square = x[0], y[0], gram[0], square[0]
    for _ in range(_STEPS):
        torch.matmul(x, x.mT, out=gram)
        multiply_add(gram, gram, gram, beta=b, alpha=c, out=square)
        multiply_add(x, square, x, beta=a, out=y)
        x, y = y, x
    return x if x.ndim == 3 else x[None]
