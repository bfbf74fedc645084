"""Muon: torch's own as the reference, what it takes and what it leaves to AdamW, and that a resumed run is the same."""

import copy
import dataclasses

import pytest
import torch
from training import MODEL

from diptych.errors import ConfigError
from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig, CompactResNetConfig, TextConfig
from diptych.train import OptimizerConfig
from diptych.train.muon import Muon, orthogonalised
from diptych.train.optimizer import build_optimizer

COMPACT = CLIPConfig(16, CompactResNetConfig(32, (8, 16), (1, 2)), TextConfig(16, 300, 64, layers=1))


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_singular_values_become_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
    assert values.min() > 0.6 and values.max() < 1.3
    assert not orthogonalised(torch.zeros(shape)).any()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon to compare with")
def test_equals_torchs_on_matrices():
    torch.manual_seed(0)
    start = torch.randn(12, 30)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = (
        Muon([ours], lr=0.02, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(5):
        gradient = torch.randn(12, 30)
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    assert (start - theirs).abs().max() > 0.03
    assert torch.allclose(ours, theirs, atol=2e-3)  # bf16 inside: torch's momentum differs by a factor, so by rounding


def test_a_kernel_counts_as_the_matrix_of_its_filters():
    torch.manual_seed(0)
    kernel, gradient = torch.randn(8, 4, 3, 3), torch.randn(8, 4, 3, 3)
    one, flat = torch.nn.Parameter(kernel.clone()), torch.nn.Parameter(kernel.flatten(1).clone())
    one.grad, flat.grad = gradient.clone(), gradient.flatten(1)
    for parameter in (one, flat):
        Muon([parameter], lr=0.1).step()
    assert torch.equal(one.flatten(1), flat)


def test_matrices_of_all_shapes_together_are_those_alone():
    torch.manual_seed(0)
    shapes = [(16, 40), (40, 16), (24, 24), (16, 40), (8, 4, 3, 3), (4, 8, 3, 3), (24, 24), (1, 7)]
    start, gradients = ([torch.randn(shape) for shape in shapes] for _ in range(2))
    gradients[4] = gradients[4].contiguous(memory_format=torch.channels_last)
    start[4] = start[4].contiguous(memory_format=torch.channels_last)
    ours = [torch.nn.Parameter(tensor.clone()) for tensor in start]
    for parameter, gradient in zip(ours, gradients, strict=True):
        parameter.grad = 2 * gradient
    Muon(ours, lr=0.1, weight_decay=0.5).step(divisor=torch.tensor(2.0))
    for parameter, before, gradient in zip(ours, start, gradients, strict=True):
        direction = newton_schulz(1.95 * gradient.flatten(1)).view(gradient.shape)
        size = 0.2 * max(gradient.flatten(1).shape) ** 0.5
        assert torch.allclose(parameter, before * 0.95 - 0.1 * size * direction, atol=0.1 * size * 0.02)


def newton_schulz(matrix: torch.Tensor) -> torch.Tensor:
    """The iteration in float64, one matrix at a time, as its authors write it."""
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.float()


@pytest.mark.parametrize("config", [MODEL, COMPACT])
def test_muon_takes_the_inner_matrices_and_adamw_the_rest(config):
    clip = CLIP(config)
    optimizer = build_optimizer(clip, OptimizerConfig(muon_learning_rate=0.01))
    names = {id(parameter): name for name, parameter in clip.named_parameters()}
    taken = {
        part: {names[id(p)] for group in one.param_groups for p in group["params"]}
        for part, one in optimizer.parts.items()
    }
    assert not taken["muon"] & taken["adamw"] and taken["muon"] | taken["adamw"] == set(names.values())
    assert {"text_projection", "transformer.resblocks.0.attn.in_proj_weight"} <= taken["muon"]
    assert {"token_embedding.weight", "positional_embedding", "visual.conv1.weight", "logit_scale"} <= taken["adamw"]
    assert all(dict(clip.named_parameters())[name].ndim >= 2 for name in taken["muon"])


def test_both_follow_one_schedule():
    optimizer = build_optimizer(CLIP(COMPACT), OptimizerConfig(learning_rate=0.1, muon_learning_rate=0.4))
    assert optimizer.step(0.5)[1] == 0.05
    assert [part.param_groups[0]["lr"] for part in optimizer.parts.values()] == [0.05, 0.2]


def test_the_state_goes_into_a_checkpoint_and_back():
    torch.manual_seed(0)
    first, second = CLIP(COMPACT), CLIP(COMPACT)
    config = OptimizerConfig(learning_rate=0.1, muon_learning_rate=0.1)
    gradients = [[torch.randn_like(p) for p in first.parameters()] for _ in range(2)]
    optimizer = build_optimizer(first, config)
    _step(first, optimizer, gradients[0])
    second.load_state_dict(first.state_dict())
    resumed = build_optimizer(second, config)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for model, one in ((first, optimizer), (second, resumed)):
        _step(model, one, gradients[1])
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def _step(model, optimizer, gradients):
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step(1.0)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_cannot_be(rate):
    with pytest.raises(ConfigError, match="muon_learning_rate"):
        dataclasses.replace(OptimizerConfig(), muon_learning_rate=rate)
