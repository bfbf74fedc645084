"""Products by oneDNN against torch's own, on every processor that has both; and which processors take them."""

import pytest
import torch
from model_tools import distance
from torch.nn import functional as F

from diptych.model import products
from diptych.model.fused import QuickGELUMLP

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


def leaves(*shapes: tuple[int, ...]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


@pytest.fixture(params=[False, True], ids=["avx2", "avx512"])
def onednn(request, monkeypatch):
    """Every product goes to oneDNN, those of the weights' gradients with AVX-512 alone; yields the calls."""
    calls = []

    def counted(*args):
        calls.append(args)
        return torch.ops.mkldnn._linear_pointwise(*args, "none", [], "")

    monkeypatch.setattr(products, "onednn_beats_mkl", lambda: True)
    monkeypatch.setattr(products, "_FEWEST_ROWS_OF_GRADIENT", {"avx512": 33, "avx2": 33})
    monkeypatch.setattr(products, "_has_avx512", lambda: request.param)
    monkeypatch.setattr(products, "_onednn", counted)
    return calls


@needs_onednn
@pytest.mark.parametrize("with_bias", [True, False])
def test_linear_and_its_gradients(onednn, with_bias):
    inputs = leaves((37, 24), (40, 24), (40,))[: 2 + with_bias]
    ours, expected = products.linear(*inputs), F.linear(*inputs)
    assert distance(ours, expected) < 1e-6
    grad = torch.randn(37, 40)
    for mine, right in zip(
        torch.autograd.grad(ours, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        assert mine.shape == right.shape and mine.is_contiguous() and distance(mine, right) < 1e-6
    assert len(onednn) == 2  # forward, and the gradient of the rows
    with torch.no_grad():
        assert distance(products.linear(*inputs), expected) < 1e-6


@needs_onednn
def test_only_the_gradients_that_are_asked_for(onednn):
    x, weight, bias = leaves((37, 24), (40, 24), (40,))
    products.linear(x.detach(), weight, bias.detach()).sum().backward()
    assert x.grad is None and bias.grad is None
    assert distance(weight.grad, x.detach().sum(0).expand(40, 24)) < 1e-6
    assert len(onednn) == 1


@needs_onednn
def test_the_perceptron(onednn):
    inputs = leaves((37, 24), (96, 24), (96,), (24, 96), (24,))
    x, w1, b1, w2, b2 = inputs
    hidden = F.linear(x, w1, b1)
    expected = F.linear(hidden * torch.sigmoid(1.702 * hidden), w2, b2)
    ours = QuickGELUMLP.apply(*inputs)
    assert distance(ours, expected) < 1e-6
    grad = torch.randn(37, 24)
    for mine, right in zip(
        torch.autograd.grad(ours, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        assert distance(mine, right) < 1e-6


@needs_onednn
@pytest.mark.parametrize(
    "kind", ["few rows", "float64", "bf16", "three axes", "two types", "parameters of another kind"]
)
def test_other_products_stay_with_torch(onednn, kind):
    class Other(torch.Tensor):
        pass

    x, weight = torch.randn(37, 24), torch.randn(40, 24)
    if kind == "few rows":
        x = x[:31]
    elif kind in ("float64", "bf16"):
        x, weight = (t.to(torch.float64 if kind == "float64" else torch.bfloat16) for t in (x, weight))
    elif kind == "three axes":
        x = x[None]
    elif kind == "two types":
        with pytest.raises(RuntimeError, match="dtype"):
            products.linear(x.double(), weight)
        return
    else:
        weight = weight.as_subclass(Other)
    assert torch.equal(products.linear(x, weight), F.linear(x, weight))
    assert not onednn


@pytest.mark.parametrize(
    ("maker", "taken"), [("AuthenticAMD", True), ("HygonGenuine", True), ("GenuineIntel", False), ("", False)]
)
def test_which_processors(monkeypatch, maker, taken):
    monkeypatch.setattr(products.processor, "vendor", lambda: maker)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    products.onednn_beats_mkl.cache_clear()
    try:
        assert products.onednn_beats_mkl() is taken
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
        products.onednn_beats_mkl.cache_clear()
        assert not products.onednn_beats_mkl()
    finally:
        products.onednn_beats_mkl.cache_clear()
