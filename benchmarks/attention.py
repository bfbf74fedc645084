"""Attention, forward and backward in bf16 on the CPU: our products against torch's fused kernel, from rows to rows.

python benchmarks/attention.py --peer torch_fused --json
"""

import common
import torch
from torch.nn import functional as F

from diptych.model.fused import JointAttention

# (N, H, L, D, causal): captions of 14 and 77 tokens, 64 px in patches of 8, ViT-B/32 and ViT-B/16 at 224 px.
CASES = {
    "text-14": (128, 4, 14, 64, True),
    "text-77": (64, 8, 77, 64, True),
    "vit-65": (128, 3, 65, 64, False),
    "vit-50": (64, 12, 50, 64, False),
    "vit-197": (16, 12, 197, 64, False),
}


def main() -> None:
    """Time each case; the headline is the slowest ratio."""
    arguments = common.parse_arguments(__doc__, peers=["torch_fused"])
    figures = {name: measure(*case, arguments.repeats) for name, case in CASES.items()}
    for name, (ours, peer) in figures.items():
        print(f"{name:>8}: {ours:8,.0f} sequences/s, torch fused {peer:8,.0f}, ratio {ours / peer:.2f}")
    worst = min(figures, key=lambda name: figures[name][0] / figures[name][1])
    ratios = {name: ours / peer for name, (ours, peer) in figures.items()}
    ours, peer = figures[worst]
    common.report(arguments, benchmark="attention", unit="sequences/s", ours=ours, peer=peer, case=worst, ratios=ratios)


def measure(n: int, heads: int, length: int, width: int, causal: bool, repeats: int) -> tuple[float, float]:
    """Sequences per second of both, on the same tensors."""
    qkv = torch.randn(n * length, 3 * heads * width, dtype=torch.bfloat16).requires_grad_()
    gradient = torch.randn(n * length, heads * width, dtype=torch.bfloat16)

    def ours() -> None:
        JointAttention.apply(qkv, length, heads, width, causal).backward(gradient)

    def peer() -> None:
        q, k, v = qkv.view(n, length, 3, heads, width).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        attended.transpose(1, 2).reshape(n * length, -1).backward(gradient)

    ours(), peer()
    seconds, peer_seconds = common.time_alternately(ours, peer, repeats)
    return n / seconds, n / peer_seconds


if __name__ == "__main__":
    main()
