"""SigLIP's loss against a hand-solved case, its paper's algorithm and open_clip."""

import functools
import math

import peers  # noqa: F401
import pytest
import torch
from dense_losses import dense_sigmoid_loss, random_embeddings, relative_error, with_gradients

from diptych.errors import ConfigError, ShapeError
from diptych.objective import sigmoid_loss


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_two_orthogonal_pairs_by_hand():
    """Two pairs that belong together at 3 - 1, two that do not at -1: softplus of -2 and of -1 for each image."""
    loss = sigmoid_loss(torch.eye(2), torch.eye(2), 3.0, -1.0)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-2)) + math.log1p(math.exp(-1)), rel=1e-6)


@pytest.mark.parametrize(("scale", "bias"), [(10.0, -10.0), (1.0, 0.0), (100.0, -15.0), (1000.0, 300.0)])
@pytest.mark.parametrize(("num", "tile"), [(1, None), (7, 3), (64, 64), (129, 50), (300, None), (1000, 333)])
def test_float64_equals_the_dense_loss(num, tile, scale, bias):
    inputs = *random_embeddings(num, 16), scalar(scale), scalar(bias)
    dense = with_gradients(dense_sigmoid_loss, *inputs)
    ours = with_gradients(functools.partial(sigmoid_loss, tile=tile), *inputs)
    assert max(map(relative_error, ours, dense)) < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [10.0, 100.0])
def test_errors_of_float32_are_at_most_twice_the_dense_loss_s(dtype, scale):
    errors = {}
    for seed in range(4):
        images, texts = random_embeddings(400, 256, likeness=0.3, dtype=dtype, seed=seed)
        wide = images.double(), texts.double()
        exact = with_gradients(dense_sigmoid_loss, *wide, scalar(scale), scalar(-10.0))
        for name, loss in {"dense": dense_sigmoid_loss, "ours": functools.partial(sigmoid_loss, tile=150)}.items():
            found = with_gradients(loss, images, texts, torch.tensor(scale), torch.tensor(-10.0))
            errors.setdefault(name, []).append(list(map(relative_error, found, exact)))
    for ours, dense in zip(zip(*errors["ours"], strict=True), zip(*errors["dense"], strict=True), strict=True):
        # float32 holds a number to 6e-8: below that, the smaller error is luck.
        assert math.hypot(*ours) <= 2 * max(math.hypot(*dense), 2 * 6e-8)


@pytest.mark.parametrize("tile", [None, 4])
def test_gradients_are_those_of_the_value(tile):
    images, texts = (one.requires_grad_() for one in random_embeddings(6, 5))
    scalars = scalar(5.0).requires_grad_(), scalar(-2.0).requires_grad_()
    assert torch.autograd.gradcheck(functools.partial(sigmoid_loss, tile=tile), (images, texts, *scalars))


@pytest.mark.parametrize("tile", [None, 3])
def test_backward_may_be_repeated_and_weighted(tile):
    inputs = *(one.requires_grad_() for one in random_embeddings(8, 5)), torch.tensor(-3.0, requires_grad=True)
    loss = sigmoid_loss(inputs[0], inputs[1], 10.0, inputs[2], tile=tile)
    once = torch.autograd.grad(loss, inputs, retain_graph=True)
    thrice = torch.autograd.grad(3 * loss, inputs)
    assert all(torch.allclose(3 * one, other) for one, other in zip(once, thrice, strict=True))


def test_equals_open_clip_s():
    inputs = *random_embeddings(20, 8), scalar(10.0), scalar(-10.0)
    theirs = with_gradients(pytest.importorskip("open_clip.loss").SigLipLoss(), *inputs)
    assert max(map(relative_error, with_gradients(sigmoid_loss, *inputs), theirs)) < 1e-10


def test_autocast_does_not_round_the_logits():
    images, texts = (one.requires_grad_() for one in random_embeddings(32, 16, dtype=torch.float32))
    plain = sigmoid_loss(images, texts, 100.0, -10.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sigmoid_loss(images, texts, 100.0, -10.0), plain)


@pytest.mark.parametrize("where", [0, 1, 2, 3])
def test_what_is_no_number_stays_none(where):
    inputs = [*random_embeddings(9, 4, dtype=torch.float32), torch.tensor(10.0), torch.tensor(-3.0)]
    inputs[where].view(-1)[0] = math.nan
    assert sigmoid_loss(*inputs, tile=4).isnan()


def test_bad_arguments_are_named():
    with pytest.raises(ShapeError, match=r"sigmoid_loss needs two \(N, E\)"):
        sigmoid_loss(torch.zeros(4, 8), torch.zeros(5, 8), 1.0, 0.0)
    with pytest.raises(ConfigError, match="tile must be at least 1"):
        sigmoid_loss(torch.eye(2), torch.eye(2), 1.0, 0.0, tile=0)
