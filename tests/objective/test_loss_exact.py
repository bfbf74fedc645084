"""Both losses under autocast, and what they call themselves in an error."""

import pytest
import torch

from diptych.errors import ShapeError
from diptych.objective import contrastive_loss, sigmoid_loss


def measured(loss, autocast):
    """The loss and the gradients of all its inputs."""
    generator = torch.Generator().manual_seed(0)
    sides = [torch.nn.functional.normalize(torch.randn(48, 32, generator=generator), dim=1) for _ in range(2)]
    scalars = [torch.tensor(100.0)] + ([torch.tensor(-10.0)] if loss is sigmoid_loss else [])
    inputs = [one.requires_grad_() for one in (*sides, *scalars)]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        value = loss(*inputs, tile=20)
        gradients = torch.autograd.grad(value, inputs)
    return [value, *gradients]


@pytest.mark.parametrize("loss", [contrastive_loss, sigmoid_loss])
def test_autocast_rounds_nothing(loss):
    """At scale 100 a product rounded to bf16 would move a logit by 0.4."""
    for plain, cast in zip(measured(loss, False), measured(loss, True), strict=True):
        assert cast.dtype == torch.float32
        torch.testing.assert_close(cast, plain, rtol=0, atol=0)


@pytest.mark.parametrize("loss", [contrastive_loss, sigmoid_loss])
def test_an_error_names_the_loss(loss):
    more = (1.0,) if loss is contrastive_loss else (1.0, 0.0)
    with pytest.raises(ShapeError, match=f"{loss.__name__} needs two"):
        loss(torch.zeros(3, 2), torch.zeros(4, 2), *more)
