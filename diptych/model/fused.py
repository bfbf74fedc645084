"""Parts of a block with hand-written backward passes, which read and write memory less often than autograd's.

Both compute in the type of their weights. They are not used under autocast or when that type differs from the input's
(see diptych.model.attention).
"""

from typing import Any

import torch
from torch.nn import functional as F

from diptych.model.products import affine, input_gradient, weight_gradient

_SLOPE = 1.702  # of QuickGELU, x · sigmoid(1.702 x)


class QuickGELUMLP(torch.autograd.Function):
    """y = W2 quick_gelu(W1 x + b1) + b2, with both factors of the activation folded into the matrix products.

    quick_gelu(x) is silu(1.702 x) / 1.702. Scaling within a product is free; a separate pass over a matrix four times
    as wide as the stream takes 3 % of a step of ViT-B/32 on a CPU.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, w1: torch.Tensor, b1: torch.Tensor, w2: torch.Tensor, b2: torch.Tensor
    ) -> torch.Tensor:
        """x (T, W), w1 (M, W), b1 (M,), w2 (W, M), b2 (W,) -> (T, W)."""
        scaled = affine(x, w1, b1 * _SLOPE, _SLOPE)
        hidden = F.silu(scaled)
        ctx.save_for_backward(x, w1, w2, scaled, hidden)
        return affine(hidden, w2, b2, 1 / _SLOPE)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Gradients of all five inputs."""
        x, w1, w2, scaled, hidden = ctx.saved_tensors
        grad_hidden = input_gradient(grad, w2, 1 / _SLOPE)
        grad_w2 = weight_gradient(grad, hidden, 1 / _SLOPE)
        # In place: this memory is in the cache.
        grad_scaled = torch.ops.aten.silu_backward(grad_hidden, scaled, grad_input=grad_hidden)
        grad_x = input_gradient(grad_scaled, w1, _SLOPE)
        grad_w1 = weight_gradient(grad_scaled, x, _SLOPE)
        return grad_x, grad_w1, grad_scaled.sum(0) * _SLOPE, grad_w2, grad.sum(0)


class JointAttention(torch.autograd.Function):
    """Multi-head self-attention of sequences of equal length, from rows of queries, keys and values to output rows.

    Uses plain products for CPUs, where they are faster than torch's fused kernel in bf16 (benchmarks/attention.py). The
    hand-written backward pass copies between rows and heads four times, half as often as autograd. Scaling is free, and
    only the attention weights are kept.
    """

    @staticmethod
    def forward(ctx: Any, qkv: torch.Tensor, length: int, heads: int, depth: int, causal: bool) -> torch.Tensor:
        """qkv (N · L, 3 W) -> (N · L, W), where W is heads times depth."""
        n = qkv.shape[0] // length
        q, k, v = qkv.view(n, length, 3, heads, depth).permute(2, 0, 3, 1, 4).reshape(3, n * heads, length, depth)
        mask = qkv.new_zeros(length, length)
        if causal:
            places = torch.arange(length, device=qkv.device)
            mask = mask.masked_fill(places > places[:, None], float("-inf"))
        logits = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=depth**-0.5)
        weights = logits.softmax(dim=-1)
        ctx.save_for_backward(q, k, v, weights)
        ctx.shape = n, length, heads, depth
        return torch.bmm(weights, v).view(n, heads, length, depth).transpose(1, 2).reshape(n * length, heads * depth)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradient of qkv."""
        q, k, v, weights = ctx.saved_tensors
        n, length, heads, depth = ctx.shape
        grad = grad.view(n, length, heads, depth).transpose(1, 2).reshape(n * heads, length, depth)
        grads = grad.new_empty(3, n * heads, length, depth)
        torch.bmm(weights.transpose(1, 2), grad, out=grads[2])
        grad_logits = torch.ops.aten._softmax_backward_data(
            torch.bmm(grad, v.transpose(1, 2)), weights, -1, weights.dtype
        )
        none = grad.new_empty(1)
        torch.baddbmm(none, grad_logits, k, alpha=depth**-0.5, beta=0, out=grads[0])
        torch.baddbmm(none, grad_logits.transpose(1, 2), q, alpha=depth**-0.5, beta=0, out=grads[1])
        rows = grads.view(3, n, heads, length, depth).permute(1, 3, 0, 2, 4).reshape(n * length, -1)
        return rows, None, None, None, None
