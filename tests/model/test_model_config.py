"""Configurations: presets with the paper's parameter counts, and what from_dict refuses."""

import dataclasses

import pytest
import torch

from diptych.errors import ConfigError
from diptych.model.build import build_model
from diptych.model.clip_config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.model.presets import PRESETS, get_preset

# Millions, as OpenAI's published models have them; ViT-B/32 exactly from OpenAI's notebook.
MILLIONS = {
    "RN50": 102.01,
    "RN101": 119.69,
    "RN50x4": 178.30,
    "RN50x16": 290.98,
    "RN50x64": 623.26,
    "ViT-B/32": 151.277313,
    "ViT-B/16": 149.62,
    "ViT-L/14": 427.62,
    "ViT-L/14@336px": 427.94,
}
VISION_HEADS = {"RN50": 32, "RN50x4": 40, "RN50x16": 48, "RN50x64": 64, "ViT-B/16": 12, "ViT-L/14@336px": 16}


@pytest.mark.parametrize("name", MILLIONS)
def test_published_parameter_counts(name):
    count = PRESETS[name].num_parameters()
    digits = 6 if name == "ViT-B/32" else 2
    assert round(count / 1e6, digits) == MILLIONS[name]


@pytest.mark.parametrize("name", PRESETS)
def test_counts_are_those_of_the_built_model(name):
    with torch.device("meta"):
        model = build_model(PRESETS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == PRESETS[name].num_parameters()


def test_heads_of_the_published_models():
    assert {name: PRESETS[name].vision.heads for name in VISION_HEADS} == VISION_HEADS
    assert [PRESETS[name].text.heads for name in ("RN50", "RN50x4", "RN50x16", "RN50x64")] == [8, 10, 12, 16]


@pytest.mark.parametrize("name", PRESETS)
def test_dict_round_trip(name):
    assert CLIPConfig.from_dict(PRESETS[name].to_dict()) == PRESETS[name]


@pytest.mark.parametrize("alias", ["ViT-L/14@336px", "ViT-L-14-336", "vit_l_14_336px"])
def test_aliases(alias):
    assert get_preset(alias) is PRESETS["ViT-L/14@336px"]


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"no preset 'ViT-B/8'.*ViT-B/32"):
        get_preset("ViT-B/8")


VIT = {"kind": "vit", "image_size": 64, "patch_size": 8, "width": 192, "layers": 6}
RESNET = {"kind": "resnet", "image_size": 64, "width": 32, "layers": [1, 2, 2, 1]}
COMPACT = {"kind": "compact_resnet", "image_size": 64, "widths": [16, 64], "layers": [1, 2]}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"embed_dim": 0}, "model.embed_dim"),
        ({"embed_dim": "512"}, "model.embed_dim"),
        ({"embed_dim": True}, "model.embed_dim"),
        ({"embed_dim": 10**12}, "model.embed_dim"),
        ({"colour": 1}, "unknown fields: colour"),
        ({"logit_bias": "-10"}, "model.logit_bias"),
        ({"logit_bias": True}, "model.logit_bias"),
        ({"logit_bias": float("nan")}, "model.logit_bias"),
        ({"logit_bias": -1e39}, "model.logit_bias"),
        ({"activation": "relu"}, "model.activation"),
        ({"activation": ["gelu"]}, "model.activation"),
        ({"vision": None}, "model.vision"),
        ({"vision": {"kind": "mlp"}}, "model.vision"),
        ({"vision": {"kind": ["vit"]}}, "model.vision"),
        ({"vision": VIT | {"patch_size": -8}}, "vision.patch_size"),
        ({"vision": VIT | {"patch_size": 7}}, "vision.patch_size"),
        ({"vision": VIT | {"layers": 10**9}}, "vision.layers"),
        ({"vision": VIT | {"heads": 5}}, "vision.heads"),
        ({"vision": VIT | {"heads": -1}}, "vision.heads"),
        ({"vision": VIT | {"mlp_ratio": "4"}}, "vision.mlp_ratio"),
        ({"vision": VIT | {"mlp_ratio": float("nan")}}, "vision.mlp_ratio"),
        ({"vision": VIT | {"mlp_ratio": 0.001}}, "vision.mlp_width"),
        ({"vision": VIT | {"mlp_ratio": -4}}, "vision.mlp_width"),
        ({"vision": VIT | {"mlp_ratio": 1e20}}, "vision.mlp_width"),
        ({"vision": RESNET | {"mlp_ratio": 4}}, "unknown fields: mlp_ratio"),
        ({"vision": VIT | {"stride": 2}}, "unknown fields: stride"),
        ({"vision": {"kind": "vit", "image_size": 64}}, "vision lacks patch_size, width, layers"),
        ({"vision": RESNET | {"layers": 3}}, "vision.layers"),
        ({"vision": RESNET | {"layers": [1, 1, 1]}}, "vision.layers"),
        ({"vision": RESNET | {"layers": [1, 1, 1, 0]}}, "vision.layers"),
        ({"vision": RESNET | {"image_size": 65}}, "vision.image_size"),
        ({"vision": RESNET | {"width": 33}}, "vision.width"),
        ({"vision": COMPACT | {"widths": []}}, "vision.widths"),
        ({"vision": COMPACT | {"widths": [64]}}, "same length"),
        ({"vision": COMPACT | {"widths": [16, 32.0]}}, "vision.width"),
        ({"vision": COMPACT | {"layers": 2}}, "vision.layers"),
        ({"vision": COMPACT | {"layers": [1, 0]}}, "vision.layers"),
        ({"vision": COMPACT | {"image_size": 66}}, "multiple of 4"),
        ({"text": []}, "text must be an object"),
        ({"text": {"width": 64.0}}, "text.width"),
        ({"text": {"width": 65_536, "layers": 1000}}, "above the limit"),
        ({"vision": VIT | {"width": 65_536, "layers": 100}}, "above the limit"),
    ],
)
def test_refused(change, field):
    good = {"embed_dim": 256, "vision": VIT, "text": {"width": 256, "layers": 4}}
    CLIPConfig.from_dict(good)
    with pytest.raises(ConfigError) as error:
        CLIPConfig.from_dict(good | change)
    assert field in str(error.value)


def test_folders_from_before_mlp_ratio_are_read_and_written_as_they_were():
    values = PRESETS["ViT-B/32"].to_dict()
    assert "mlp_ratio" not in values["vision"] and CLIPConfig.from_dict(values).vision.mlp_width == 4 * 768


def test_the_width_of_an_mlp():
    vision = ViTConfig(224, 14, 1664, 48, 16, mlp_ratio=4.9231)
    assert vision.mlp_width == 8192 and vision == ViTConfig(224, 14, 1664, 48, 16, mlp_ratio=8192 / 1664)
    config = CLIPConfig(1280, vision, TextConfig(width=1280, layers=32))
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build_model(config).parameters()) == config.num_parameters()
    assert CLIPConfig.from_dict(config.to_dict()) == config


def test_records_check_themselves_and_stay_as_they_are():
    with pytest.raises(ConfigError):
        ViTConfig(224, 32, width=0, layers=12)
    config = CLIPConfig(256, ResNetConfig(64, 32, (1, 1, 1, 1)), TextConfig())
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.embed_dim = 2
