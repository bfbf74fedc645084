"""Products of rows with weights, computed on a CPU by the faster of its two libraries.

torch sends bf16 products to oneDNN and fp32 products to MKL, which is tuned for Intel's processors: on an AMD EPYC
with AVX-512 MKL runs at half the rate of oneDNN, with AVX2 at nine tenths of it (benchmarks/products.py). The choice
depends on the processor's vendor only and never on timings, so that a machine computes the same numbers in every run.
"""

import functools
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from diptych import processor

# With fewer rows oneDNN's start-up costs more than it gains; a gradient needs more rows because it copies the weights.
_FEWEST_ROWS = 32
_FEWEST_ROWS_OF_GRADIENT = {"avx512": 256, "avx2": 1024}


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x (T, K), weight (N, K), bias (N,) -> (T, N): equal to `torch.nn.functional.linear` up to rounding."""
    if not _chooses(x, weight):
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _Linear.apply(x, weight, bias)
    return affine(x, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return affine(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            input_gradient(grad, weight) if for_x else None,
            weight_gradient(grad, x) if for_weight else None,
            grad.sum(0) if ctx.has_bias and for_bias else None,
        )


def affine(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, factor: float = 1.0) -> torch.Tensor:
    """factor · x @ weight.T + bias: x (T, K), weight (N, K), bias (N,) -> (T, N). No gradients."""
    if _by_onednn(x):
        return _onednn(x, weight if factor == 1 else weight * factor, bias)
    if bias is None:
        return product(x, weight.t(), factor)
    return torch.addmm(bias, x, weight.t(), alpha=factor)


def input_gradient(grad: torch.Tensor, weight: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    """factor · grad @ weight: grad (T, N), weight (N, K) -> (T, K)."""
    if not _by_onednn(grad, gradient=True):
        return product(grad, weight, factor)
    # oneDNN reads rows of weights: a scaled copy costs a fiftieth of the product's time and saves a tenth.
    columns = weight.new_empty(weight.shape[::-1]).copy_(weight.t())
    return _onednn(grad, columns if factor == 1 else columns.mul_(factor), None)


def weight_gradient(grad: torch.Tensor, x: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    """factor · grad.T @ x: grad (T, N), x (T, K) -> (N, K)."""
    # With AVX2 the copies that oneDNN needs here cost as much as it gains.
    if not (_by_onednn(grad, gradient=True) and _has_avx512()):
        return product(grad.t(), x, factor)
    gradient, _ = torch.ops.aten.mkldnn_linear_backward_weights(
        grad.contiguous().to_mkldnn(), x.contiguous().to_mkldnn(), grad.new_empty(grad.shape[1], x.shape[1]), False
    )
    return gradient if factor == 1 else gradient.mul_(factor)


def product(a: torch.Tensor, b: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
    """factor · a @ b in one kernel of torch's choice."""
    return torch.mm(a, b) if factor == 1 else torch.addmm(a.new_empty(1), a, b, alpha=factor, beta=0)


def _onednn(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def _chooses(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether to call oneDNN directly: plain tensors of one type, no autocast, no tracing."""
    if x.ndim != 2 or x.dtype != weight.dtype or type(weight) not in (torch.Tensor, nn.Parameter):
        return False
    return _by_onednn(x) and not torch.is_autocast_enabled("cpu") and not torch.jit.is_tracing()


def _by_onednn(x: torch.Tensor, gradient: bool = False) -> bool:
    """Whether products with these rows go to oneDNN instead of MKL.

    torch's compiler chooses by itself, and observers of torch's operations, such as its FLOPs counter, know only
    torch's own operations; in both cases the answer is no.
    """
    if torch.compiler.is_compiling() or x.dtype != torch.float32 or x.device.type != "cpu" or not onednn_beats_mkl():
        return False
    if torch._C._len_torch_dispatch_stack():
        return False
    return len(x) >= (_FEWEST_ROWS_OF_GRADIENT["avx512" if _has_avx512() else "avx2"] if gradient else _FEWEST_ROWS)


@functools.cache
def onednn_beats_mkl() -> bool:
    """Whether fp32 products are faster with oneDNN: torch has both, and the processor is known not to be Intel's."""
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    return both and hasattr(torch.ops.mkldnn, "_linear_pointwise") and processor.vendor() not in ("", "GenuineIntel")


@functools.cache
def _has_avx512() -> bool:
    return "AVX512" in torch.backends.cpu.get_cpu_capability()
