"""Parity of each native family with its own references: outputs in fp32, gradients of all parameters in float64.

All weights, gains, biases, positions and probes are random and non-zero. The towers have the published widths of heads,
two heads and two layers; the long tests have the published sizes.
"""

import dataclasses

import peers  # noqa: F401  (before open_clip)
import pytest
import torch
from family_peers import BY_NAME, open_clip_peer, outputs, scaled_down, transformers_peer
from model_tools import random_clip

from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig
from diptych.model.layouts import to_diptych, to_open_clip

OPEN_CLIP = (
    *("ViT-B/32", "ViT-L/14", "ViT-H-14", "ViT-H-14-378", "ViT-g-14", "ViT-bigG-14", "ViT-e-14", "ViT-S-16-alt"),
    *("ViT-L-14-CLIPA", "ViT-H-14-CLIPA-336", "ViT-bigG-14-CLIPA"),
    *("ViT-B-16-SigLIP", "ViT-L-16-SigLIP-256", "ViT-SO400M-14-SigLIP", "ViT-SO400M-16-SigLIP-i18n-256"),
    *("ViT-B-32-SigLIP2-256", "ViT-B-16-SigLIP2", "ViT-L-16-SigLIP2-512", "ViT-gopt-16-SigLIP2-256"),
)
TRANSFORMERS = (
    *("ViT-B/16", "ViT-H-14", "ViT-bigG-14"),
    *("ViT-B-16-SigLIP", "ViT-SO400M-14-SigLIP", "ViT-B-16-SigLIP2", "ViT-gopt-16-SigLIP2-384"),
)
QUICK_GELU = ("ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-H-14-378", "ViT-bigG-14")  # MetaCLIP and DFN


def furthest(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, relative to the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def batch(config: CLIPConfig, n: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, and texts that fill their context: some padded as their tower expects it, the first one full."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, config.vision.image_size, config.vision.image_size, generator=generator)
    text = config.text
    tokens = torch.randint(2, text.vocab_size - 2, (n, text.context_length), generator=generator)
    tokens[:, -1] = text.vocab_size - 1
    for row in range(1, n):
        tokens[row, 3 + 2 * row :] = text.pad_id
        tokens[row, 2 + 2 * row] = text.vocab_size - 1
    return images, tokens


def gradients(model, images, tokens) -> dict[str, torch.Tensor]:
    """Gradients of a fixed random function of both outputs, in our names."""
    generator = torch.Generator().manual_seed(2)
    for output in outputs(model, images, tokens):
        (output * torch.randn(output.shape, generator=generator, dtype=output.dtype)).sum().backward()
    return to_diptych({name: p.grad for name, p in model.named_parameters() if p.grad is not None})


def check(model: CLIP, make_peer, n: int = 2) -> None:
    """Outputs in fp32 within 1e-5, gradients in float64 within 1e-9."""
    images, tokens = batch(model.config, n)
    peer = make_peer(model)
    with torch.no_grad():
        for ours, theirs in zip(outputs(model, images, tokens), outputs(peer, images, tokens), strict=True):
            assert theirs.std() > 1e-3 and (n == 1 or furthest(theirs[1:], theirs[:-1]) > 1e-2)
            assert furthest(ours, theirs) <= 1e-5
    model, peer = model.double(), peer.double()
    ours, theirs = (gradients(each, images.double(), tokens) for each in (model, peer))
    no_gradient = {"logit_scale", "logit_bias"}
    assert ours.keys() == theirs.keys() == dict(model.named_parameters()).keys() - no_gradient
    for name, gradient in theirs.items():
        assert gradient.abs().max() > 0 and furthest(ours[name], gradient) <= 1e-9, name


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_open_clip(name):
    check(random_clip(scaled_down(name)), open_clip_peer)


@pytest.mark.parametrize("name", QUICK_GELU)
def test_open_clip_with_quick_gelu(name):
    config = scaled_down({"ViT-B-16": "ViT-B/16", "ViT-L-14": "ViT-L/14"}.get(name, name))
    check(random_clip(dataclasses.replace(config, activation="quick_gelu")), open_clip_peer)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name):
    """There SigLIP computes gelu_tanh in both towers."""
    config = scaled_down(name)
    if config.text.projection == "biased":
        text = dataclasses.replace(config.text, activation=None)
        config = dataclasses.replace(config, activation="gelu_tanh", text=text)
    check(random_clip(config), transformers_peer)


def test_pixels_after_the_last_patch_are_left_out():
    """so400m-patch14-384 has 27 x 27 patches of 14 pixels, and 6 pixels that no patch covers."""
    config = scaled_down("ViT-SO400M-14-SigLIP-378")
    config = dataclasses.replace(config, vision=dataclasses.replace(config.vision, image_size=3 * 14 + 6))
    model = random_clip(config)
    check(model, open_clip_peer)
    text = dataclasses.replace(config.text, activation=None)
    check(random_clip(dataclasses.replace(config, activation="gelu_tanh", text=text)), transformers_peer)


def test_averages_of_normalized_patches():
    """open_clip's pool_type avg without final_ln_after_pool, which no published model has."""
    config = scaled_down("ViT-L-14-CLIPA")
    vision = dataclasses.replace(config.vision, pooling="mean_of_normalized", ln_pre=True)
    check(random_clip(dataclasses.replace(config, vision=vision)), open_clip_peer)


@pytest.mark.parametrize(("causal", "pooling"), [(True, "last"), (False, "end")])
def test_other_pairs_of_mask_and_pooling(causal, pooling):
    config = scaled_down("ViT-B/32")
    text = dataclasses.replace(config.text, causal=causal, pooling=pooling, mlp_ratio=3.0, pad_id=5)
    check(random_clip(dataclasses.replace(config, text=text)), open_clip_peer)


@pytest.mark.parametrize("name", ["ViT-L-14-CLIPA", "ViT-B-16-SigLIP", "ViT-B-16-SigLIP2"])
def test_shorter_rows_are_filled_with_the_padding(name):
    """The trainer's batches end at their longest text and are filled with zeros."""
    config = scaled_down(name)
    config = dataclasses.replace(config, text=dataclasses.replace(config.text, pad_id=7))
    model = random_clip(config)
    _, tokens = batch(config, 3)
    lengths = torch.tensor([config.text.context_length, 5, 7])
    with torch.no_grad():
        whole = model.encode_text(tokens)
        zeros = tokens[1:, :9].clone()
        zeros[0, 5:], zeros[1, 7:] = 0, 0
        assert furthest(model.encode_text(zeros, lengths[1:]), whole[1:]) <= 1e-6
        assert furthest(model.encode_text(tokens[1:, :9]), whole[1:]) <= 1e-6
        assert furthest(model.encode_text(zeros), whole[1:]) > 1e-3


@pytest.mark.parametrize("name", ["ViT-L-14-CLIPA", "ViT-B-16-SigLIP"])
def test_recomputed_activations_give_the_same_gradients(name):
    model = random_clip(scaled_down(name))
    images, tokens = batch(model.config)
    plain = gradients(model, images, tokens)
    model.zero_grad()
    model.checkpoint_activations(True)
    again = gradients(model, images, tokens)
    assert all(torch.equal(plain[name], again[name]) for name in plain)


@pytest.mark.parametrize("name", ["ViT-L-14-CLIPA", "ViT-B-16-SigLIP"])
def test_left_out_patches_cost_nothing_and_are_not_seen(name):
    """With all patches kept, in another order, the result is the same; with fewer, other pixels do not matter."""
    model = random_clip(scaled_down(name))
    images, _ = batch(model.config)
    with torch.no_grad():
        whole = model.encode_image(images)
        order = torch.randperm(9, generator=torch.Generator().manual_seed(3)).expand(2, -1)
        assert furthest(model.encode_image(images, order), whole) <= 1e-5
        fewer = model.encode_image(images, order[:, :4])
        assert furthest(fewer, whole) > 1e-3
        changed, patch = images.clone(), model.config.vision.patch_size
        row, column = divmod(int(order[0, 5]), 3)
        changed[:, :, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch] += 1
        assert torch.equal(model.encode_image(changed, order[:, :4]), fewer)


@pytest.mark.parametrize("name", [name for name in BY_NAME if "CLIPA" in name or "SigLIP" in name])
def test_counts_of_parameters(name):
    config = BY_NAME[name]
    with torch.device("meta"):
        model = CLIP(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == config.num_parameters()


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["ViT-H-14", "ViT-L-14-CLIPA", "ViT-B-16-SigLIP", "ViT-SO400M-14-SigLIP", "ViT-B-16-SigLIP2"]
)
def test_published_sizes(name):
    """One image and one text; the layouts' copies are freed before the outputs are computed."""
    config = BY_NAME[name]
    model = random_clip(config)
    images, tokens = batch(config, 1)
    with torch.no_grad():
        ours = outputs(model, images, tokens)
        peer = open_clip_peer(model)
        for mine, theirs in zip(ours, outputs(peer, images, tokens), strict=True):
            assert furthest(mine, theirs) <= 1e-5
    assert set(to_open_clip(model.state_dict(), config)) == set(peer.state_dict())
