"""Models in use: what goes in and out, the folder that describes itself, foreign folders and files, bad input."""

import dataclasses
import io
import json
import logging
import subprocess
import sys

import numpy as np
import peers  # noqa: F401
import pytest
import torch
from model_tools import distance, random_clip
from PIL import Image

from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing, evaluation_pixels, normalise
from diptych.embed import Encoder, Model, load
from diptych.errors import ConfigError, ImageError, ShapeError, TextError, WeightsError
from diptych.model.clip import CLIP
from diptych.model.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.model.layouts import huggingface_config, to_huggingface
from diptych.model.weights import write_tensors

TEXT = TextConfig(context_length=24, vocab_size=700, width=128, layers=2)
VIT = CLIPConfig(64, ViTConfig(48, 16, width=128, layers=2), TEXT)
RESNET = CLIPConfig(96, ResNetConfig(64, 16, (1, 1, 1, 1)), TEXT, "gelu")
TEXTS = ["a photo of a cat", "two green dogs and a very long tail", "", "dogs"]
FILES = {"config.json", "model.safetensors", "tokenizer.json", "README.md"}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["a photo of a cat", "two green dogs", "a very long tail"] * 3, 600, context_length=24)


@pytest.fixture(params=["vit", "resnet"])
def model(request, tokenizer):
    """One with CLIP's own settings, one where activation and preprocessing differ from all defaults."""
    if request.param == "vit":
        return Model(random_clip(VIT), tokenizer, Preprocessing(48), "vit")
    odd = Preprocessing(64, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "bilinear", "squash")
    return Model(random_clip(RESNET), tokenizer, odd, "resnet")


@pytest.fixture
def vit(tokenizer):
    return Model(random_clip(VIT), tokenizer, Preprocessing(48), "vit")


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + 10 * i, 90, 3), dtype=np.uint8) for i in range(5)]


# ---- what goes in and out


def test_a_model_is_an_encoder(model, pictures):
    assert isinstance(model, Encoder)
    for embeddings, n in ((model.encode_images(pictures), 5), (model.encode_texts(TEXTS), 4)):
        assert embeddings.shape == (n, model.clip.config.embed_dim)
        assert embeddings.dtype == torch.float32 and embeddings.device.type == "cpu"
        assert torch.allclose(embeddings.norm(dim=1), torch.ones(n))
        assert not embeddings.is_inference() and not embeddings.requires_grad


def test_every_form_of_a_picture_gives_the_same(model, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (80, 70, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    encoded = io.BytesIO()
    picture.save(encoded, "png")
    picture.save(tmp_path / "picture.png")
    forms = [pixels, picture, encoded.getvalue(), tmp_path / "picture.png", str(tmp_path / "picture.png")]
    embeddings = torch.cat([model.encode_images([form]) for form in forms])
    assert all(torch.equal(row, embeddings[0]) for row in embeddings)


def test_embeddings_are_those_of_the_network(model, pictures):
    pixels = torch.stack([evaluation_pixels(Image.fromarray(p), model.preprocessing) for p in pictures])
    with torch.no_grad():
        images = normalise(pixels, model.preprocessing)
        expected = torch.nn.functional.normalize(model.clip.encode_image(images))
        features = model.clip.image_features(images)
        tokens, lengths = model.tokenizer(TEXTS)
        texts = torch.nn.functional.normalize(model.clip.encode_text(tokens, lengths))
    assert distance(model.encode_images(pictures), expected) < 1e-5
    assert distance(model.encode_pixels(pixels), expected) < 1e-5
    assert distance(model.image_features(pictures), features) < 1e-5
    assert distance(model.encode_texts(TEXTS), texts) < 1e-5


def test_batches_keep_the_order(model, pictures):
    assert distance(model.encode_images(pictures, batch_size=2), model.encode_images(pictures)) < 1e-5
    assert distance(model.encode_texts(TEXTS, batch_size=1), model.encode_texts(TEXTS)) < 1e-5
    assert distance(model.encode_texts(TEXTS[:1]), model.encode_texts(TEXTS)[:1]) < 1e-5


def test_nothing_gives_nothing(model):
    assert model.encode_images([]).shape == (0, model.clip.config.embed_dim)
    assert model.encode_texts([]).shape == (0, model.clip.config.embed_dim)
    assert model.image_features([]).shape == (0, model.clip.config.vision.features_dim)


def test_a_network_in_training_is_measured_in_evaluation_mode(model, pictures):
    expected = model.encode_images(pictures)
    before = {name: buffer.clone() for name, buffer in model.clip.named_buffers()}
    model.clip.train()
    assert torch.equal(model.encode_images(pictures), expected)
    assert model.clip.training and all(module.training for module in model.clip.modules())
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.clip.named_buffers())


def test_bad_pictures(vit, pictures):
    with pytest.raises(ImageError, match="picture 3: "):
        vit.encode_images([*pictures[:3], b"no picture"], batch_size=2)
    for single in ("a.jpg", b"bytes", pictures[0], Image.fromarray(pictures[0])):
        with pytest.raises(ImageError, match="give a list"):
            vit.encode_images(single)
    with pytest.raises(ShapeError, match="uint8"):
        vit.encode_pixels(torch.zeros(1, 3, 48, 48))
    with pytest.raises(ShapeError, match="48"):
        vit.encode_pixels(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


def test_long_texts(vit):
    long = "a photo of a cat and " * 20
    with pytest.raises(TextError):
        vit.encode_texts(["dogs", long])
    assert vit.encode_texts([long], truncate=True).shape == (1, 64)


def test_parts_that_do_not_belong_together(tokenizer):
    with pytest.raises(WeightsError, match="64 pixels, the network needs 48"):
        Model(CLIP(VIT), tokenizer, Preprocessing(64))
    small = dataclasses.replace(VIT, text=dataclasses.replace(TEXT, vocab_size=300))
    with pytest.raises(WeightsError, match="ids"):
        Model(CLIP(small), tokenizer, Preprocessing(48))
    short = dataclasses.replace(VIT, text=dataclasses.replace(TEXT, context_length=10))
    with pytest.raises(WeightsError, match="context"):
        Model(CLIP(short), tokenizer, Preprocessing(48))


# ---- the folder that describes itself


def test_saved_and_reloaded_gives_identical_bits(model, pictures, tmp_path):
    images, texts = model.encode_images(pictures), model.encode_texts(TEXTS)
    model.save(tmp_path / "mine")
    loaded = load(tmp_path / "mine")
    assert torch.equal(loaded.encode_images(pictures), images)
    assert torch.equal(loaded.encode_texts(TEXTS), texts)
    assert loaded.clip.config == model.clip.config and loaded.preprocessing == model.preprocessing
    assert loaded.logit_scale == model.logit_scale and loaded.name == "mine" and not loaded.clip.training
    assert {path.name for path in (tmp_path / "mine").iterdir()} == FILES
    assert f"{model.clip.config.num_parameters():,}" in (tmp_path / "mine" / "README.md").read_text()


def test_a_network_straight_from_training_too(model, pictures, tmp_path):
    """Gradients, another memory format and a view among the weights change nothing."""
    model.clip.train()
    images = torch.randn(2, 3, model.preprocessing.image_size, model.preprocessing.image_size)
    model.clip.encode_image(images).sum().backward()
    model.save(tmp_path / "mine")
    assert torch.equal(load(tmp_path / "mine").encode_images(pictures), model.encode_images(pictures))


def test_saving_replaces_a_model_and_nothing_else(model, tmp_path):
    model.save(tmp_path / "mine")
    with torch.no_grad():
        model.clip.logit_scale.fill_(1.0)
    model.save(tmp_path / "mine")
    assert load(tmp_path / "mine").logit_scale == pytest.approx(np.e)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(WeightsError, match=r"thesis\.tex"):
        model.save(tmp_path / "mine")
    with pytest.raises(WeightsError, match="is a file"):
        model.save(tmp_path / "mine" / "thesis.tex")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_a_full_disk_leaves_the_old_model(vit, tmp_path):
    vit.save(tmp_path / "mine")
    code = (  # a limit on the size of files behaves like a full disk
        "import resource, signal, sys; from diptych.embed import load; model = load(sys.argv[1]);"
        "model.clip.logit_scale.data.fill_(0); signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); model.save(sys.argv[1])"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "mine"], capture_output=True, text=True, check=False)
    assert run.returncode and "WeightsError" in run.stderr and "cannot be written" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert load(tmp_path / "mine").logit_scale == vit.logit_scale


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(vit, tmp_path, name):
    vit.save(tmp_path / "mine")
    (tmp_path / "mine" / name).unlink()
    with pytest.raises(WeightsError, match=f"mine.* lacks {name}"):
        load(tmp_path / "mine")


def test_a_model_without_a_tokenizer_can_be_saved(vit, pictures, tmp_path):
    Model(vit.clip, None, vit.preprocessing).save(tmp_path / "mine")
    loaded = load(tmp_path / "mine")
    assert torch.equal(loaded.encode_images(pictures), vit.encode_images(pictures))
    with pytest.raises(WeightsError, match=r"tokenizer\.json"):
        loaded.encode_texts(TEXTS)


def test_a_run_s_folder_points_to_its_model(vit, tmp_path):
    vit.save(tmp_path / "run" / "model")
    (tmp_path / "run" / "config.json").write_text('{"data": []}')
    with pytest.raises(WeightsError, match=r"keeps its model in .*model"):
        load(tmp_path / "run")
    assert load(tmp_path / "run" / "model").name == "run"


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ("no json", WeightsError, "is no JSON"),
        ("[" * 100_000, WeightsError, "is no JSON"),
        ("[]", WeightsError, "must hold a JSON object"),
        ("{}", WeightsError, "describes no CLIP"),
        (" " * 2_000_000, WeightsError, "too many"),
        ({"format_version": 2}, WeightsError, "format version 2"),
        ({"format_version": []}, WeightsError, "format version"),
        ({"model": None}, ConfigError, "model must be an object"),
        ({"model": {"colour": 1}}, ConfigError, "unknown fields: colour"),
        ({"preprocessing": 7}, ConfigError, "preprocessing must be an object"),
        ({"preprocessing": {"image_size": 10**9}}, ConfigError, "image_size"),
        ({"preprocessing": {"image_size": 64}}, WeightsError, "64 pixels"),
        ("terabytes", ConfigError, "above the limit"),
        ("another size", WeightsError, "of the wrong shape"),
    ],
)
def test_a_bad_config_is_refused(vit, tmp_path, change, error, reason):
    vit.save(tmp_path / "mine")
    path = tmp_path / "mine" / "config.json"
    values = json.loads(path.read_text())
    if change == "terabytes":
        values["model"]["text"] |= {"width": 65_536, "layers": 1000, "heads": 64}
    elif change == "another size":
        values["model"]["embed_dim"] = 65
    elif isinstance(change, dict):
        values |= change
    else:
        values = None
    path.write_text(change if values is None else json.dumps(values))
    with pytest.raises(error, match=reason):
        load(tmp_path / "mine")


def test_wrong_weights_are_listed(model, tmp_path):
    model.save(tmp_path / "mine")
    weights = {name: tensor for name, tensor in model.clip.state_dict().items() if name != "ln_final.bias"}
    write_tensors(weights | {"more": torch.zeros(1)}, tmp_path / "mine" / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 missing: ln_final\.bias; 1 extra: more"):
        load(tmp_path / "mine")


# ---- precision and device


def test_precision(model, pictures, tmp_path):
    model.save(tmp_path / "mine")
    exact = load(tmp_path / "mine", device="cpu", precision="fp32")
    half = load(tmp_path / "mine", device="cpu", precision="bf16")
    assert half.clip.text_projection.dtype == torch.bfloat16
    assert half.logit_scale == exact.logit_scale
    for encode, inputs in (("encode_images", pictures), ("encode_texts", TEXTS)):
        cosines = (getattr(half, encode)(inputs) * getattr(exact, encode)(inputs)).sum(dim=1)
        assert cosines.min() > 0.999 and not torch.equal(cosines, torch.ones_like(cosines))
    automatic = load(tmp_path / "mine", device="cpu", precision="auto").encode_images(pictures)
    assert any(torch.equal(automatic, other.encode_images(pictures)) for other in (exact, half))


def test_unknown_precision_and_device(vit, tmp_path):
    vit.save(tmp_path / "mine")
    with pytest.raises(ConfigError, match="int8 is not available yet"):
        load(tmp_path / "mine", precision="int8")
    with pytest.raises(ConfigError, match="fp16"):
        load(tmp_path / "mine", precision="fp16")
    with pytest.raises(ConfigError, match="abacus"):
        load(tmp_path / "mine", device="abacus")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu(model, pictures, tmp_path):
    model.save(tmp_path / "mine")
    exact = load(tmp_path / "mine", device="cpu")
    for precision, limit in (("fp32", 1e-2), ("bf16", 0.1)):
        there = load(tmp_path / "mine", device="cuda", precision=precision)
        assert there.device.type == "cuda"
        assert distance(there.encode_images(pictures), exact.encode_images(pictures)) < limit
        assert distance(there.encode_texts(TEXTS), exact.encode_texts(TEXTS)) < limit


# ---- foreign folders and files


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
    assert loaded.preprocessing == Preprocessing(48, (0.5,) * 3, (0.25,) * 3, "bilinear")
    expected = Model(vit.clip, vit.tokenizer, loaded.preprocessing)
    assert torch.equal(loaded.encode_images(pictures), expected.encode_images(pictures))
    assert torch.equal(loaded.encode_texts(TEXTS), vit.encode_texts(TEXTS))


@pytest.mark.parametrize(
    ("values", "resize"),
    [({"size": 48}, "shortest"), ({"size": {"height": 48, "width": 48}}, "squash"), ({}, "shortest")],
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
    with pytest.raises(ConfigError):
        load(huggingface)


def test_a_huggingface_folder_without_weights(huggingface):
    (huggingface / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"lacks model\.safetensors"):
        load(huggingface)


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_an_open_clip_folder_keeps_its_activation(tokenizer, pictures, tmp_path, quick_gelu):
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
    values["model_cfg"]["text_cfg"]["hf_model_name"] = "roberta-base"
    (tmp_path / "open_clip_config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match="hf_model_name"):
        load(tmp_path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_bare_weight_file(vit, pictures, tmp_path, caplog, suffix):
    path = tmp_path / f"weights{suffix}"
    weights = to_huggingface(vit.clip.state_dict(), VIT)
    write_tensors(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    vit.tokenizer.save(tmp_path / "tokenizer.json")
    with caplog.at_level(logging.WARNING, "diptych"):
        loaded = load(path)
    assert "taking quick_gelu" in caplog.text and "taking CLIP's" in caplog.text
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


@pytest.mark.parametrize(("name", "reason"), [("ViT-B/32", "does not download"), ("nowhere/x", "no model folder")])
def test_names_without_weights_here(name, reason):
    with pytest.raises(WeightsError, match=reason):
        load(name)


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(WeightsError, match=r"lacks config\.json"):
        load(tmp_path)
