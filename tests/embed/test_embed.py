"""Models in use: what goes in and out, precision and device."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from embedding import TEXT, TEXTS, VIT, make_pictures, make_resnet, make_vit, small_tokenizer
from model_tools import distance
from PIL import Image

from diptych.data.transforms import Preprocessing, evaluation_pixels, normalise
from diptych.embed import Encoder, Model, load
from diptych.errors import ConfigError, ImageError, ShapeError, TextError, WeightsError
from diptych.model.clip import CLIP


@pytest.fixture(params=[make_vit, make_resnet], ids=["vit", "resnet"])
def model(request):
    return request.param()


@pytest.fixture
def vit():
    return make_vit()


@pytest.fixture(scope="module")
def pictures():
    return make_pictures()


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
    nothing = torch.zeros(0, 3, model.preprocessing.image_size, model.preprocessing.image_size, dtype=torch.uint8)
    assert model.encode_pixels(nothing).shape == (0, model.clip.config.embed_dim)
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
    with pytest.raises(ImageError, match="image 3: "):
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


def test_parts_that_do_not_belong_together():
    tokenizer = small_tokenizer()
    with pytest.raises(WeightsError, match="64 pixels, the network needs 48"):
        Model(CLIP(VIT), tokenizer, Preprocessing(64))
    small = dataclasses.replace(VIT, text=dataclasses.replace(TEXT, vocab_size=300))
    with pytest.raises(WeightsError, match="ids"):
        Model(CLIP(small), tokenizer, Preprocessing(48))
    short = dataclasses.replace(VIT, text=dataclasses.replace(TEXT, context_length=10))
    with pytest.raises(WeightsError, match="context"):
        Model(CLIP(short), tokenizer, Preprocessing(48))


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
