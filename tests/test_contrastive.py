"""The objective against hand-solved cases and a literal reading of the paper's figure 3."""

import math

import numpy as np
import pytest
import torch

from diptych.errors import ShapeError
from diptych.objective import contrastive_loss


def figure_3(images: np.ndarray, texts: np.ndarray, scale: float) -> float:
    """The pseudo-code of figure 3 in numpy, float64."""
    logits = images @ texts.T * scale

    def cross_entropy(rows: np.ndarray) -> float:
        log_softmax = rows - np.log(np.exp(rows).sum(axis=1, keepdims=True))
        return -np.mean(np.diag(log_softmax))

    return (cross_entropy(logits) + cross_entropy(logits.T)) / 2


def unit_rows(rng: np.random.Generator, num: int, width: int) -> np.ndarray:
    rows = rng.normal(size=(num, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_two_orthogonal_pairs_by_hand():
    loss = contrastive_loss(torch.eye(2), torch.eye(2), torch.tensor(1.0))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-1)), abs=1e-6)


def test_identical_embeddings_cost_log_n():
    same = torch.tensor([[1.0, 0.0]]).repeat(8, 1)
    assert contrastive_loss(same, same, 100.0).item() == pytest.approx(math.log(8), abs=1e-5)


def test_equals_figure_3():
    rng = np.random.default_rng(0)
    images, texts = unit_rows(rng, 17, 9), unit_rows(rng, 17, 9)
    ours = contrastive_loss(torch.from_numpy(images), torch.from_numpy(texts), torch.tensor(14.3, dtype=torch.float64))
    assert ours.item() == pytest.approx(figure_3(images, texts, 14.3), abs=1e-12)


def test_is_symmetric_and_differentiable_in_the_scale():
    rng = np.random.default_rng(1)
    images, texts = (torch.from_numpy(unit_rows(rng, 6, 5)).requires_grad_() for _ in range(2))
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    assert torch.equal(contrastive_loss(images, texts, scale), contrastive_loss(texts, images, scale))
    assert torch.autograd.gradcheck(contrastive_loss, (images, texts, scale))


def test_autocast_does_not_round_the_logits():
    rng = np.random.default_rng(2)
    images, texts = (torch.from_numpy(unit_rows(rng, 32, 16)).float() for _ in range(2))
    plain = contrastive_loss(images, texts, 100.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(contrastive_loss(images, texts, 100.0), plain)


@pytest.mark.parametrize("shapes", [((4, 8), (5, 8)), ((4, 8), (4, 7)), ((8,), (8,))])
def test_wrong_shapes_are_named(shapes):
    with pytest.raises(ShapeError, match=r"\(N, E\)"):
        contrastive_loss(torch.zeros(shapes[0]), torch.zeros(shapes[1]), 1.0)
