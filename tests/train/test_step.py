"""One global batch in micro-batches: the gradient of the whole, randomness replayed, statistics counted once."""

import copy
import dataclasses

import pytest
import torch
from torch.nn import functional as F
from training import MODEL, batch_of, tiny_config

from diptych.data.transforms import normalise
from diptych.model.clip import CLIP, normalised
from diptych.model.clip_config import CLIPConfig, TextConfig, ViTConfig
from diptych.model.patch_dropout import draw_kept_patches
from diptych.train.config import ParallelConfig, PatchDropout
from diptych.train.parallel import Towers
from diptych.train.step import ContrastiveStep

TEXT = TextConfig(context_length=12, vocab_size=50, width=32, heads=2, layers=2)
VIT = CLIPConfig(16, ViTConfig(32, 8, 32, 2, 2), TEXT)
RESNET = dataclasses.replace(MODEL, text=TEXT)


def network(config: CLIPConfig) -> CLIP:
    torch.manual_seed(0)
    clip = CLIP(config).double().train()
    for name, parameter in clip.named_parameters():
        if "bn" in name or name.endswith("bias"):  # zeros would hide what depends on them
            torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
    return clip


def step_of(clip: CLIP, tmp_path, **changes) -> ContrastiveStep:
    config = tiny_config(tmp_path, model=clip.config, **changes)
    return ContrastiveStep(Towers(clip, ParallelConfig(), torch.float64), config)


def gradients(clip: CLIP) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in clip.named_parameters()}


def dense_loss(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    logits = scale * images @ texts.T
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@pytest.mark.parametrize("micro_batch_size", [1, 5, 7, 23, 40])
def test_micro_batches_give_the_gradient_of_the_whole_batch(tmp_path, micro_batch_size):
    clip, batch = network(VIT), batch_of(23)
    images = normalise(batch.images, tiny_config(tmp_path).preprocessing).double()
    whole = copy.deepcopy(clip)
    expected = dense_loss(*whole(images, batch.tokens, batch.lengths))
    expected.backward()
    loss = step_of(clip, tmp_path, micro_batch_size=micro_batch_size)(batch, 0)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-6, atol=0)  # pixels are normalised in float32
    for name, gradient in gradients(whole).items():
        torch.testing.assert_close(gradients(clip)[name], gradient, rtol=1e-5, atol=1e-9, msg=name)


def test_the_temperature_s_gradient_counts_once(tmp_path):
    alone, parts = network(VIT), network(VIT)
    step_of(alone, tmp_path)(batch_of(24), 0)
    step_of(parts, tmp_path, micro_batch_size=6)(batch_of(24), 0)
    assert parts.logit_scale.grad.item() == pytest.approx(alone.logit_scale.grad.item(), rel=1e-9)
    assert abs(alone.logit_scale.grad.item()) > 1e-4


def test_the_patches_left_out_are_the_same_in_both_passes_and_with_any_micro_batch(tmp_path):
    dropout = PatchDropout(share=0.5)
    found = []
    for micro in (None, 5):
        clip = network(VIT)
        step_of(clip, tmp_path, micro_batch_size=micro, patch_dropout=dropout)(batch_of(23), 3)
        found.append(gradients(clip))
    for name in found[0]:
        torch.testing.assert_close(found[1][name], found[0][name], rtol=1e-6, atol=1e-10, msg=name)
    other = network(VIT)
    step_of(other, tmp_path, patch_dropout=dropout)(batch_of(23), 4)
    assert not torch.allclose(gradients(other)["visual.proj"], found[0]["visual.proj"])
    full = network(VIT)
    step_of(full, tmp_path)(batch_of(23), 3)
    assert not torch.allclose(gradients(full)["visual.proj"], found[0]["visual.proj"])


def test_the_last_updates_see_all_patches(tmp_path):
    step = step_of(network(VIT), tmp_path, patch_dropout=PatchDropout(share=0.5, unmasked_share=0.25))  # 12 updates
    assert step._draw_patches(4, 8) is not None
    assert step._draw_patches(4, 9) is None


def test_drawn_patches_are_distinct_sorted_and_uniform():
    kept = draw_kept_patches(4000, 16, 0.75, torch.Generator().manual_seed(0))
    assert kept.shape == (4000, 4) and (kept[:, 1:] > kept[:, :-1]).all()
    counts = torch.bincount(kept.flatten(), minlength=16)
    assert counts.min() > 900 and counts.max() < 1100


@pytest.mark.parametrize("sizes", [(8, 8), (6, 5, 5)])
def test_a_resnet_s_reference_normalises_within_the_micro_batches_and_counts_statistics_once(tmp_path, sizes):
    clip, batch = network(RESNET), batch_of(sum(sizes))
    reference = copy.deepcopy(clip)
    images = normalise(batch.images, tiny_config(tmp_path).preprocessing).double()
    running = {name: value.clone() for name, value in reference.named_buffers() if "running" in name}
    seen: dict[str, torch.Tensor] = {name: torch.zeros_like(value) for name, value in running.items()}
    parts = []
    for piece in images.split(list(sizes)):
        # With a momentum of 1 the running statistics are this micro-batch's own.
        for module in reference.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        parts.append(normalised(reference.encode_image(piece)))
        for name, value in reference.named_buffers():
            if name in seen:
                seen[name] += value * len(piece) / len(images)
    texts = normalised(reference.encode_text(batch.tokens, batch.lengths))
    dense_loss(torch.cat(parts), texts, reference.logit_scale.exp()).backward()

    step_of(clip, tmp_path, micro_batch_size=max(sizes))(batch, 0)
    for name, gradient in gradients(reference).items():
        torch.testing.assert_close(gradients(clip)[name], gradient, rtol=1e-5, atol=1e-9, msg=name)
    for name, value in clip.named_buffers():
        if name in seen:
            torch.testing.assert_close(value, 0.9 * running[name] + 0.1 * seen[name], rtol=1e-7, atol=1e-9, msg=name)
        elif "num_batches" in name:
            assert value == 1
    assert all(one.momentum == 0.1 for one in clip.modules() if isinstance(one, torch.nn.BatchNorm2d))


def test_a_locked_tower_stays_and_the_other_learns(tmp_path):
    clip, free = network(VIT), network(VIT)
    clip.visual.requires_grad_(False)
    for micro in (None, 7):
        clip.zero_grad(), free.zero_grad()
        step_of(clip, tmp_path, micro_batch_size=micro)(batch_of(23), 0)
        step_of(free, tmp_path, micro_batch_size=micro)(batch_of(23), 0)
        assert all(parameter.grad is None for parameter in clip.visual.parameters())
        torch.testing.assert_close(clip.text_projection.grad, free.text_projection.grad)
