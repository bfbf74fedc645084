"""What a target cannot hold, what fails its check and what would overwrite: refused, with the reason, nothing left."""

import dataclasses
import sys

import converted
import pytest
import torch
from model_tools import random_clip

import diptych
from diptych.convert import sidecar_files, write_huggingface, write_onnx, write_open_clip
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed import Model
from diptych.embed.check.tolerances import FEATURES, IMAGES, PIXELS, TEXTS, TOKENS
from diptych.errors import ConfigError, ConversionError, InputError, WeightsError
from diptych.model.clip_config import CLIPConfig, CompactResNetConfig, ResNetConfig, TextConfig, ViTConfig

pytest.importorskip("open_clip")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")


def remade(model, **changes):
    """The model with another architecture and random weights."""
    config = dataclasses.replace(model.clip.config, **changes)
    return Model(random_clip(config), model.tokenizer, model.preprocessing, model.name)


def prepared(model, **changes):
    images = dataclasses.replace(model.preprocessing, **changes)
    return Model(model.clip, model.tokenizer, images, model.name)


OPENAI = converted.openai_vit
TEXT = TextConfig(width=64, layers=2)
NOT_OPENAIS = {
    "activation is gelu": lambda: remade(OPENAI(), activation="gelu"),
    "image heads": lambda: remade(OPENAI(), vision=ViTConfig(48, 16, 128, 2, heads=1)),
    "text heads": lambda: remade(OPENAI(), text=dataclasses.replace(TEXT, heads=2)),
    "image tower is": lambda: remade(OPENAI(), vision=ViTConfig(48, 16, 128, 2, mlp_ratio=3)),
    "text tower is": lambda: remade(OPENAI(), text=dataclasses.replace(TEXT, causal=False)),
    "24 tokens": lambda: Model(
        random_clip(dataclasses.replace(OPENAI().clip.config, text=dataclasses.replace(TEXT, context_length=24))),
        Tokenizer.openai(context_length=24),
        OPENAI().preprocessing,
    ),
    "logits have a bias": lambda: remade(OPENAI(), logit_bias=-10.0),
    "not CLIP's": lambda: prepared(OPENAI(), std=(0.5, 0.5, 0.5)),
    "mean, standard deviation or interpolation": lambda: prepared(OPENAI(), interpolation="bilinear"),
    "both sides": lambda: prepared(OPENAI(), resize="squash"),
    "tokenizer is not OpenAI's": lambda: Model(
        OPENAI().clip, Tokenizer.train(["a b"] * 3, 520), OPENAI().preprocessing, "other-words"
    ),
    "fp16": lambda: remade(OPENAI()),
}


@pytest.mark.parametrize("reason", NOT_OPENAIS)
def test_openais_code_is_not_given_what_it_would_compute_otherwise(reason, tmp_path):
    pytest.importorskip("clip")
    with pytest.raises(ConfigError, match=f"(?s){reason}.*--to open_clip"):
        diptych.convert(NOT_OPENAIS[reason](), "openai", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def compact():
    config = CLIPConfig(64, CompactResNetConfig(32, (32, 64), (1, 2)), TextConfig(24, 600, 128, layers=2))
    return Model(random_clip(config), converted.small_tokenizer(), Preprocessing(32), "compact")


@pytest.mark.parametrize(
    ("model", "target", "reason"),
    [
        (converted.gelu_resnet, "huggingface", "no .*ResNet.* image tower"),
        (converted.clipa, "huggingface", "class token"),
        (converted.clipa, "sentence-transformers", "class token"),
        (converted.siglip, "open_clip", "timm"),
        (compact, "open_clip", "open_clip has no"),
        (compact, "openai", "OpenAI's code has no"),
        (converted.siglip, "openai", "OpenAI's code has no"),
    ],
)
def test_what_a_library_does_not_have_is_refused(model, target, reason, tmp_path):
    pytest.importorskip({"openai": "clip", "sentence-transformers": "sentence_transformers"}.get(target, "open_clip"))
    with pytest.raises(ConfigError, match=reason):
        diptych.convert(model(), target, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_model_without_a_tokenizer_is_refused(tmp_path):
    vit = converted.wide_vit()
    for target in ("open_clip", "huggingface", "onnx", "torch-export"):
        with pytest.raises(ConfigError, match="without a tokenizer"):
            diptych.convert(Model(vit.clip, None, vit.preprocessing), target, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# ---- a writer with one fault: the check finds it at its stage, and nothing is left


def wrong_activation(monkeypatch):
    own = write_huggingface.huggingface_config
    monkeypatch.setattr(
        write_huggingface,
        "huggingface_config",
        lambda config: own(dataclasses.replace(config, activation="quick_gelu")),
    )


def transpose_forgotten(monkeypatch):
    own = write_huggingface.to_huggingface

    def forgotten(tensors, config):
        result = own(tensors, config)
        square = result["text_model.encoder.layers.0.self_attn.out_proj.weight"]
        return result | {"text_model.encoder.layers.0.self_attn.out_proj.weight": square.T.contiguous()}

    monkeypatch.setattr(write_huggingface, "to_huggingface", forgotten)


def wrong_std(monkeypatch):
    own = sidecar_files.write_json

    def other(path, values):
        own(path, values | ({"image_std": [0.5, 0.6, 0.71]} if "image_std" in values else {}))

    monkeypatch.setattr(sidecar_files, "write_json", other)


def padding_on_the_left(monkeypatch):
    own = sidecar_files.write_json

    def other(path, values):
        own(path, values | ({"padding_side": "left"} if "padding_side" in values else {}))

    monkeypatch.setattr(sidecar_files, "write_json", other)


def wrong_normalization(monkeypatch):
    own = write_onnx.write_image_graph

    def other(model, path, normalization, *arguments, **options):
        return own(model, path, ((0.1, 0.2, 0.31), normalization[1]), *arguments, **options)

    monkeypatch.setattr(write_onnx, "write_image_graph", other)


def wrong_words(monkeypatch):
    monkeypatch.setattr(write_open_clip, "is_openai", lambda tokenizer: True)


@pytest.mark.parametrize(
    ("fault", "model", "target", "stage"),
    [
        (wrong_activation, converted.wide_vit, "huggingface", FEATURES),
        (transpose_forgotten, converted.wide_vit, "huggingface", TEXTS),
        (wrong_std, converted.wide_vit, "huggingface", PIXELS),
        (padding_on_the_left, converted.floor_vit, "huggingface", TOKENS),
        (padding_on_the_left, converted.siglip, "huggingface", TOKENS),
        (wrong_normalization, converted.wide_vit, "onnx", IMAGES),
    ],
)
def test_a_conversion_that_differs_is_taken_back(fault, model, target, stage, tmp_path, monkeypatch):
    fault(monkeypatch)
    checks = []
    options = {"pixels": "uint8"} if target == "onnx" else {}
    with pytest.raises(ConversionError, match=f"the first difference is in {stage}"):
        diptych.convert(model(), target, tmp_path / "out", report=checks.append, **options)
    assert checks[0].first_difference == stage and list(tmp_path.iterdir()) == []


def test_a_converted_model_that_the_library_cannot_run_is_taken_back(tmp_path, monkeypatch):
    """open_clip takes its own tokenizer, whose ids are larger than the vocabulary."""
    wrong_words(monkeypatch)
    with pytest.raises(ConversionError, match="open_clip cannot compute the converted model: index out of range"):
        diptych.convert(converted.wide_vit(), "open_clip", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# ---- arguments


def test_files_are_never_replaced(tmp_path):
    model = converted.wide_vit()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("mine", "file", "link"):
        with pytest.raises(InputError, match="nothing in it is replaced"):
            diptych.convert(model, "huggingface", tmp_path / name)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    diptych.convert(model, "huggingface", tmp_path / "empty")
    with pytest.raises(InputError, match="there already"):
        diptych.convert(model, "huggingface", tmp_path / "empty")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "link", "mine"]


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("hugging_face", {}, "did you mean huggingface"),
        ("tensorrt", {}, "A model is converted to openai, open_clip"),
        ("huggingface", {"precision": "int8"}, "int8 is written for onnx"),
        ("torch-export", {"precision": "fp16"}, "fp16 is written for"),
        ("huggingface", {"pixels": "uint8"}, "not in uint8"),
        ("onnx", {"precision": "int8"}, "--unmeasured"),
    ],
)
def test_options_that_do_not_exist_are_refused(target, options, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        diptych.convert(converted.wide_vit(), target, tmp_path / "out", **options)


@pytest.mark.parametrize(
    ("target", "library", "install"),
    [
        ("openvino", "openvino", r"diptych\[openvino\]"),
        ("onnx", "onnx", r"diptych\[onnx\]"),
        ("sentence-transformers", "sentence_transformers", "pip install sentence-transformers"),
    ],
)
def test_a_missing_library_is_named_before_the_work(target, library, install, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(ConfigError, match=f"{library} is not installed.*{install}"):
        diptych.convert(converted.wide_vit(), target, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_another_library_or_precision_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="computed by another library"):
        diptych.convert("hf:somebody/model", "onnx", tmp_path / "out")
    model = converted.wide_vit()
    model.clip.to(torch.bfloat16)
    with pytest.raises(ConfigError, match="load it in fp32"):
        diptych.convert(model, "onnx", tmp_path / "out")


def test_the_rounding_of_the_crop_is_said(tmp_path):
    """transformers cannot round as torchvision does, whatever its configuration says."""
    conversion = diptych.convert(converted.openai_vit(), "huggingface", tmp_path / "out")
    (note,) = conversion.check.notes
    assert "rounds half a pixel of the center crop down" in note
    assert diptych.convert(converted.floor_vit(), "huggingface", tmp_path / "other").check.notes == ()


def test_a_resnet_with_other_heads_is_refused_by_openai(tmp_path):
    pytest.importorskip("clip")
    with pytest.raises(ConfigError, match="image heads"):
        config = ResNetConfig(64, 16, (1, 2, 1, 1), heads=4)
        diptych.convert(remade(converted.openai_resnet(), vision=config), "openai", tmp_path / "out")
