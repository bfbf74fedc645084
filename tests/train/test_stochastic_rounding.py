"""Stochastic rounding: its expectation, what it leaves alone, that it rescues small updates; text weights in bf16."""

import pytest
import torch
from model_tools import random_pairs
from training import MODEL

from diptych.errors import ConfigError
from diptych.model.clip import CLIP
from diptych.objective import contrastive_loss
from diptych.train import OptimizerConfig
from diptych.train.adamw import AdamW
from diptych.train.optimizer import build_optimizer
from diptych.train.stochastic_rounding import full_precision, is_rounded, prepare_weights, stochastic_rounding


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("value", [1.001, -1.001, 3.14159e-5, -7.7e20, 1 + 2**-8, 2 - 2**-20])
def test_the_expectation_is_the_number(value):
    number = 100_000
    exact = torch.full((number,), value)
    rounded = stochastic_rounding(exact, generator()).double()
    low, high = rounded.min(), rounded.max()
    nearest = torch.tensor(value).bfloat16().double()
    assert nearest in (low, high) and low <= exact[0].double() <= high
    assert high - low <= abs(exact[0].double()) * 2**-7  # neighbours in bf16
    spread = (high - low) / 2 / number**0.5
    assert abs(rounded.mean() - exact[0].double()) < 4 * spread


def test_what_bf16_holds_stays_and_what_is_no_number_too():
    everything = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    rounded = stochastic_rounding(everything.float(), generator())
    assert torch.equal(rounded.isnan(), everything.isnan())
    held = ~everything.isnan()
    assert torch.equal(rounded[held].view(torch.int16), everything[held].view(torch.int16))
    low_nan = torch.tensor([0x7F800001, 0x7FFFFFFF], dtype=torch.int32).view(torch.float32)
    assert stochastic_rounding(low_nan, generator()).isnan().all()


def test_the_generator_decides_and_the_input_stays():
    numbers = torch.randn(1000)
    before = numbers.clone()
    one, same, other = (stochastic_rounding(numbers, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other) and torch.equal(numbers, before)


@pytest.mark.parametrize("size", [100, 70_000, 600_000])
def test_small_updates_arrive_that_the_nearest_number_swallows(size):
    """Adam moves each weight from 1 by 1e-4 a step: a thirtieth of the distance between neighbours in bf16."""
    weights = torch.nn.Parameter(torch.ones(2, size // 2, dtype=torch.bfloat16))
    optimizer = AdamW([weights], 1e-4, (0.9, 0.98), 1e-6)
    nearest = torch.ones(1, dtype=torch.bfloat16)
    for _ in range(100):
        weights.grad = torch.ones_like(weights)
        optimizer.step()
        nearest = (nearest.float() - 1e-4).bfloat16()
    assert nearest.item() == 1.0
    spread = 2**-8 * (100 * 0.0256) ** 0.5 / size**0.5 * 3
    assert weights.detach().double().mean().item() == pytest.approx(0.99, abs=4 * spread)


def test_a_small_problem_converges_only_with_stochastic_rounding():
    torch.manual_seed(0)
    inputs, true = torch.randn(256, 64), torch.randn(8, 64)
    losses = {}
    for kind in ("stochastic", "nearest"):
        weights = torch.nn.Parameter(torch.zeros(8, 64, dtype=torch.bfloat16))
        optimizer = AdamW([weights], 1e-2, (0.9, 0.98), 1e-6)
        reference = torch.optim.AdamW([weights], lr=1e-2, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.0)
        for _ in range(400):
            error = inputs @ weights.float().T - inputs @ true.T
            optimizer.zero_grad()
            error.square().mean().backward()
            (optimizer if kind == "stochastic" else reference).step()
        losses[kind] = error.square().mean().item()
    assert losses["stochastic"] < 0.1 * losses["nearest"], losses


def test_a_model_with_text_weights_in_bf16_learns_saves_and_is_measured():
    torch.manual_seed(0)
    clip = CLIP(MODEL)
    prepare_weights(clip, True, torch.bfloat16)
    kinds = {name: parameter.dtype for name, parameter in clip.named_parameters()}
    halves = {name for name, kind in kinds.items() if kind == torch.bfloat16}
    assert halves == {n for n, p in clip.named_parameters() if is_rounded(n, p)}
    assert {"token_embedding.weight", "text_projection", "transformer.resblocks.0.mlp.c_fc.weight"} <= halves
    assert not halves & {"positional_embedding", "ln_final.weight", "logit_scale", "visual.conv1.weight"}
    optimizer = build_optimizer(clip, OptimizerConfig(1e-3, stochastic_rounding=True, moments="bf16"))
    images, tokens = random_pairs(clip, 5)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = clip(images, tokens)
        losses.append(contrastive_loss(*outputs))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step(1.0, 1.0)
    assert losses[-1] < 0.7 * losses[0]
    assert clip.token_embedding.weight.dtype == torch.bfloat16
    weights = clip.token_embedding.weight.detach().clone()
    again = CLIP(MODEL)
    with full_precision(clip):
        assert {tensor.dtype for tensor in clip.parameters()} == {torch.float32}
        again.load_state_dict(clip.state_dict())
        assert torch.equal(clip.eval().encode_text(tokens), again.eval().encode_text(tokens))
    assert torch.equal(clip.token_embedding.weight, weights) and weights.dtype == torch.bfloat16


def test_prepare_weights_leaves_alone_or_refuses():
    clip = CLIP(MODEL)
    prepare_weights(clip, False, torch.float32)
    assert {parameter.dtype for parameter in clip.parameters()} == {torch.float32}
    with pytest.raises(ConfigError, match="precision bf16"):
        prepare_weights(clip, True, torch.float32)
