"""AdamW: torch's own as the reference, statistics in bf16, clipping, learning rates by layer."""

import copy
import dataclasses
import math
import re

import pytest
import torch
from training import MODEL

from diptych.errors import ConfigError
from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig, CompactResNetConfig, TextConfig, ViTConfig
from diptych.train import OptimizerConfig
from diptych.train.adamw import AdamW
from diptych.train.layers import layer_depth
from diptych.train.optimizer import build_optimizer, gradient_norm

TEXT = TextConfig(16, 300, 64, layers=2)
VIT = CLIPConfig(16, ViTConfig(32, 8, 64, 3), TEXT)
COMPACT = CLIPConfig(16, CompactResNetConfig(32, (8, 16), (1, 2)), TEXT)


def give_gradients(model, seed=0, size=1.0):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        gradient = size * torch.randn(parameter.shape, generator=generator)
        parameter.grad = torch.empty_like(parameter).copy_(gradient)


@pytest.mark.parametrize("clip_norm", [None, 0.5, 1e6])
@pytest.mark.parametrize("config", [VIT, COMPACT])
def test_equals_torchs_clipping_and_adamw(config, clip_norm):
    torch.manual_seed(0)
    ours = CLIP(config).to(memory_format=torch.channels_last)
    theirs = copy.deepcopy(ours)
    optimizer = build_optimizer(ours, OptimizerConfig(learning_rate=1e-2, clip_norm=clip_norm))
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim >= 2], "weight_decay": 0.2},
        {"params": [p for p in theirs.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.98), eps=1e-6)
    for step in range(3):
        for model in (ours, theirs):
            give_gradients(model, seed=step)
        norm, rate = optimizer.step(0.5, clip_norm)
        expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm or math.inf)
        for group in reference.param_groups:
            group["lr"] = 0.5e-2
        reference.step()
        assert rate == 0.5e-2 and norm.item() == pytest.approx(expected.item(), rel=1e-5)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_gradient_laid_out_otherwise_gives_the_same():
    kernel = torch.nn.Parameter(torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last))
    plain = torch.nn.Parameter(kernel.detach().contiguous())
    gradient = torch.randn(4, 3, 2, 2)
    for parameter in (kernel, plain):
        optimizer = AdamW([parameter], 0.1, (0.9, 0.98), 1e-6)
        parameter.grad = gradient.clone()
        optimizer.step()
    assert torch.equal(kernel, plain)


def test_norm_of_gradients_in_two_types_and_of_none():
    one, half, none = torch.zeros(2), torch.zeros(1, dtype=torch.bfloat16), torch.zeros(3)
    one.grad, half.grad = torch.tensor([2.0, 3.0]), torch.tensor([6.0], dtype=torch.bfloat16)
    assert gradient_norm([one, half, none]).item() == 7.0
    assert gradient_norm([none]).item() == 0.0


def test_a_gradient_that_is_no_number_shows_in_the_norm():
    model = torch.nn.Linear(3, 3)
    give_gradients(model)
    model.weight.grad[0, 0] = math.nan
    assert not build_optimizer(model, OptimizerConfig()).step(1.0, 1.0)[0].isfinite()


# ------------------------------------------------------------------ statistics in bf16


def moments_after(moments: torch.dtype, num_steps: int, value: float) -> list[torch.Tensor]:
    """The two statistics of a weight whose gradient is 1 for long, then `value`."""
    parameter = torch.nn.Parameter(torch.zeros(100, 100))
    optimizer = AdamW([parameter], 0.0, (0.9, 0.999), 1e-8, moments)
    parameter.grad = torch.ones(100, 100)
    optimizer.step()
    state = optimizer.state[parameter]
    state["exp_avg"].fill_(1.0), state["exp_avg_sq"].fill_(1.0)
    for _ in range(num_steps):
        parameter.grad = torch.full((100, 100), value)
        optimizer.step()
    return [state["exp_avg"], state["exp_avg_sq"]]


def test_moments_in_bf16_follow_those_in_fp32_where_the_nearest_number_would_stall():
    mean, square = moments_after(torch.bfloat16, 300, 0.5)
    assert mean.dtype == square.dtype == torch.bfloat16
    true = 0.25 + 0.75 * 0.999**300
    assert moments_after(torch.float32, 300, 0.5)[1].mean().item() == pytest.approx(true, rel=1e-4)
    assert square.float().mean().item() == pytest.approx(true, rel=2e-3)
    assert mean.float().mean().item() == pytest.approx(0.5, rel=0.04)  # nearest: it stalls before the end
    # By hand: 1 - 0.001 * 0.75 lies nearer to 1 than to the next bf16, 1 - 1/256.
    stalled = torch.ones(1, dtype=torch.bfloat16)
    assert (stalled.float() * 0.999 + 0.001 * 0.25).bfloat16().item() == 1.0


def test_moments_in_bf16_train_about_as_well():
    torch.manual_seed(0)
    inputs, true = torch.randn(512, 32), torch.randn(32, 32)
    losses = {}
    for moments in ("fp32", "bf16"):
        model = torch.nn.Linear(32, 32)
        torch.nn.init.zeros_(model.weight)
        optimizer = build_optimizer(model, OptimizerConfig(3e-2, weight_decay=0.0, betas=(0.9, 0.999), moments=moments))
        for step in range(300):
            rows = inputs[step % 8 :: 8]
            loss = (model(rows) - rows @ true).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step(1 - step / 300, 1.0)
        losses[moments] = loss.item()
    assert losses["fp32"] < 0.05 * true.square().mean() * 32
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.1, abs=1e-3)


@pytest.mark.parametrize("moments", ["fp32", "bf16"])
def test_a_resumed_optimizer_goes_on_bit_for_bit(moments, tmp_path):
    torch.manual_seed(0)
    config = OptimizerConfig(learning_rate=1e-2, moments=moments)
    first = CLIP(COMPACT).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(first, config, seed=5)
    for step in range(2):
        give_gradients(first, step)
        optimizer.step(1.0, 1.0)
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    second = CLIP(COMPACT).to(memory_format=torch.channels_last)
    second.load_state_dict(saved["model"])
    resumed = build_optimizer(second, config, seed=5)
    resumed.load_state_dict(saved["optimizer"])
    for model, one in ((first, optimizer), (second, resumed)):
        give_gradients(model, 7)
        one.step(1.0, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    states = [one.parts["adamw"].state_dict()["state"] for one in (optimizer, resumed)]
    assert all(torch.equal(states[0][i][name], states[1][i][name]) for i in states[0] for name in states[0][i])
    kinds = {value["exp_avg_sq"].dtype for value in states[1].values() if value["exp_avg_sq"].ndim >= 2}
    assert kinds == {torch.bfloat16 if moments == "bf16" else torch.float32}


def test_the_seed_of_the_rounding_counts():
    states = []
    for seed in (0, 0, 1):
        parameter = torch.nn.Parameter(torch.zeros(50, 50))
        optimizer = AdamW([parameter], 0.1, (0.9, 0.999), 1e-8, torch.bfloat16, seed)
        parameter.grad = torch.linspace(0.1, 1, 2500).view(50, 50)
        optimizer.step()
        states.append(optimizer.state[parameter]["exp_avg_sq"])
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


# ------------------------------------------------------------------ learning rates by layer


@pytest.mark.parametrize(
    ("config", "depths"),
    [
        (
            VIT,
            {
                "visual.conv1.weight": 4,
                "visual.class_embedding": 4,
                "visual.positional_embedding": 4,
                "visual.ln_pre.bias": 4,
                "visual.transformer.resblocks.0.attn.in_proj_weight": 3,
                "visual.transformer.resblocks.2.mlp.c_proj.bias": 1,
                "visual.ln_post.weight": 0,
                "visual.proj": 0,
                "token_embedding.weight": 3,
                "positional_embedding": 3,
                "transformer.resblocks.0.ln_1.weight": 2,
                "transformer.resblocks.1.ln_1.weight": 1,
                "ln_final.bias": 0,
                "text_projection": 0,
                "logit_scale": 0,
            },
        ),
        (
            MODEL,
            {
                "visual.conv1.weight": 5,
                "visual.bn3.bias": 5,
                "visual.layer1.0.conv1.weight": 4,
                "visual.layer4.0.downsample.1.weight": 1,
                "visual.attnpool.positional_embedding": 0,
                "visual.attnpool.c_proj.weight": 0,
            },
        ),
        (
            COMPACT,
            {
                "visual.conv1.weight": 3,
                "visual.bn1.bias": 3,
                "visual.stages.0.0.conv1.weight": 2,
                "visual.stages.1.1.bn2.weight": 1,
                "visual.attnpool.q_proj.weight": 0,
            },
        ),
    ],
)
def test_depth_by_hand(config, depths):
    names = {name for name, _ in CLIP(config).named_parameters()}
    assert depths.keys() <= names
    assert {name: layer_depth(name, config) for name in depths} == depths
    # Depth grows from the head to the first layer, without a gap, in both towers.
    for prefix in (True, False):
        found = {layer_depth(name, config) for name in names if name.startswith("visual.") == prefix}
        assert found == set(range(max(found) + 1))


def test_layers_learn_at_their_own_rates_and_the_schedule_holds_for_all():
    clip = CLIP(VIT)
    optimizer = build_optimizer(clip, OptimizerConfig(learning_rate=1e-2, layer_decay=0.5, weight_decay=0.0))
    before = {name: parameter.detach().clone() for name, parameter in clip.named_parameters()}
    give_gradients(clip)
    assert optimizer.step(0.1, None)[1] == 1e-3
    # Adam's first step has the size of the learning rate.
    for name, parameter in clip.named_parameters():
        moved = (parameter - before[name]).abs().median().item()
        assert moved == pytest.approx(1e-3 * 0.5 ** layer_depth(name, VIT), rel=0.02), name


def test_muon_follows_the_layers_too():
    optimizer = build_optimizer(CLIP(VIT), OptimizerConfig(layer_decay=0.5, muon_learning_rate=0.4))
    optimizer.step(1.0, None)
    assert {group["lr"] for group in optimizer.parts["muon"].param_groups} == {0.4, 0.2, 0.1, 0.05}


def test_frozen_weights_stay_and_have_no_statistics():
    clip = CLIP(VIT)
    clip.visual.requires_grad_(False)
    before = clip.visual.state_dict()["proj"].clone()
    optimizer = build_optimizer(clip, OptimizerConfig(moments="bf16"))
    give_gradients(clip)
    optimizer.step(1.0, 1.0)
    assert torch.equal(clip.visual.proj, before)
    number = sum(not name.startswith("visual.") for name, _ in clip.named_parameters())
    assert len(optimizer.state_dict()["adamw"]["state"]) == number
    with pytest.raises(ConfigError, match="locked"):
        build_optimizer(clip.requires_grad_(False), OptimizerConfig())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer_decay": 0.0}, "layer_decay is 0.0"),
        ({"layer_decay": 1.1}, "layer_decay is 1.1"),
        ({"layer_decay": math.nan}, "layer_decay is nan"),
        ({"moments": "fp16"}, "moments is 'fp16'"),
        ({"stochastic_rounding": True, "muon_learning_rate": 0.1}, "stochastic_rounding works only with AdamW"),
    ],
)
def test_settings_that_cannot_be(changes, words):
    with pytest.raises(ConfigError, match=re.escape(words)):
        dataclasses.replace(OptimizerConfig(), **changes)
