"""Activation checkpointing and patch dropout: the same gradients, and what is saved is saved."""

import copy

import pytest
import torch
from half_precision import CONFIGS, gradients
from model_tools import distance, random_clip, random_pairs, same

from diptych.errors import ConfigError, ShapeError
from diptych.model.patch_dropout import draw_kept_patches
from diptych.model.recompute import untracked_statistics
from diptych.train.precision import WorkingWeights


def num_saved(model, images) -> int:
    """Bytes that autograd keeps for the backward pass of the image tower, weights left out."""
    known = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in known:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model.encode_image(images)
    assert out.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("half", [False, True])
def test_recomputed_gradients_are_equal_to_the_last_bit(name, half):
    model = random_clip(CONFIGS[name]).train()
    again = copy.deepcopy(model)
    again.checkpoint_activations(True)
    results = [gradients(m, WorkingWeights(m, torch.bfloat16) if half else None) for m in (model, again)]
    assert same(*results)
    buffers = [dict(m.named_buffers()) for m in (model, again)]
    assert same(*buffers)  # running statistics and their count advanced once
    if "visual.bn1.num_batches_tracked" in buffers[0]:
        assert buffers[1]["visual.bn1.num_batches_tracked"] == 1


@pytest.mark.parametrize("name", CONFIGS)
def test_recomputing_keeps_less(name):
    model = random_clip(CONFIGS[name]).train()
    images, _ = random_pairs(model, n=4)
    before = num_saved(model, images)
    model.checkpoint_activations(True)
    assert num_saved(model, images) < before / 2
    model.checkpoint_activations(False)
    assert num_saved(model, images) == before


def test_untracked_statistics_normalise_alike_and_stay():
    model = random_clip(CONFIGS["resnet"]).train()
    images, _ = random_pairs(model)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with untracked_statistics(model):
        embeddings = model.encode_image(images)
    assert same(before, dict(model.named_buffers()))
    assert torch.equal(model.encode_image(images), embeddings)
    assert not same(before, dict(model.named_buffers()))


# ------------------------------------------------------------------ patch dropout


def test_the_kept_patches_are_what_the_tower_computes():
    model = random_clip(CONFIGS["vit"])
    images, _ = random_pairs(model, n=3)
    lengths = []
    model.visual.transformer.register_forward_pre_hook(lambda _, args: lengths.append(len(args[0])))
    everything = torch.arange(16).expand(3, 16)
    assert distance(model.encode_image(images, everything), model.encode_image(images)) < 1e-6
    kept = torch.tensor([[0, 5], [1, 15], [7, 8]])
    some = model.encode_image(images, kept)
    assert lengths == [3 * 17, 3 * 17, 3 * 3]

    changed = images.clone()
    for row in range(3):
        for patch in range(16):
            if patch not in kept[row].tolist():
                y, x = 16 * (patch // 4), 16 * (patch % 4)
                changed[row, :, y : y + 16, x : x + 16] = 7.0
    assert torch.equal(model.encode_image(changed, kept), some)
    changed[0, 0, 16, 16] += 1.0  # of patch 5
    after = model.encode_image(changed, kept)
    assert not torch.equal(after[0], some[0]) and torch.equal(after[1:], some[1:])


def test_places_matter_and_order_does_not():
    model = random_clip(CONFIGS["vit"]).double()
    images = random_pairs(model)[0].double()
    kept = torch.tensor([[2, 9, 11], [0, 3, 4]])
    first = model.encode_image(images, kept)
    assert distance(model.encode_image(images, kept.flip(1)), first) < 1e-12
    assert distance(model.encode_image(images.roll(16, dims=3), (kept + 1) % 16), first) > 1e-3


def test_drawn_patches_are_distinct_ascending_and_repeatable():
    draws = [draw_kept_patches(200, 49, 0.5, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert draws[0].shape == (200, 49 - 24) and draws[0].dtype == torch.int64
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert (draws[0].diff(dim=1) > 0).all() and draws[0].min() == 0 and draws[0].max() == 48
    counts = draws[0].flatten().bincount(minlength=49) / 200
    assert (counts - 25 / 49).abs().max() < 0.15  # each patch alike
    assert len({tuple(row) for row in draws[0].tolist()}) == 200


@pytest.mark.parametrize(("share", "kept"), [(0.0, 16), (0.75, 4), (0.5, 8), (0.99, 1)])
def test_the_share_that_stays(share, kept):
    assert draw_kept_patches(2, 16, share, torch.Generator()).shape == (2, kept)


@pytest.mark.parametrize("share", [1.0, -0.1, float("nan")])
def test_impossible_shares(share):
    with pytest.raises(ConfigError, match="share of patches left out is"):
        draw_kept_patches(2, 16, share, torch.Generator())


def test_patches_that_cannot_be_left_out():
    kept = torch.zeros(2, 1, dtype=torch.int64)
    for name, error, text in (
        ("resnet", ConfigError, "only a Vision Transformer"),
        ("vit", ShapeError, "for 3 images"),
    ):
        model = random_clip(CONFIGS[name])
        with pytest.raises(error, match=text):
            model.encode_image(random_pairs(model, n=3)[0], kept)
