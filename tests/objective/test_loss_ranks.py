"""Both losses over several processes equal those of one: values, gradients of the towers, of the scale and the bias."""

import pytest
import torch
from dense_losses import dense_contrastive_loss, dense_sigmoid_loss, random_embeddings, relative_error
from ranks import run_ranks
from torch.nn import functional as F

from diptych import distributed
from diptych.objective import contrastive_loss, sigmoid_loss

# Scales that one shift serves and that need one for each row, blocks smaller and larger than a rank's share.
CASES = [(14.3, 3), (100.0, None), (2000.0, 2), (2000.0, None)]


def train(loss, scale: float, rows: slice, *biases: float, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Loss and gradients of two linear towers, the scale and the bias on some of 14 pairs."""
    towers = [one.to(dtype).requires_grad_() for one in random_embeddings(6, 4, seed=1)]
    scalars = [torch.tensor(value, dtype=dtype, requires_grad=True) for value in (scale, *biases)]
    pairs = [one[rows].to(dtype) for one in random_embeddings(14, 6, likeness=1.0)]
    value = loss(*(F.normalize(side @ tower, dim=1) for side, tower in zip(pairs, towers, strict=True)), *scalars)
    value.backward()
    return [value.detach(), *(leaf.grad for leaf in (*towers, *scalars))]


def both(rows: slice) -> list[list[torch.Tensor]]:
    found = []
    for scale, tile in CASES:
        found.append(train(lambda *inputs, tile=tile: contrastive_loss(*inputs, tile=tile), scale, rows))
        found.append(train(lambda *inputs, tile=tile: sigmoid_loss(*inputs, tile=tile), scale, rows, -3.0))
    return found


def bf16_and_nan() -> list[list[float]]:
    """Both losses of bf16 embeddings, of the same in float32, and where one rank has a NaN."""
    images, texts = (one[3 * distributed.rank() :][:3] for one in random_embeddings(12, 6, dtype=torch.bfloat16))
    broken = images.clone()
    if distributed.rank() == 1:
        broken[0, 0] = float("nan")
    pairs = [(images, texts), (images.float(), texts.float()), (broken, texts)]
    return [[contrastive_loss(*pair, 50.0).item(), sigmoid_loss(*pair, 50.0, -3.0).item()] for pair in pairs]


def of_this_rank(counts: list[int]) -> list[list[torch.Tensor] | list[float]]:
    start = sum(counts[: distributed.rank()])
    return [*both(slice(start, start + counts[distributed.rank()])), bf16_and_nan()]


@pytest.mark.parametrize("counts", [[9, 5], [4, 0, 7, 3]], ids=str)
def test_ranks_together_equal_one(counts):
    ranks = run_ranks(len(counts), of_this_rank, counts)
    alone = both(slice(None))
    for case, expected in enumerate(alone):
        of_ranks = [results[case] for results in ranks]
        assert all(torch.equal(results[0], of_ranks[0][0]) for results in of_ranks)  # one number in all ranks
        mean = [torch.stack(each).mean(dim=0) for each in zip(*of_ranks, strict=True)]
        assert max(map(relative_error, mean, expected)) < 1e-10, CASES[case // 2]
    for of_bf16, of_float, broken in (results[-1] for results in ranks):
        assert of_bf16 == pytest.approx(of_float) and of_bf16 == ranks[0][-1][0]
        assert all(loss != loss for loss in broken)


def test_one_process_equals_the_dense_losses():
    """The other side of the comparison above, with the same towers."""
    for scale, _ in CASES[:2]:
        exact = train(dense_contrastive_loss, scale, slice(None))
        assert max(map(relative_error, train(contrastive_loss, scale, slice(None)), exact)) < 1e-10
        exact = train(dense_sigmoid_loss, scale, slice(None), -3.0)
        assert max(map(relative_error, train(sigmoid_loss, scale, slice(None), -3.0), exact)) < 1e-10


def fail_in_rank_1() -> None:
    if distributed.rank() == 1:
        raise ValueError("this rank is out of order")
    distributed.barrier()


def test_a_rank_that_fails_is_reported():
    with pytest.raises(AssertionError, match=r"rank 1 of 2:(.|\n)*this rank is out of order"):
        run_ranks(2, fail_in_rank_1)
