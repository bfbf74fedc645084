"""Weights to begin with: positions for another picture size, other architectures refused, towers that stay."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from training import MODEL, tiny_config

from diptych.data.playground import Playground
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed import Model, load
from diptych.errors import ConfigError, ShapeError, WeightsError
from diptych.model.clip import CLIP
from diptych.model.clip_config import ViTConfig
from diptych.model.resample import resample_positions
from diptych.train import fit
from diptych.train.config import InitConfig
from diptych.train.initial import initial_tokenizer, initialise, locked_modules, locked_parameters
from diptych.train.optimizer import OptimizerConfig, build_optimizer

VIT = dataclasses.replace(MODEL, vision=ViTConfig(32, 8, 64, 1))


# ---- positions


def test_the_same_grid_is_the_same_table():
    table = torch.randn(50, 8)
    assert resample_positions(table, 7) is table


def test_the_first_row_stays_and_a_constant_stays_constant():
    table = torch.cat([torch.full((1, 3), 9.0), torch.tensor([[1.0, -2.0, 0.5]]).expand(16, 3)])
    for grid in (2, 3, 8):
        resized = resample_positions(table, grid)
        assert resized.shape == (grid**2 + 1, 3)
        torch.testing.assert_close(resized[0], table[0])
        torch.testing.assert_close(resized[1:], table[1:2].expand(grid**2, 3))


def test_halved_by_hand():
    """Four places of a row to two, antialiased: Keys' kernel (a = -1/2) stretched twofold, at distances in halves."""

    def keys(x: float) -> float:
        x = abs(x)
        return 1.5 * x**3 - 2.5 * x**2 + 1 if x < 1 else (-0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0)

    weights = np.array([[keys((place + 0.5 - centre) / 2) for place in range(4)] for centre in (1.0, 3.0)])
    weights /= weights.sum(1, keepdims=True)
    picture = np.arange(16.0).reshape(4, 4) ** 1.5
    table = torch.cat([torch.zeros(1, 1), torch.from_numpy(picture).float().reshape(16, 1)])
    expected = torch.from_numpy(weights @ picture @ weights.T).float()
    torch.testing.assert_close(resample_positions(table, 2)[1:].view(2, 2), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("old", "new"), [(16, 24), (7, 9), (9, 7)])
def test_equal_to_pillows_bicubic(old, new):
    """16 to 24 is ViT-L/14 from 224 to 336 pixels."""
    rng = np.random.default_rng(0)
    pictures = rng.normal(size=(3, old, old)).astype(np.float32)
    table = torch.cat([torch.zeros(1, 3), torch.from_numpy(pictures).flatten(1).T])
    resized = resample_positions(table, new)[1:].T.view(3, new, new)
    expected = [np.asarray(Image.fromarray(one).resize((new, new), Image.Resampling.BICUBIC)) for one in pictures]
    np.testing.assert_allclose(resized.numpy(), np.stack(expected), atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 4), (6, 4), (0, 4), (17,), (17, 4, 1)])
def test_what_is_no_square_grid_is_refused(shape):
    with pytest.raises(ShapeError, match="1 \\+ g²"):
        resample_positions(torch.zeros(shape), 5)


# ---- weights


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    captions = [text for sample in Playground(100).read(0) for text in sample.texts]
    return Tokenizer.train(captions, vocab_size=560, context_length=32)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tokenizer):
    """Models of both kinds of towers."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(7)
    for name, config in (("resnet", MODEL), ("vit", VIT)):
        Model(CLIP(config), tokenizer, Preprocessing(32)).save(folder / name)
    return folder


def test_weights_are_taken_over(saved, tokenizer):
    clip = CLIP(MODEL)
    initialise(clip, InitConfig(str(saved / "resnet")), tokenizer)
    expected = load(saved / "resnet").clip.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in clip.state_dict().items())
    assert all(parameter.requires_grad for parameter in clip.parameters())
    assert initial_tokenizer(InitConfig(str(saved / "resnet"))).fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(("name", "config"), [("vit", VIT), ("resnet", MODEL)])
def test_a_larger_picture_resamples_the_positions_alone(saved, name, config):
    larger = dataclasses.replace(config, vision=dataclasses.replace(config.vision, image_size=64))
    clip = CLIP(larger)
    initialise(clip, InitConfig(str(saved / name)))
    before, after = load(saved / name).clip.state_dict(), clip.state_dict()
    changed = [key for key in after if after[key].shape != before[key].shape]
    (key,) = changed
    assert key.endswith("positional_embedding") and key.startswith("visual.")
    torch.testing.assert_close(after[key], resample_positions(before[key], larger.vision.grid))
    assert all(torch.equal(after[key], before[key]) for key in after if key not in changed)


def test_another_architecture_is_refused_with_what_differs(saved):
    wider = dataclasses.replace(VIT, text=dataclasses.replace(VIT.text, layers=2))
    with pytest.raises(WeightsError, match=r"text.layers is 1 there and 2 here.*finetune"):
        initialise(CLIP(wider), InitConfig(str(saved / "vit")))
    with pytest.raises(WeightsError, match=r"vision\.kind"):
        initialise(CLIP(MODEL), InitConfig(str(saved / "vit")))
    with pytest.raises(WeightsError, match="nowhere"):
        initialise(CLIP(MODEL), InitConfig("nowhere"))


def test_another_tokenizer_is_refused(saved):
    other = Tokenizer.train(["entirely other words"] * 3, vocab_size=530, context_length=32)
    with pytest.raises(ConfigError, match="tokenizer=init"):
        initialise(CLIP(MODEL), InitConfig(str(saved / "resnet")), other)
    with pytest.raises(ConfigError, match="--init"):
        initial_tokenizer(InitConfig())


# ---- locked towers


@pytest.mark.parametrize("which", ["lock_image", "lock_text"])
def test_a_locked_tower_stays_as_it_is_to_the_last_bit(saved, tmp_path, which):
    init = InitConfig(str(saved / "resnet"), **{which: True})
    run = fit(tiny_config(tmp_path / "run", num_steps=4, init=init, tokenizer="init"))
    before, after = load(saved / "resnet").clip.state_dict(), run.model.clip.state_dict()
    same = {name for name in after if torch.equal(before[name], after[name])}
    image = {name for name in after if name.startswith("visual.")}
    text = set(after) - image - {"logit_scale"}
    locked, free = (image, text) if which == "lock_image" else (text, image)
    assert locked <= same  # BatchNorm's statistics too
    moved = {"logit_scale", "text_projection" if which == "lock_image" else "visual.attnpool.c_proj.weight"}
    assert not moved & same and len(free - same) > len(free) / 2


def test_locked_towers_leave_the_optimizer_and_training_mode(saved):
    clip, init = CLIP(MODEL), InitConfig(str(saved / "resnet"), lock_image=True)
    initialise(clip, init)
    ids = {
        id(p) for group in build_optimizer(clip, OptimizerConfig()).parts["adamw"].param_groups for p in group["params"]
    }
    assert ids == {id(p) for name, p in clip.named_parameters() if not name.startswith("visual.")}
    assert locked_modules(clip, init) == [clip.visual]
    assert len(locked_parameters(clip, init)) == len(list(clip.visual.parameters()))
    text = locked_modules(clip, InitConfig("x", lock_text=True))
    assert {id(module) for module in text} == {id(clip.token_embedding), id(clip.transformer), id(clip.ln_final)}


def test_what_cannot_be_locked():
    with pytest.raises(ConfigError, match="nothing to train"):
        initialise(CLIP(MODEL), InitConfig(lock_image=True, lock_text=True))
    with pytest.raises(ConfigError, match="--init"):
        initialise(CLIP(MODEL), InitConfig(lock_image=True))
