"""Models between a zero-shot model and its fine-tuned self."""

import dataclasses

import pytest
import torch
from embedding import RESNET, TEXTS, make_pictures, make_resnet, make_vit, small_tokenizer
from model_tools import random_clip

from diptych.data.tokenizer import Tokenizer
from diptych.embed import Model, load
from diptych.embed.interpolation import interpolate
from diptych.errors import ConfigError, WeightsError


def fine_tuned() -> Model:
    before = make_resnet()
    return Model(random_clip(RESNET, seed=1), before.tokenizer, before.preprocessing, "tuned")


def test_every_tensor_is_mixed_and_the_two_stay_as_they_are():
    one, other = make_resnet(), fine_tuned()
    before = [{k: v.clone() for k, v in model.clip.state_dict().items()} for model in (one, other)]
    mixed = interpolate(one, other, 0.25)
    assert (mixed.name, mixed.tokenizer, mixed.preprocessing) == (
        "resnet-tuned-0.25",
        one.tokenizer,
        one.preprocessing,
    )
    for name, tensor in mixed.clip.state_dict().items():
        if tensor.is_floating_point():
            assert torch.allclose(tensor, 0.75 * before[0][name] + 0.25 * before[1][name], atol=1e-6), name
    assert not torch.equal(mixed.clip.visual.bn1.running_var, before[0]["visual.bn1.running_var"])
    for model, state in zip((one, other), before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.clip.state_dict().items())


@pytest.mark.parametrize("share", [0, 1])
def test_the_ends_are_the_two_models(share):
    one, other = make_resnet(), fine_tuned()
    end = (one, other)[share]
    mixed = interpolate(one, other, share)
    assert torch.equal(mixed.encode_images(make_pictures()), end.encode_images(make_pictures()))
    assert torch.equal(mixed.encode_texts(TEXTS), end.encode_texts(TEXTS))
    assert mixed.logit_scale == end.logit_scale


def test_the_mixture_can_be_saved_and_loaded(tmp_path):
    mixed = interpolate(make_resnet(), fine_tuned(), 0.5)
    mixed.save(tmp_path / "mixed")
    assert torch.equal(load(tmp_path / "mixed").encode_texts(TEXTS), mixed.encode_texts(TEXTS))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_is_refused(share):
    with pytest.raises(ConfigError, match="from 0 to 1"):
        interpolate(make_resnet(), fine_tuned(), share)


def test_what_differs_is_named():
    one = make_resnet()
    with pytest.raises(WeightsError, match=r"resnet and vit cannot be mixed: embed_dim is 96 and 64.*vision.kind is"):
        interpolate(one, make_vit(), 0.5)
    gelu = Model(random_clip(dataclasses.replace(RESNET, activation="quick_gelu")), one.tokenizer, one.preprocessing)
    with pytest.raises(WeightsError, match="activation is 'gelu' and 'quick_gelu'"):
        interpolate(one, gelu, 0.5)
    other_mean = dataclasses.replace(one.preprocessing, mean=(0.5, 0.2, 0.3))
    with pytest.raises(WeightsError, match=r"preprocessing.mean is"):
        interpolate(one, Model(one.clip, one.tokenizer, other_mean), 0.5)
    other_words = Tokenizer.train(["three yellow birds"] * 3, 600, context_length=24)
    with pytest.raises(WeightsError, match="tokenizers differ"):
        interpolate(one, Model(one.clip, other_words, one.preprocessing), 0.5)
    with pytest.raises(WeightsError, match="only one has a tokenizer"):
        interpolate(one, Model(one.clip, None, one.preprocessing), 0.5)
    assert small_tokenizer().fingerprint == one.tokenizer.fingerprint
