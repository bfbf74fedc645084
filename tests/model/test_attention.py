"""The two ways through attention say the same."""

import pytest
import torch
from torch.nn import functional as F

from diptych.model.attention import attend


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 5, 14, 77])
def test_bf16_training_on_the_cpu_equals_the_fused_kernel(causal, length):
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 2, length, 64, dtype=torch.bfloat16).requires_grad_() for _ in range(3))
    ours = attend(q, k, v, causal)
    exact = [x.detach().double().requires_grad_() for x in (q, k, v)]
    truth = F.scaled_dot_product_attention(*exact, is_causal=causal)
    grad = torch.randn_like(ours)
    ours.backward(grad)
    truth.backward(grad.double())
    assert (ours - truth).norm() / truth.norm() < 0.01
    for mine, right in zip((q, k, v), exact, strict=True):
        # With one token the weights are all 1: the gradients of q and k are exactly zero.
        assert (mine.grad - right.grad).norm() <= 0.02 * right.grad.norm() + 1e-6


def test_evaluation_takes_the_fused_kernel():
    q = torch.randn(2, 2, 9, 64, dtype=torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(attend(q, q, q), F.scaled_dot_product_attention(q, q, q))
