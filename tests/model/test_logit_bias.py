"""The optional bias of SigLIP's loss: in the model, in all layouts that have one, and in a folder."""

import dataclasses

import peers  # noqa: F401
import pytest
import torch
from embedding import VIT, small_tokenizer
from model_tools import same

from diptych.data.transforms import Preprocessing
from diptych.embed import Model, load
from diptych.errors import ConfigError, WeightsError
from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig
from diptych.model.inference import infer_config
from diptych.model.layouts import huggingface_config, to_custom_text, to_diptych, to_huggingface

BIASED = dataclasses.replace(VIT, logit_bias=-10)


def wrapped(tensors):
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def test_it_is_one_more_parameter():
    clip = CLIP(BIASED)
    assert clip.logit_bias.shape == () and clip.logit_bias == -10 and clip.logit_bias.requires_grad
    assert sum(one.numel() for one in clip.parameters()) == BIASED.num_parameters() == VIT.num_parameters() + 1


def test_a_model_without_one_does_not_speak_of_it():
    assert CLIP(VIT).logit_bias is None and "logit_bias" not in CLIP(VIT).state_dict()
    assert "logit_bias" not in VIT.to_dict() and CLIPConfig.from_dict(VIT.to_dict()) == VIT


@pytest.mark.parametrize("form", [dict, to_custom_text, wrapped], ids=["openai", "custom_text", "wrapped"])
def test_round_trip_of_openai_layouts(form):
    weights = CLIP(BIASED).state_dict()
    assert same(to_diptych(form(weights)), weights)
    assert infer_config(to_diptych(form(weights))) == BIASED == CLIPConfig.from_dict(BIASED.to_dict())


def test_hugging_face_s_clip_has_none():
    weights = CLIP(BIASED).state_dict()
    for convert in (lambda: to_huggingface(weights, BIASED), lambda: huggingface_config(BIASED)):
        with pytest.raises(ConfigError, match="logit_bias"):
            convert()


@pytest.mark.parametrize("bad", [torch.zeros(1), torch.tensor(torch.nan), torch.tensor(torch.inf)])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises((WeightsError, ConfigError), match="logit_bias"):
        infer_config(CLIP(BIASED).state_dict() | {"logit_bias": bad})


def test_open_clip_has_the_same_one():
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": 48, "width": 128, "head_width": 64, "layers": 2, "patch_size": 16}
    text = {"context_length": 24, "vocab_size": 700, "width": 128, "heads": 2, "layers": 2}
    theirs = open_clip.CLIP(64, vision, text, quick_gelu=True, init_logit_bias=-10)
    weights = CLIP(BIASED).state_dict()
    assert torch.equal(theirs.state_dict()["logit_bias"], weights["logit_bias"])
    theirs.load_state_dict(weights)
    assert same(to_diptych(theirs.state_dict()), weights)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_folder_gives_it_back_exact(tmp_path, precision):
    model = Model(CLIP(BIASED), small_tokenizer(), Preprocessing(48))
    model.clip.logit_bias.data.fill_(-9.876)
    model.save(tmp_path / "mine")
    loaded = load(tmp_path / "mine", precision=precision)
    assert torch.equal(loaded.clip.logit_bias, model.clip.logit_bias) and loaded.clip.config == BIASED


def test_with_a_bias_the_scale_begins_where_siglip_s_does():
    assert first_scale(None) == pytest.approx(1 / 0.07)
    assert first_scale(-10.0) == pytest.approx(10.0)


def first_scale(bias: float | None) -> float:
    """exp(t) of a new model."""
    return CLIP(dataclasses.replace(VIT, logit_bias=bias)).logit_scale.exp().item()
