"""Hand-written backward passes against autograd, in float64."""

import subprocess
import sys

import pytest
import torch
from model_tools import distance
from torch.nn import functional as F

from diptych.model.allocator import keep_freed_memory
from diptych.model.fused import JointAttention, QuickGELUMLP


def leaves(*shapes: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def test_quick_gelu_mlp():
    inputs = leaves((5, 6), (24, 6), (24,), (6, 24), (6,))
    x, w1, b1, w2, b2 = inputs
    hidden = F.linear(x, w1, b1)
    expected = F.linear(hidden * torch.sigmoid(1.702 * hidden), w2, b2)
    ours = QuickGELUMLP.apply(*inputs)
    assert distance(ours, expected) < 1e-14
    (grad,) = leaves((5, 6), seed=1)
    for mine, right in zip(
        torch.autograd.grad(ours, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        assert distance(mine, right) < 1e-14


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 7])
def test_joint_attention(causal, length):
    (qkv,) = leaves((3 * length, 3 * 16))
    q, k, v = qkv.view(3, length, 3, 2, 8).permute(2, 0, 3, 1, 4)
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).reshape(3 * length, 16)
    ours = JointAttention.apply(qkv, length, 2, 8, causal)
    assert distance(ours, expected) < 1e-14
    (grad,) = leaves((3 * length, 16), seed=1)
    mine, right = (torch.autograd.grad(out, qkv, grad)[0] for out in (ours, expected))
    assert distance(mine, right) < 1e-14


def test_freed_memory_is_used_again():
    if not sys.platform.startswith("linux"):
        assert not keep_freed_memory()
        return
    code = """
import resource, torch
from diptych.model.allocator import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.zeros(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
fresh = faults()
assert keep_freed_memory()
faults()
print(fresh, faults())
"""
    fresh, kept = map(int, subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert kept < fresh / 10
