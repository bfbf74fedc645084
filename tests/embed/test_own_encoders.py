"""Objects of one's own as encoders: whatever arrays they give, the numbers are right or the error names the model."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.embed.engine import PixelEncoder
from diptych.embed.wrapped_encoder import WrappedEncoder
from diptych.errors import InputError, ShapeError
from diptych.evalsets.user_sets import own_cards
from diptych.evaluate.suite import read_all, run_suite
from diptych.evaluate.tasks.registry import get_tasks
from diptych.evaluate.tasks.task import Setting

VECTORS = np.array([[0.6, 0.8], [1.0, 0.0]])


class Gives:
    """Gives the same for pictures and texts, whatever they are."""

    name = "mine"

    def __init__(self, found):
        self.found = found

    def encode_images(self, pictures):
        return self.found(len(pictures)) if callable(self.found) else self.found

    encode_texts = image_features = encode_images


@pytest.mark.parametrize(
    "found",
    [
        VECTORS,
        VECTORS.tolist(),
        torch.tensor(VECTORS, dtype=torch.float16),
        7 * VECTORS,
        VECTORS.astype(">f4"),
        VECTORS[:, ::-1][:, ::-1],
        list(torch.tensor(VECTORS)),
    ],
    ids=["array", "list", "half", "scaled", "big-endian", "strides", "list of tensors"],
)
def test_arrays_of_any_kind_become_float_tensors_of_unit_norm(found):
    encoder = WrappedEncoder(Gives(found))
    for method in (encoder.encode_images, encoder.encode_texts):
        given = method(["a", "b"])
        assert given.dtype == torch.float32 and np.allclose(given, VECTORS, atol=1e-3)
    features = encoder.image_features(["a", "b"])
    assert np.allclose(features, VECTORS * float(features.norm(dim=1)[0]), atol=1e-2)  # of any norm


def test_vectors_of_another_norm_are_told_once(caplog):
    encoder = WrappedEncoder(Gives(0.01 * VECTORS))
    with caplog.at_level(logging.WARNING):
        encoder.encode_images(["a", "b"])
        encoder.encode_images(["a", "b"])
    (record,) = caplog.records
    assert "mine: encode_images gave vectors of norm 0.01" in record.message


@pytest.mark.parametrize(
    ("found", "error", "words"),
    [
        (VECTORS[:1], ShapeError, r"encode_images gave an array of shape \(1, 2\) for 2"),
        (VECTORS[0], ShapeError, r"shape \(2,\) for 2; it must be \(2, E\)"),
        (VECTORS[:, :0], ShapeError, r"shape \(2, 0\)"),
        (0 * VECTORS, InputError, "2 of 2 vectors that are zero"),
        ("vectors", InputError, "a str that is no array of numbers"),
        (VECTORS * 1j, InputError, "no array of numbers: it is a ndarray of complex128"),
        (np.ma.masked_array(VECTORS, mask=VECTORS > 0.9), InputError, "MaskedArray"),
        (torch.tensor(VECTORS).to_sparse(), InputError, "sparse"),
        ([[1.0, 2.0], [1.0]], InputError, "no array of numbers"),
        (lambda number: 1 / 0, InputError, r"ZeroDivisionError: division by zero \(.*test_own_encoders.py, line"),
    ],
)
def test_what_is_no_embedding_is_an_error_that_names_the_model(found, error, words):
    with pytest.raises(error, match=f"mine: .*{words}|mine: encode_images gave {words}"):
        WrappedEncoder(Gives(found)).encode_images(["a", "b"])


def test_what_an_object_has_is_had_and_what_it_lacks_is_not():
    class Blind:
        fingerprint = "one"
        name = 5

        def encode_images(self, pictures):
            return VECTORS

    encoder = WrappedEncoder(Blind())
    assert encoder.fingerprint == "one" and encoder.name == "5" and not isinstance(encoder, PixelEncoder)
    assert not any(hasattr(encoder, name) for name in ("encode_texts", "image_features", "image_fingerprint"))
    assert WrappedEncoder(encoder.own).token == encoder.token != WrappedEncoder(Blind()).token
    with pytest.raises(InputError, match="without encode_images"):
        WrappedEncoder(object(), "thing")


@pytest.mark.parametrize("scale", [None, "abc", -1.0, 0.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused_at_once(scale):
    own = Gives(VECTORS)
    assert WrappedEncoder(own) and not hasattr(WrappedEncoder(own), "logit_scale")
    own.logit_scale = torch.tensor(7.5)
    assert WrappedEncoder(own).logit_scale == 7.5
    own.logit_scale = scale
    with pytest.raises(InputError, match="mine: its logit_scale is"):
        WrappedEncoder(own)


@pytest.fixture
def setting(tmp_path):
    for split in ("train", "test"):
        for name, shade in (("dark", 30), ("light", 210)):
            folder = tmp_path / "sets" / "shades" / split / name
            folder.mkdir(parents=True)
            for number in range(6):
                Image.new("RGB", (8, 8), (shade + number,) * 3).save(folder / f"{number}.png")
    return Setting(tmp_path / "sets", cache=tmp_path / "cache")


def test_another_object_of_the_same_name_does_not_stand_beside_the_first(setting, tmp_path):
    """Neither has a fingerprint: the second may be the first one, changed."""
    cards = own_cards(setting.data)

    def run(encoder, task):
        run_suite(encoder, get_tasks([task]), cards, setting, tmp_path / "out")
        return {one.task for one in read_all(tmp_path / "out")}

    def shades(number):
        return np.stack([np.linspace(1, 2, number), np.linspace(2, 1, number)], axis=1)

    first = Gives(shades)
    assert run(first, "zero_shot") == {"zero_shot"}
    assert run(first, "linear_probe") == {"zero_shot", "linear_probe"}  # the same object
    assert run(Gives(shades), "linear_probe") == {"linear_probe"}


def test_an_error_in_somebody_s_code_leaves_out_one_measurement(setting, tmp_path):
    class Fails(Gives):
        def encode_texts(self, texts):
            raise RuntimeError("no words")

    found = run_suite(
        Fails(lambda number: np.eye(number, 3) + 0.1),
        get_tasks(["zero_shot", "linear_probe"]),
        own_cards(setting.data),
        setting,
        tmp_path / "out",
    )
    assert {one.task for one in found.results} == {"linear_probe"}
    (skipped,) = found.skipped
    assert skipped.task == "zero_shot" and "mine: encode_texts" in skipped.reason and "no words" in skipped.reason
