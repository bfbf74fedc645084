"""What an encoder says of itself: its capabilities, its identity, and the logit scale that probabilities need."""

import copy
import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diptych
from diptych import ZeroShotClassifier
from diptych.embed import model as model_module
from diptych.embed.about import About, about, ranking_scale, required_logit_scale
from diptych.embed.wrapped_encoder import WrappedEncoder
from diptych.errors import InputError


@pytest.fixture(scope="module")
def default():
    return diptych.load("default", "cpu")


@pytest.fixture
def model(default):
    return model_module.Model(copy.deepcopy(default.clip), default.tokenizer, default.preprocessing, "copy")


@pytest.fixture
def hashes(monkeypatch):
    """Counts the digests of weights that are computed."""
    computed = []
    digest = model_module._digest

    def counting(words, weights):
        computed.append(sum(tensor.numel() for tensor in weights.values()))
        return digest(words, weights)

    monkeypatch.setattr(model_module, "_digest", counting)
    return computed


def test_a_model_says_all_of_itself(model):
    told = model.about
    assert told.has_texts and told.has_features and told.projects_features and told.takes_pixels
    assert told.logit_scale == model.logit_scale == pytest.approx(model.clip.logit_scale.exp().item())
    assert (told.image_fingerprint, told.text_fingerprint) == (model.image_fingerprint, model.fingerprint)
    assert told.gflops == model.gflops and told.precision == "fp32" and told.device == torch.device("cpu")
    assert told.tokenizer is model.tokenizer and about(model) == told


def test_weights_are_hashed_once_while_they_stay_the_same(model, hashes):
    for _ in range(5):
        assert model.about.image_fingerprint and model.fingerprint and model.image_fingerprint
        assert about(model).text_fingerprint
    assert len(hashes) == 2  # the image tower and the rest
    assert sum(hashes) == sum(tensor.numel() for tensor in model.clip.state_dict().values())


EDITS = {
    "in place": lambda weight: weight.mul_(1.01),
    "one number": lambda weight: weight[(0,) * weight.ndim].add_(0.5),
    "past the version counter": lambda weight: weight.data.mul_(1.01),
    "by NumPy": lambda weight: np.multiply(weight.numpy(), 1.01, out=weight.numpy()),
    "other storage": lambda weight: setattr(weight, "data", weight.data * 1.01),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@pytest.mark.parametrize("side", ["visual.", ""])
def test_any_edit_of_a_weight_changes_the_fingerprint_of_its_side(model, edit, side):
    before = model.about
    name, weight = next(
        (name, one) for name, one in model.clip.named_parameters() if name.startswith("visual.") == bool(side)
    )
    weight.requires_grad_(False)
    edit(weight)
    after = model.about
    changed = (before.image_fingerprint != after.image_fingerprint, before.text_fingerprint != after.text_fingerprint)
    assert changed == (bool(side), not side), name
    fresh = model_module.Model(copy.deepcopy(model.clip), model.tokenizer, model.preprocessing).about
    assert (fresh.image_fingerprint, fresh.text_fingerprint) == (after.image_fingerprint, after.text_fingerprint)


def test_the_fingerprint_is_the_one_that_caches_of_before_were_kept_under(model):
    """The digest of words and weights, by hand: a cache kept by an earlier version is found again."""
    digest = hashlib.sha256(f"{model.preprocessing} {model.clip.config}".encode())
    for name, tensor in model.clip.visual.state_dict().items():
        digest.update(name.encode() + str(tensor.dtype).encode() + tensor.contiguous().numpy().tobytes())
    assert model.image_fingerprint == digest.hexdigest()


def test_a_model_without_a_tokenizer_says_why_it_has_no_texts(default):
    silent = model_module.Model(default.clip, None, default.preprocessing, "silent")
    assert not silent.about.has_texts and "tokenizer.json" in silent.about.no_texts
    assert silent.about.text_fingerprint is None and silent.about.image_fingerprint == default.image_fingerprint
    with pytest.raises(diptych.errors.WeightsError, match="silent came without a tokenizer"):
        silent.encode_texts(["cat"])


class Images:
    """A user's object: images alone."""

    name = "shades"

    def encode_images(self, images):
        return torch.ones(len(images), 2) / 2**0.5


class Texts(Images):
    def encode_texts(self, texts):
        return torch.eye(2)[[len(text) % 2 for text in texts]]


class Scaled(Texts):
    logit_scale = 3.0


def test_an_object_tells_by_its_methods():
    class Features(Images):
        def image_features(self, images): ...

    class Pixels(Images):
        preprocessing = None

        def encode_pixels(self, images): ...

        def pixel_features(self, images): ...

    class Mixed(Pixels):
        """Takes pixels, but gives features of images alone, which nobody would ask it for."""

        pixel_features = None

        def image_features(self, images): ...

    kinds = [about(one()).probe_vectors for one in (Images, Features, Pixels, Mixed)]
    assert kinds == ["embeddings", "features", "features", "embeddings"]
    assert about(WrappedEncoder(Features())).has_features and not about(WrappedEncoder(Images())).has_features
    assert about(Images()).no_texts and about(Texts()).no_texts is None


def test_an_object_may_state_its_own_record():
    class Stated(Texts):
        about = About(logit_scale=5.0, image_fingerprint="a", text_fingerprint="b")

    assert about(Stated()) is Stated.about and WrappedEncoder(Stated()).about is Stated.about


def test_an_unknown_logit_scale_is_an_error_only_where_probabilities_are_asked_for():
    assert (about(Texts()).logit_scale, ranking_scale(Texts()), ranking_scale(Scaled())) == (None, 1.0, 3.0)
    assert required_logit_scale(Scaled()) == 3.0
    with pytest.raises(InputError, match="shades states no logit_scale"):
        required_logit_scale(Texts())


def test_a_classifier_without_a_scale_names_classes_and_gives_no_probabilities():
    images = [Image.new("RGB", (8, 8))] * 3
    unknown, known = (ZeroShotClassifier(one(), ["cat", "bird"], ["{c}"]) for one in (Texts, Scaled))
    assert unknown.logit_scale is None and unknown.predict(images).tolist() == known.predict(images).tolist()
    for call in (unknown.predict_proba, lambda some: unknown.scores_from_embeddings(torch.eye(2))):
        with pytest.raises(InputError, match="define logit_scale"):
            call(images)
    assert known.predict_proba(images).shape == (3, 2)


def test_no_other_module_asks_an_encoder_for_its_attributes():
    """What an encoder can do stands in `about`; the resolver alone looks whether an object is an encoder at all."""
    root = Path(diptych.__file__).parent
    asking = [path.name for path in root.rglob("*.py") if re.search(r"(has|get)attr\(encoder, ", path.read_text())]
    assert sorted(asking) == ["about.py", "resolver.py"]
