"""The whole model: text cut to its length, number formats, the temperature, and shapes that do not fit."""

import copy
import math

import pytest
import torch
from model_tools import distance, random_clip, random_pairs

from diptych.errors import ShapeError
from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.model.packing import pack_texts

TEXT = TextConfig(vocab_size=500, width=128, layers=2)
CONFIGS = {
    "vit": CLIPConfig(64, ViTConfig(64, 16, width=128, layers=2), TEXT),
    "resnet": CLIPConfig(64, ResNetConfig(96, 16, (1, 1, 2, 1)), TEXT),
}


@pytest.fixture(params=CONFIGS)
def model(request):
    return random_clip(CONFIGS[request.param])


def full_context(model, tokens):
    """encode_text without the cut: a text whose end is the context's end makes the batch as long as it can be."""
    filler = torch.full((1, tokens.shape[1]), 5)
    filler[0, -1] = model.config.text.vocab_size - 1
    return model.encode_text(torch.cat([tokens, filler]))[:-1]


@torch.no_grad()
def test_text_is_computed_only_up_to_the_longest_caption(model):
    _, tokens = random_pairs(model, n=3)
    lengths = tokens.argmax(dim=1) + 1
    assert lengths.tolist() == [7, 12, 17]
    seen = []
    model.transformer.register_forward_pre_hook(lambda _, args: seen.append(args[1].groups))
    found, given, cut = model.encode_text(tokens), model.encode_text(tokens, lengths), model.encode_text(tokens[:, :17])
    assert seen == [((3, 17),)] * 3
    assert torch.equal(found, given) and torch.equal(found, cut)
    assert distance(found, full_context(model, tokens)) < 1e-6
    assert seen[-1] == ((4, 77),)


def test_large_batches_are_computed_in_groups_of_similar_length(model):
    model = copy.deepcopy(model).double()
    eot = model.config.text.vocab_size - 1
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 78, (130,), generator=generator)
    tokens = torch.randint(1, eot, (130, 77), generator=generator)
    tokens[torch.arange(77) >= lengths[:, None]] = 0
    tokens[torch.arange(130), lengths - 1] = eot
    packing, order = pack_texts(lengths, torch.device("cpu"))
    assert len(packing.groups) == 4 and sum(n for n, _ in packing.groups) == 130 and packing.groups[-1][1] == 77
    assert sum(n * length for n, length in packing.groups) < 0.75 * 130 * 77
    assert torch.equal(packing.positions, lengths[order] - 1)

    together = model.encode_text(tokens, lengths)
    alone = torch.cat([model.encode_text(tokens[i : i + 1]) for i in range(130)])
    assert distance(together, alone) < 1e-12
    weights = torch.randn(together.shape, generator=generator, dtype=torch.float64)
    parameters = [p for name, p in model.named_parameters() if "visual" not in name and name != "logit_scale"]
    for a, b in zip(
        torch.autograd.grad((together * weights).sum(), parameters),
        torch.autograd.grad((alone * weights).sum(), parameters),
        strict=True,
    ):
        assert distance(a, b) < 1e-10


def test_texts_of_one_length_are_one_group():
    packing, order = pack_texts(torch.full((500,), 9), torch.device("cpu"))
    assert packing.groups == ((500, 9),) and torch.equal(order, torch.arange(500))


@torch.no_grad()
def test_text_is_pooled_at_the_first_end(model):
    _, tokens = random_pairs(model)
    ends = tokens.clone()
    ends[ends == 0] = model.config.text.vocab_size - 1  # Hugging Face's tokenizer pads with the end of text
    assert distance(full_context(model, ends), model.encode_text(tokens)) < 1e-6
    changed = tokens.clone()
    changed[0, 2] += 1
    assert distance(model.encode_text(changed)[0], model.encode_text(tokens)[0]) > 1e-3


@torch.no_grad()
def test_embeddings_do_not_depend_on_the_rest_of_the_batch(model):
    images, tokens = random_pairs(model, n=3)
    image_embeddings, text_embeddings, _ = model(images, tokens)
    assert distance(model(images[1:2], tokens[1:2])[0], image_embeddings[1:2]) < 1e-5
    assert distance(model(images[1:2], tokens[1:2])[1], text_embeddings[1:2]) < 1e-5


def test_forward_gives_unit_norms_and_the_scale(model):
    images, tokens = random_pairs(model, n=3)
    image_embeddings, text_embeddings, scale = model(images, tokens, tokens.argmax(dim=1) + 1)
    for embeddings in (image_embeddings, text_embeddings):
        assert embeddings.shape == (3, 64) and embeddings.dtype == torch.float32
        assert torch.allclose(embeddings.norm(dim=1), torch.ones(3))
    assert scale.item() == pytest.approx(math.exp(3.3))
    (image_embeddings @ text_embeddings.T * scale).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@torch.no_grad()
def test_features_are_what_the_projection_takes(model):
    images, _ = random_pairs(model)
    features = model.image_features(images)
    assert features.shape == (2, model.config.vision.features_dim)
    assert torch.equal(model.visual.project(features), model.encode_image(images))


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-5), (torch.bfloat16, 0.1)])
@torch.no_grad()
def test_cast_as_a_whole(model, dtype, limit):
    images, tokens = random_pairs(model)
    expected = model(images, tokens)
    cast = model.to(dtype)(images, tokens)
    for ours, theirs in zip(cast[:2], expected[:2], strict=True):
        assert ours.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert distance(ours.double(), theirs.double()) < limit


@torch.no_grad()
def test_autocast(model):
    images, tokens = random_pairs(model)
    expected = model(images, tokens)
    with torch.autocast("cpu", torch.bfloat16):
        cast = model(images, tokens)
    for ours, theirs in zip(cast[:2], expected[:2], strict=True):
        assert ours.dtype == torch.float32
        assert 1e-5 < distance(ours, theirs) < 0.1


def test_channels_last_changes_nothing_that_matters(model):
    images, _ = random_pairs(model)
    expected = model.encode_image(images)
    model = model.to(memory_format=torch.channels_last)
    assert distance(model.encode_image(images.contiguous(memory_format=torch.channels_last)), expected) < 1e-5


def test_the_temperature_starts_at_the_paper_s_and_is_clipped_at_100():
    model = CLIP(CONFIGS["vit"])
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    model.clip_logit_scale()
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    pointer = model.logit_scale.data_ptr()
    model.logit_scale.data.fill_(7.0)
    model.clip_logit_scale()
    assert model.logit_scale.exp().item() == pytest.approx(100)
    assert model.logit_scale.data_ptr() == pointer and model.logit_scale.requires_grad


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 1, 64, 64), (3, 64, 64)])
def test_pictures_of_another_size_are_refused(shape):
    with pytest.raises(ShapeError, match=r"\(N, 3, 64, 64\)"):
        CLIP(CONFIGS["vit"]).encode_image(torch.zeros(shape))


def test_texts_beyond_the_context_are_refused():
    tokens = torch.ones(1, 80, dtype=torch.int64)
    tokens[0, -1] = 499
    with pytest.raises(ShapeError, match="80 tokens exceed the context of 77"):
        CLIP(CONFIGS["vit"]).encode_text(tokens)
