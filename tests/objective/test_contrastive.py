"""The objective against hand-solved cases, figure 3 of the paper, and the loss that holds the whole matrix."""

import functools
import math

import numpy as np
import pytest
import torch
from dense_losses import dense_contrastive_loss, random_embeddings, relative_error, with_gradients

from diptych.errors import ConfigError, ShapeError
from diptych.objective import contrastive_loss


def figure_3(images: np.ndarray, texts: np.ndarray, scale: float) -> float:
    """The pseudo-code of figure 3 in numpy, float64."""
    logits = images @ texts.T * scale

    def cross_entropy(rows: np.ndarray) -> float:
        log_softmax = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
        return -np.mean(np.diag(log_softmax))

    return (cross_entropy(logits) + cross_entropy(logits.T)) / 2


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def rms(errors: list[float]) -> float:
    return math.sqrt(sum(error**2 for error in errors) / len(errors))


# ---- values


def test_two_orthogonal_pairs_by_hand():
    loss = contrastive_loss(torch.eye(2), torch.eye(2), torch.tensor(1.0))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


def test_identical_embeddings_cost_log_n():
    same = torch.tensor([[1.0, 0.0]]).repeat(8, 1)
    for tile in (None, 3):
        assert contrastive_loss(same, same, 100.0, tile=tile).item() == pytest.approx(math.log(8), abs=1e-5)


def test_equals_figure_3():
    images, texts = random_embeddings(17, 9)
    for tile in (None, 5):
        ours = contrastive_loss(images, texts, scalar(14.3), tile=tile)
        assert ours.item() == pytest.approx(figure_3(images.numpy(), texts.numpy(), 14.3), abs=1e-12)


def test_one_pair_costs_nothing():
    images, texts = random_embeddings(1, 4)
    value, *gradients = with_gradients(contrastive_loss, images, texts, scalar(100.0))
    assert value == 0 and not any(gradient.any() for gradient in gradients)


def test_what_is_left_of_a_solved_batch_is_not_rounding():
    """Orthogonal pairs at scale 100: each cross-entropy is log(1 + 3 exp(-100)), whose digits float32 holds."""
    value, of_images, *_ = with_gradients(contrastive_loss, torch.eye(4), torch.eye(4), torch.tensor(80.0))
    assert value.item() == pytest.approx(3 * math.exp(-80), rel=1e-5)
    assert of_images[0, 0].item() == pytest.approx(-80 * 3 * math.exp(-80) / 4, rel=1e-5)


# ---- against the whole matrix


@pytest.mark.parametrize("scale", [1.0, 1 / 0.07, 100.0])
@pytest.mark.parametrize(("num", "tile"), [(5, 1), (7, 3), (64, 64), (129, 50), (300, None), (1000, 333)])
def test_float64_equals_the_dense_loss(num, tile, scale):
    inputs = *random_embeddings(num, 16), scalar(scale)
    dense = with_gradients(dense_contrastive_loss, *inputs)
    ours = with_gradients(functools.partial(contrastive_loss, tile=tile), *inputs)
    assert max(map(relative_error, ours, dense)) < 1e-10


def test_float64_equals_the_dense_loss_at_4096_pairs():
    inputs = *random_embeddings(4096, 16), scalar(100.0)
    dense = with_gradients(dense_contrastive_loss, *inputs)
    ours = with_gradients(functools.partial(contrastive_loss, tile=1000), *inputs)
    assert max(map(relative_error, ours, dense)) < 1e-10


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1 / 0.07, 100.0])
def test_errors_of_float32_are_at_most_twice_the_dense_loss_s(dtype, scale):
    errors = {}
    for seed in range(16):  # of few draws the mean depends on the order in which a processor adds
        images, texts = random_embeddings(400, 256, likeness=0.3, dtype=dtype, seed=seed)
        exact = with_gradients(dense_contrastive_loss, images.double(), texts.double(), scalar(scale).float().double())
        for name, loss in {
            "dense": dense_contrastive_loss,
            "ours": functools.partial(contrastive_loss, tile=150),
        }.items():
            found = with_gradients(loss, images, texts, torch.tensor(scale))
            errors.setdefault(name, []).append(list(map(relative_error, found, exact)))
    dense, ours = (list(map(rms, zip(*errors[name], strict=True))) for name in ("dense", "ours"))
    # float32 holds a number to 6e-8: below that, the smaller error is luck.
    assert all(mine <= 2 * max(theirs, 6e-8) for mine, theirs in zip(ours, dense, strict=True)), (ours, dense)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_far_below_the_others(dtype):
    """Logits from -1000 to 1000 (float64: six times as many), which one shift cannot serve."""
    images, texts = random_embeddings(40, 8, likeness=0.1)
    images[3] = -texts.mean(dim=0) / texts.mean(dim=0).norm()
    scale = scalar(1000.0 if dtype == torch.float32 else 6000.0)
    exact = with_gradients(dense_contrastive_loss, images, texts, scale)
    for tile in (None, 7):
        loss = functools.partial(contrastive_loss, tile=tile)
        ours = with_gradients(loss, images.to(dtype), texts.to(dtype), scale.to(dtype))
        assert max(map(relative_error, ours, exact)) < (1e-4 if dtype == torch.float32 else 1e-10)


def test_embeddings_of_other_norms():
    images, texts = (30 * one for one in random_embeddings(40, 8))
    dense = with_gradients(dense_contrastive_loss, images, texts, scalar(9.0))
    ours = with_gradients(functools.partial(contrastive_loss, tile=9), images.float(), texts.float(), scalar(9.0))
    assert max(map(relative_error, ours, dense)) < 1e-4


# ---- gradients


@pytest.mark.parametrize(("tile", "scale"), [(None, 5.0), (4, 5.0), (4, 2000.0)])
def test_is_symmetric_and_differentiable(tile, scale):
    images, texts = (one.requires_grad_() for one in random_embeddings(6, 5))
    loss = functools.partial(contrastive_loss, tile=tile)
    assert loss(images, texts, scale).item() == pytest.approx(loss(texts, images, scale).item(), rel=1e-13)
    if scale < 100:
        assert torch.autograd.gradcheck(loss, (images, texts, scalar(scale).requires_grad_()))


@pytest.mark.parametrize("tile", [None, 3])
def test_backward_may_be_repeated_and_weighted(tile):
    images, texts = (one.requires_grad_() for one in random_embeddings(8, 5))
    scale = torch.tensor(10.0, requires_grad=True)
    loss = contrastive_loss(images, texts, scale, tile=tile)
    once = torch.autograd.grad(loss, (images, texts, scale), retain_graph=True)
    thrice = torch.autograd.grad(3 * loss, (images, texts, scale))
    assert all(torch.allclose(3 * one, other) for one, other in zip(once, thrice, strict=True))
    assert [one.dtype for one in once] == [torch.float64, torch.float64, torch.float32]


def test_the_scale_may_be_a_number_and_nothing_need_have_gradients():
    images, texts = random_embeddings(8, 5, dtype=torch.float32)
    learned = torch.tensor(10.0, requires_grad=True)
    plain = contrastive_loss(images, texts, 10.0)
    assert not plain.requires_grad and plain.dtype == torch.float32 and plain.shape == ()
    assert torch.equal(contrastive_loss(images, texts, learned), plain)
    with torch.no_grad():
        assert torch.equal(contrastive_loss(images.requires_grad_(), texts, learned), plain)
    contrastive_loss(images, texts, 10.0).backward()
    assert images.grad is not None and texts.grad is None


def test_gradients_come_back_in_the_type_of_the_embeddings():
    images, texts = (one.requires_grad_() for one in random_embeddings(8, 5, dtype=torch.bfloat16))
    loss = contrastive_loss(images, texts, 10.0, tile=3)
    loss.backward()
    assert loss.dtype == torch.float32 and images.grad.dtype == texts.grad.dtype == torch.bfloat16


# ---- what could go wrong


def test_autocast_does_not_round_the_logits():
    images, texts = (one.requires_grad_() for one in random_embeddings(32, 16, dtype=torch.float32))
    plain = contrastive_loss(images, texts, 100.0)
    exact = torch.autograd.grad(plain, images)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = contrastive_loss(images, texts, 100.0)
        assert torch.equal(loss, plain)
        assert torch.equal(torch.autograd.grad(loss, images)[0], exact)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_what_is_no_number_stays_none(bad, where):
    inputs = [*random_embeddings(9, 4, dtype=torch.float32), torch.tensor(10.0)]
    inputs[where].view(-1)[0] = bad
    assert not contrastive_loss(*inputs, tile=4).isfinite()


@pytest.mark.parametrize("shapes", [((4, 8), (5, 8)), ((4, 8), (4, 7)), ((8,), (8,))])
def test_wrong_shapes_are_named(shapes):
    with pytest.raises(ShapeError, match=r"\(N, E\)"):
        contrastive_loss(torch.zeros(shapes[0]), torch.zeros(shapes[1]), 1.0)


def test_a_tile_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="tile must be at least 1"):
        contrastive_loss(torch.eye(2), torch.eye(2), 1.0, tile=0)
