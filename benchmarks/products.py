"""A perceptron's first layer in fp32 on the CPU, forward and backward: our products against torch's.

    python benchmarks/products.py --peer torch --json

The layer has the sizes of the towers of ViT-B/32. On Intel's processors, and wherever the maker is not known, both are
the same: there torch's MKL is kept (diptych.model.products). Also in turn: the forward pass alone, what embedding does.
"""

import common
import torch
from torch.nn import functional as F

from diptych.model.allocator import keep_freed_memory
from diptych.model.products import linear, onednn_beats_mkl

# (T, K, N): rows of 64 pictures and of 64 captions of 16 tokens, one picture, one caption.
CASES = {
    "64 pictures": (3200, 768, 3072),
    "64 captions": (1024, 512, 2048),
    "one picture": (50, 768, 3072),
    "one caption": (16, 512, 2048),
}


def main() -> None:
    """Time each case, with and without its gradients; the headline is the slowest ratio."""
    arguments = common.parse_arguments(__doc__, peers=["torch"], repeats=11)
    keep_freed_memory()
    print(f"oneDNN takes these products from torch here: {onednn_beats_mkl()}")
    figures = {}
    for name, case in CASES.items():
        for training in (True, False):
            figures[f"{name}, {'training' if training else 'embedding'}"] = measure(*case, training, arguments.repeats)
    for name, (ours, peer) in figures.items():
        print(f"{name:>24}: {ours / 1e9:6.0f} GFLOP/s, torch {peer / 1e9:6.0f}, ratio {ours / peer:.2f}")
    worst = min(figures, key=lambda name: figures[name][0] / figures[name][1])
    ratios = {name: round(ours / peer, 3) for name, (ours, peer) in figures.items()}
    ours, peer = figures[worst]
    common.report(arguments, benchmark="products", unit="FLOP/s", ours=ours, peer=peer, case=worst, ratios=ratios)


def measure(rows: int, inner: int, outer: int, training: bool, repeats: int) -> tuple[float, float]:
    """Operations per second of both, on the same tensors."""
    x, weight, bias = (torch.randn(shape).requires_grad_(training) for shape in ((rows, inner), (outer, inner), outer))
    grad = torch.randn(rows, outer)
    calls = max(1, 3200 // rows)

    def ours() -> None:
        for _ in range(calls):
            found = linear(x, weight, bias)
            if training:
                torch.autograd.grad(found, (x, weight, bias), grad)

    def peer() -> None:
        for _ in range(calls):
            found = F.linear(x, weight, bias)
            if training:
                torch.autograd.grad(found, (x, weight, bias), grad)

    with torch.set_grad_enabled(training):
        ours(), peer()
        seconds, peer_seconds = common.time_alternately(ours, peer, repeats)
    operations = calls * 2 * rows * inner * outer * (3 if training else 1)
    return operations / seconds, operations / peer_seconds


if __name__ == "__main__":
    main()
