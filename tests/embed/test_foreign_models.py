"""Models of others: Hugging Face's and open_clip's folders, bare weight files, names without weights."""

import json
import logging

import peers  # noqa: F401
import pytest
import torch
from embedding import TEXTS, VIT, make_pictures, make_vit, small_tokenizer
from model_tools import distance
from PIL import Image

from diptych.data.transforms import Preprocessing, evaluation_pixels, normalise
from diptych.embed import Model, load
from diptych.embed.foreign_config import read_open_clip
from diptych.errors import ConfigError, WeightsError
from diptych.model.layouts import huggingface_config, to_huggingface
from diptych.model.weights import write_tensors


@pytest.fixture
def vit():
    return make_vit()


@pytest.fixture(scope="module")
def pictures():
    return make_pictures()


@pytest.fixture
def huggingface(vit, tmp_path):
    """A folder as transformers writes it, and the model that it holds."""
    transformers = pytest.importorskip("transformers")
    theirs = transformers.CLIPModel(transformers.CLIPConfig(**huggingface_config(VIT)))
    theirs.load_state_dict(to_huggingface(vit.clip.state_dict(), VIT))
    folder = tmp_path / "clip"
    theirs.save_pretrained(folder)
    return folder


def test_a_huggingface_folder(huggingface, vit, pictures):
    transformers = pytest.importorskip("transformers")
    size = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 2}
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 48}, crop_size=48, **size)
    processor.save_pretrained(huggingface)
    vit.tokenizer.save(huggingface / "tokenizer.json")
    loaded = load(huggingface)
    assert loaded.preprocessing == Preprocessing(48, (0.5,) * 3, (0.25,) * 3, "bilinear", "shortest_floor")
    expected = Model(vit.clip, vit.tokenizer, loaded.preprocessing)
    assert torch.equal(loaded.encode_images(pictures), expected.encode_images(pictures))
    assert torch.equal(loaded.encode_texts(TEXTS), vit.encode_texts(TEXTS))


@pytest.mark.parametrize(
    ("values", "resize"),
    [({"size": 48}, "shortest_floor"), ({"size": {"height": 48, "width": 48}}, "squash"), ({}, "shortest_floor")],
)
@pytest.mark.parametrize("combined", [False, True])
def test_forms_of_a_preprocessor_config(huggingface, values, resize, combined):
    if combined:
        (huggingface / "processor_config.json").write_text(json.dumps({"image_processor": values}))
    else:
        (huggingface / "preprocessor_config.json").write_text(json.dumps(values))
    assert load(huggingface).preprocessing == Preprocessing(48, resize=resize)


def test_a_huggingface_folder_of_weights_alone(huggingface, vit, pictures, caplog):
    with caplog.at_level(logging.WARNING, "diptych"):
        loaded = load(huggingface)
    assert "lacks preprocessor_config.json; taking CLIP's preprocessing" in caplog.text
    assert "lacks tokenizer.json" in caplog.text
    assert torch.equal(loaded.encode_images(pictures), vit.encode_images(pictures))
    with pytest.raises(WeightsError, match=r"tokenizer\.json"):
        loaded.encode_texts(TEXTS)


@pytest.mark.parametrize(
    "change",
    [
        {"do_center_crop": False},
        {"do_pad": True, "pad_size": {"height": 60, "width": 60}},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 48}},
        {"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 48, "width": 48}},
        {"image_processor_type": "ViTImageProcessor", "size": {"shortest_edge": 48}},
        {"image_processor_type": 3},
        {"size": {"longest_edge": 48}},
        {"crop_size": 32},
        {"size": {"shortest_edge": 64}},
        {"size": {"height": 48, "width": 64}},
        {"resample": 0},
        {"resample": [3]},
        {"rescale_factor": 1.0},
        {"rescale_factor": "a"},
        {"image_mean": 0.5},
        {"image_std": [0, 0, 0]},
    ],
)
def test_a_preprocessing_that_cannot_be_followed_is_refused(huggingface, change):
    (huggingface / "preprocessor_config.json").write_text(json.dumps(change))
    with pytest.raises(ConfigError, match="transformers prepares images so: give hf:"):
        load(huggingface)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"text_config": {"is_causal": False}}, "without a causal mask"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "quantized"),
    ],
)
def test_a_configuration_that_cannot_be_followed_is_refused(huggingface, change, says):
    """transformers reads both: without the mask its embeddings of texts were others, and nothing was said."""
    path = huggingface / "config.json"
    config = json.loads(path.read_text())
    for name, value in change.items():
        config[name] = {**config.get(name, {}), **value}
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=rf"{says}.*give hf:"):
        load(huggingface)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_models_of_transformers_compute_in_fp32(huggingface, pictures, kind):
    """Newer versions compute in the type that config.json names: many files are stored in half precision."""
    path = huggingface / "config.json"
    (huggingface / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 48}, "crop_size": 48}))
    ours = load(huggingface, "cpu")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": kind, "torch_dtype": kind}))
    theirs = load(f"hf:{huggingface}", "cpu")
    assert distance(ours.encode_images(pictures), theirs.encode_images(pictures)) <= 1e-5
    assert theirs.logit_scale == pytest.approx(ours.logit_scale, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ViT-B-33@openai", r"no architecture ViT-B-33; did you mean ViT-B-32"),
        ("vit-b-32@openai", r"no architecture vit-b-32; did you mean "),
        ("ViT-B-32@opnai", r"opnai is no file and none of its tags; did you mean openai"),
        ("ViT-B-32@zzz", r"zzz is no file and none of its tags; known are openai, .*, \.\.\."),
        ("ViT-e-14@openai", r"openai is no file and none of its tags; known are none"),
    ],
)
def test_names_of_open_clip_that_are_nearly_right(name, says, caplog):
    pytest.importorskip("open_clip")
    with pytest.raises(WeightsError, match=says):
        load(f"open_clip:{name}")
    assert not caplog.records  # the library's own words would say it twice


SQUARE = {"size": {"height": 48, "width": 48}}


@pytest.mark.parametrize(
    "values",
    [
        {"image_processor_type": "ViTImageProcessor", **SQUARE},
        {"feature_extractor_type": "ViTFeatureExtractor", "image_mean": [0.4] * 3, **SQUARE},
        {"image_processor_type": "SiglipImageProcessor", **SQUARE},
        {"image_processor_type": "CLIPImageProcessorFast", "do_center_crop": False, **SQUARE},
        {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 48}, "crop_size": 48},
        {"image_processor_type": "ChineseCLIPImageProcessor", "size": {"shortest_edge": 48}, "crop_size": 48},
    ],
    ids=lambda values: "".join(
        str(values.get(name, "")) for name in ("image_processor_type", "feature_extractor_type")
    ),
)
def test_other_image_processors_give_transformers_own_pixels(huggingface, pictures, values):
    """Each kind has defaults of its own for what its file does not state."""
    (huggingface / "preprocessor_config.json").write_text(json.dumps(values))
    ours, theirs = load(huggingface, "cpu"), load(f"hf:{huggingface}", "cpu")
    assert distance(ours.encode_images(pictures), theirs.encode_images(pictures)) <= 1e-5


def test_a_huggingface_folder_without_weights(huggingface):
    (huggingface / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"lacks model\.safetensors"):
        load(huggingface)


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_an_open_clip_folder_keeps_its_activation(pictures, tmp_path, quick_gelu):
    tokenizer = small_tokenizer()
    open_clip = pytest.importorskip("open_clip")
    model_cfg = {
        "embed_dim": 96,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": {"context_length": 24, "vocab_size": 700, "width": 128, "heads": 2, "layers": 2},
    }
    theirs = open_clip.CLIP(**model_cfg, quick_gelu=quick_gelu).eval()
    values = {
        "model_cfg": model_cfg | ({"quick_gelu": True} if quick_gelu else {}),
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(values))
    write_tensors(theirs.state_dict(), tmp_path / "open_clip_model.safetensors")
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = load(tmp_path)
    assert loaded.preprocessing == Preprocessing(64, (0.5,) * 3, (0.5,) * 3, "bicubic", "squash")
    with torch.no_grad():
        texts = theirs.encode_text(tokenizer(TEXTS, pad_to=24)[0], normalize=True)
        pixels = torch.stack([evaluation_pixels(Image.fromarray(p), loaded.preprocessing) for p in pictures])
        images = theirs.encode_image(normalise(pixels, loaded.preprocessing), normalize=True)
    assert distance(loaded.encode_texts(TEXTS), texts) < 1e-5
    assert distance(loaded.encode_images(pictures), images) < 1e-5
    values["model_cfg"]["init_logit_bias"] = -10
    assert read_open_clip(values)[0].logit_bias == -10
    values["model_cfg"]["text_cfg"]["hf_model_name"] = "roberta-base"
    (tmp_path / "open_clip_config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="hf_model_name"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "good"),
    [
        ("size", 64, True),
        ("size", [64, 64], True),
        ("size", 32, False),
        ("size", [64, 32], False),
        ("size", None, False),
        ("mode", "RGB", True),
        ("mode", "L", False),
    ],
)
def test_an_open_clip_preprocessing_that_cannot_be_followed_is_refused(field, value, good):
    model_cfg = {"embed_dim": 96, "vision_cfg": {"image_size": 64}, "text_cfg": {}}
    values = {"model_cfg": model_cfg, "preprocess_cfg": {field: value}}
    if good:
        assert read_open_clip(values)[1] == Preprocessing(64)
    else:
        with pytest.raises(ConfigError, match=rf"preprocess_cfg\.{field}"):
            read_open_clip(values)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_bare_weight_file(vit, pictures, tmp_path, caplog, suffix):
    path = tmp_path / f"weights{suffix}"
    weights = to_huggingface(vit.clip.state_dict(), VIT)
    write_tensors(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    vit.tokenizer.save(tmp_path / "tokenizer.json")
    with caplog.at_level(logging.WARNING, "diptych"):
        loaded = load(path)
    assert "quick_gelu as the activation" in caplog.text and "taking CLIP's" in caplog.text
    assert loaded.name == "weights"
    assert torch.equal(loaded.encode_images(pictures), vit.encode_images(pictures))
    assert torch.equal(loaded.encode_texts(TEXTS), vit.encode_texts(TEXTS))
    gelu = load(path, activation="gelu")
    assert gelu.clip.config.activation == "gelu"
    assert distance(gelu.encode_images(pictures), vit.encode_images(pictures)) > 1e-3


def test_a_folder_s_activation_cannot_be_overridden(vit, tmp_path):
    vit.save(tmp_path / "mine")
    with pytest.raises(ConfigError, match="names the activation"):
        load(tmp_path / "mine", activation="gelu")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ViT-B/32", "the network is off"),
        ("tiny-vit", "an architecture without published weights"),
        ("nowhere/x", "no model folder"),
    ],
)
def test_names_without_weights_here(name, reason, monkeypatch, tmp_path):
    monkeypatch.setenv("DIPTYCH_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=reason):
        load(name)


@pytest.mark.parametrize("ratio", [float("nan"), float("inf"), -4, 0, 1e300, "4", 1e-9])
def test_an_absurd_width_of_the_mlps_is_an_error(ratio):
    vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
    text = {"context_length": 16, "vocab_size": 600, "width": 64, "heads": 2, "layers": 2}

    def read(**changes):
        model = {"embed_dim": 32, "vision_cfg": vision | changes, "text_cfg": text}
        return read_open_clip({"model_cfg": model, "preprocess_cfg": {}})

    assert read(mlp_ratio=2.5)[0].vision.mlp_width == 160
    with pytest.raises(ConfigError, match=r"mlp_(width|ratio) must|has a value of the wrong type"):
        read(mlp_ratio=ratio)
