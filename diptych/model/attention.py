"""The Transformer that both towers share: pre-norm blocks of attention and a two-layer MLP."""

import functools
from collections.abc import Callable
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from diptych.model.fused import JointAttention, QuickGELUMLP
from diptych.model.packing import Packing
from diptych.model.products import linear
from diptych.model.recompute import recomputed
from diptych.model.sizes import NORM_EPS


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    """x · sigmoid(1.702 x), the activation of OpenAI's weights; written as a SiLU, one kernel that saves one tensor."""
    return F.silu(x * 1.702) * (1 / 1.702)


ACTIVATION_FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_tanh": functools.partial(F.gelu, approximate="tanh"),
}


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool = False, seen: torch.Tensor | None = None
) -> torch.Tensor:
    """Scaled dot-product attention: queries (N, H, Lq, D), keys and values (N, H, L, D) -> (N, H, Lq, D).

    With causal, no query attends to a later key. `seen`, bool (N, 1, 1, L), masks keys: False excludes one.

    Uses torch's fused kernel, except for bf16 training on a CPU, where it takes 1.1 to 4 times as long, forward and
    backward, as these plain products, at 197 to 14 tokens (benchmarks/attention.py).
    """
    if not _prefers_products(q):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, is_causal=causal)
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if causal:
        logits = logits + torch.full(logits.shape[-2:], float("-inf"), dtype=logits.dtype).triu(1)
    if seen is not None:
        logits = logits.masked_fill(~seen, float("-inf"))
    return logits.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v


def _prefers_products(x: torch.Tensor) -> bool:
    """Whether plain products are faster than torch's fused attention: bf16 training on a CPU."""
    return x.device.type == "cpu" and x.dtype == torch.bfloat16 and torch.is_grad_enabled()


def _computes_as_given(x: torch.Tensor) -> bool:
    """Whether products run in the tensors' own types: no autocast and no tracing."""
    return (
        x.device.type in ("cpu", "cuda") and not torch.is_autocast_enabled(x.device.type) and not torch.jit.is_tracing()
    )


class Attention(nn.Module):
    """Multi-head self-attention with one matrix for queries, keys and values, initialized as nn.MultiheadAttention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.depth = heads, width // heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: torch.Tensor, packing: Packing) -> torch.Tensor:
        """(T, W) -> (T, W)."""
        width = x.shape[-1]
        qkv = linear(x, self.in_proj_weight, self.in_proj_bias)
        attended = []
        for rows, _, n, length in packing.spans():
            if _prefers_products(qkv):
                attended.append(JointAttention.apply(qkv[rows], length, self.heads, self.depth, packing.causal))
            else:
                q, k, v = qkv[rows].view(n, length, 3, self.heads, self.depth).permute(2, 0, 3, 1, 4)
                attended.append(attend(q, k, v, causal=packing.causal).transpose(1, 2).reshape(n * length, width))
        return linear(
            torch.cat(attended) if len(attended) > 1 else attended[0], self.out_proj.weight, self.out_proj.bias
        )

    def read(self, x: torch.Tensor, rows: torch.Tensor, packing: Packing) -> torch.Tensor:
        """(T, W) -> (N, W), the output of forward at those rows only."""
        width = x.shape[-1]
        q = linear(x.index_select(0, rows), self.in_proj_weight[:width], self.in_proj_bias[:width])
        kv = linear(x, self.in_proj_weight[width:], self.in_proj_bias[width:])
        attended = []
        for span, sequences, n, length in packing.spans():
            k, v = kv[span].view(n, length, 2, self.heads, self.depth).permute(2, 0, 3, 1, 4)
            query = q[sequences].view(n, 1, self.heads, self.depth).transpose(1, 2)
            attended.append(attend(query, k, v, seen=packing.seen(sequences, length)).reshape(n, width))
        return linear(
            torch.cat(attended) if len(attended) > 1 else attended[0], self.out_proj.weight, self.out_proj.bias
        )


class MLP(nn.Module):
    """Width to mlp_width and back, with the activation between."""

    def __init__(self, width: int, mlp_width: int, activation: str) -> None:
        super().__init__()
        self.activation = activation
        self.c_fc = nn.Linear(width, mlp_width)
        self.c_proj = nn.Linear(mlp_width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(T, W) -> (T, W)."""
        c_fc, c_proj = self.c_fc, self.c_proj
        if self.activation == "quick_gelu" and _computes_as_given(x):
            return QuickGELUMLP.apply(x, c_fc.weight, c_fc.bias, c_proj.weight, c_proj.bias)
        hidden = ACTIVATION_FUNCTIONS[self.activation](linear(x, c_fc.weight, c_fc.bias))
        return linear(hidden, c_proj.weight, c_proj.bias)


class Block(nn.Module):
    """A pre-norm residual block.

    The residual stream keeps its type, fp32 in training: a bf16 stream makes the gradient's error up to ten times
    larger. Attention and MLP compute in the type of the weights.
    """

    def __init__(self, width: int, heads: int, activation: str, mlp_width: int = 0, norm_eps: float = NORM_EPS) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = MLP(width, mlp_width or 4 * width, activation)

    def forward(self, x: torch.Tensor, packing: Packing) -> torch.Tensor:
        """(T, W) -> (T, W)."""
        dtype = self.mlp.c_fc.weight.dtype
        x = x + self.attn(self.ln_1(x).to(dtype), packing)
        return x + self.mlp(self.ln_2(x).to(dtype))

    def read(self, x: torch.Tensor, packing: Packing) -> torch.Tensor:
        """(T, W) -> (N, W), the output of forward at the output positions: all that the last block has to compute."""
        dtype, rows = self.mlp.c_fc.weight.dtype, packing.rows()
        at_rows = x.index_select(0, rows) + self.attn.read(self.ln_1(x).to(dtype), rows, packing)
        return at_rows + self.mlp(self.ln_2(at_rows).to(dtype))


class Transformer(nn.Module):
    """A stack of blocks over sequences, with one output position per sequence.

    Attributes:
        checkpointing: recompute each block in the backward pass instead of keeping its activations.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        activation: str,
        mlp_width: int = 0,
        norm_eps: float = NORM_EPS,
    ) -> None:
        """Create `layers` blocks; an MLP is 4 * width wide if mlp_width is 0."""
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, activation, mlp_width, norm_eps) for _ in range(layers))
        self.checkpointing = False

    def forward(self, x: torch.Tensor, packing: Packing) -> torch.Tensor:
        """Sequences (T, W) -> the output at each one's output position (N, W)."""
        *blocks, last = cast(list[Block], list(self.resblocks))
        return last.read(self._through(blocks, x, packing), packing)

    def every_position(self, x: torch.Tensor, packing: Packing) -> torch.Tensor:
        """Sequences (T, W) -> the output at every position (T, W), for towers that pool all of them."""
        return self._through(cast(list[Block], list(self.resblocks)), x, packing)

    def _through(self, blocks: list[Block], x: torch.Tensor, packing: Packing) -> torch.Tensor:
        for block in blocks:
            x = recomputed(block, x, packing) if self.checkpointing else block(x, packing)
        return x
