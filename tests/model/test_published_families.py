"""Published CLIPA and SigLIP models: their sizes and configurations against open_clip's and timm's own models."""

import dataclasses

import peers  # noqa: F401  (before open_clip)
import pytest
import torch
from family_peers import BY_NAME

from diptych.embed.foreign_config import read_open_clip
from diptych.errors import ConfigError
from diptych.model.inference import infer
from diptych.model.layouts import to_diptych, to_huggingface, to_open_clip
from diptych.model.open_clip_config import TIMM_SIGLIP, config_from_open_clip, open_clip_config, siglip_tower
from diptych.model.siglip_vit_config import SiglipViTConfig

open_clip = pytest.importorskip("open_clip")
timm = pytest.importorskip("timm")
SIGLIP = [name for name in open_clip.list_models() if "SigLIP" in name]
ONE_SHAPE = {"ViT-SO400M-14-SigLIP-384": "ViT-SO400M-14-SigLIP-378"}  # 27 x 27 patches each


def published_tensors(name: str) -> dict[str, torch.Tensor]:
    """The state dict of open_clip's model, without numbers but for the bias."""
    config = open_clip.get_model_config(name)
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    with torch.device("meta"):
        tensors = kind(**config).state_dict()
    return tensors | ({"logit_bias": torch.tensor(-10.0)} if "logit_bias" in tensors else {})


@pytest.mark.parametrize("name", SIGLIP)
def test_shapes_and_configuration_name_the_same_model(name):
    tensors = to_diptych(published_tensors(name))
    inferred = infer(tensors)
    assert inferred.published.name == ONE_SHAPE.get(name, name)
    preprocess = open_clip.get_pretrained_cfg(name, "webli")
    keys = ("mean", "std", "interpolation", "resize_mode")
    values = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {key: preprocess[key] for key in keys}}
    values["preprocess_cfg"] |= {key: list(preprocess[key]) for key in ("mean", "std")}
    config, preprocessing = read_open_clip(values)
    text = dataclasses.replace(config.text, pad_id=inferred.config.text.pad_id)  # the tokenizer's files say it
    vision = dataclasses.replace(config.vision, image_size=inferred.config.vision.image_size)
    assert inferred.config == dataclasses.replace(config, text=text, vision=vision)
    assert dict(inferred.published.tokenizer) == values["model_cfg"]["text_cfg"]["tokenizer_kwargs"]
    for field, value in inferred.published.preprocessing.items():
        assert getattr(preprocessing, field) == value
    with_tanh = infer(tensors, "gelu_tanh").config
    assert (with_tanh.activation, with_tanh.text.activation) == ("gelu_tanh", None)
    assert "gelu_tanh in Hugging Face's" in inferred.notice and "--activation" in inferred.notice


@pytest.mark.parametrize("name", [name for name in open_clip.list_models() if "CLIPA" in name])
def test_clipa_s_preprocessing(name):
    published = infer(to_diptych(published_tensors(name))).published
    theirs = open_clip.get_pretrained_cfg(name, "datacomp1b")
    fields = {"mean": "mean", "std": "std", "interpolation": "interpolation", "resize": "resize_mode"}
    assert {field: theirs[key] for field, key in fields.items()} == dict(published.preprocessing)
    kwargs = open_clip.get_model_config(name)["text_cfg"]["tokenizer_kwargs"]
    assert dict(published.tokenizer) == kwargs


def test_timm_s_siglip_towers_are_all_known():
    names = [name for name in timm.list_models("vit_*siglip*") if "gap" not in name and "test" not in name]
    assert sorted(names) == sorted(TIMM_SIGLIP)


@pytest.mark.parametrize("name", TIMM_SIGLIP)
def test_timm_s_sizes_and_activations(name):
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=0)
    block, pool = theirs.blocks[0], theirs.attn_pool
    tower, activation = siglip_tower(name)
    ours = (tower.image_size, tower.patch_size, tower.width, tower.layers, tower.heads, tower.mlp_width)
    sizes = (theirs.patch_embed.img_size[0], theirs.patch_embed.patch_size[0], theirs.embed_dim, len(theirs.blocks))
    assert ours == (*sizes, block.attn.num_heads, block.mlp.fc1.out_features)
    assert (pool.num_heads, pool.mlp.fc1.out_features) == (tower.heads, tower.mlp_width)
    assert {norm.eps for norm in (block.norm1, block.norm2, theirs.norm, pool.norm)} == {tower.norm_eps}
    kinds = {"gelu": "GELU(approximate='none')", "gelu_tanh": "GELUTanh()"}
    assert repr(block.mlp.act) == repr(pool.mlp.act) == kinds[activation]


@pytest.mark.parametrize("name", BY_NAME)
def test_open_clip_s_configuration_and_back(name):
    config = BY_NAME[name]
    values = open_clip_config(config)
    again = config_from_open_clip(values)
    assert again == config
    kind = open_clip.CustomTextCLIP if values.pop("custom_text", False) else open_clip.CLIP
    with torch.device("meta"):
        theirs = kind(**values)
    assert sum(parameter.numel() for parameter in theirs.parameters()) == again.num_parameters()


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "ViT-L-14-CLIPA", "ViT-H-14"])
def test_all_names_of_the_layouts(name):
    """The published state dict -> Diptych's names and back gives each tensor its name and its shape again."""
    tensors = published_tensors(name)
    ours = to_diptych(tensors)
    config = infer(ours).config
    again = to_open_clip(ours, config)
    assert {key: value.shape for key, value in again.items()} == {key: value.shape for key, value in tensors.items()}
    if "CLIPA" in name:
        with pytest.raises(ConfigError, match="CLIPModel has a class token"):
            to_huggingface(ours, config)
    else:
        back = to_diptych(to_huggingface(ours, config))
        assert {key: value.shape for key, value in back.items()} == {key: value.shape for key, value in ours.items()}


def test_a_tower_that_open_clip_does_not_have():
    config = BY_NAME["ViT-B-16-SigLIP"]
    with pytest.raises(ConfigError, match="vit_base_patch16_siglip_224 computes gelu, not gelu_tanh"):
        open_clip_config(dataclasses.replace(config, activation="gelu_tanh"))
    vision = dataclasses.replace(config.vision, layers=3)
    with pytest.raises(ConfigError, match="there is no SiglipViTConfig"):
        open_clip_config(dataclasses.replace(config, vision=vision))
    text = dataclasses.replace(config.text, causal=True)
    with pytest.raises(ConfigError, match="SiglipModel has a logit_bias, no causal mask"):
        to_huggingface({}, dataclasses.replace(config, text=text))


def test_a_configuration_is_written_without_defaults_and_read_again():
    siglip = BY_NAME["ViT-B-16-SigLIP"]
    values = siglip.to_dict()
    assert values["vision"] == {
        **{"kind": "siglip_vit", "image_size": 224, "patch_size": 16, "width": 768, "layers": 12, "heads": 12},
    }
    added = {"causal": False, "pooling": "last", "projection": "biased", "norm_eps": 1e-6, "pad_id": 1}
    assert {key: values["text"][key] for key in added} == added and "mlp_ratio" not in values["text"]
    for config in (siglip, BY_NAME["ViT-bigG-14-CLIPA"], BY_NAME["ViT-gopt-16-SigLIP2-384"]):
        assert type(config).from_dict(config.to_dict()) == config
    plain = BY_NAME["ViT-B/32"]
    assert set(plain.to_dict()["text"]) == {"context_length", "vocab_size", "width", "heads", "layers"}
    assert repr(plain.text) == "TextConfig(context_length=77, vocab_size=49408, width=512, heads=8, layers=12)"
    assert repr(plain.vision).endswith("heads=12, mlp_ratio=4.0)")


@pytest.mark.parametrize(
    ("section", "changes", "words"),
    [
        ("vision", {"width": 128, "heads": 2}, "embed_dim is 768 and vision.width 128"),
        ("vision", {"patch_size": 300}, "patch_size 300 exceeds"),
        ("vision", {"norm_eps": 0}, "vision.norm_eps must lie between"),
        ("text", {"pooling": "first"}, "text.pooling must be one of"),
        ("text", {"causal": 1}, "text.causal must be true or false"),
        ("text", {"pad_id": -1}, "text.pad_id must be a token"),
        ("text", {"activation": "relu"}, "text.activation must be one of"),
        ("text", {"projection": True}, "text.projection must be one of"),
        ("text", {"projection": "none", "width": 128, "heads": 2}, "embed_dim is 768 and text.width 128"),
        ("text", {"mlp_ratio": "4"}, "text.mlp_ratio must be a finite number"),
    ],
)
def test_absurd_values_are_refused(section, changes, words):
    values = BY_NAME["ViT-B-16-SigLIP"].to_dict()
    values[section] |= changes
    with pytest.raises(ConfigError, match=words):
        type(BY_NAME["ViT-B-16-SigLIP"]).from_dict(values)


def test_a_siglip_s_remainder_of_pixels():
    assert SiglipViTConfig(384, 14, 1152, 27, 16).grid == 27
