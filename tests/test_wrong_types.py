"""Arguments of another type: one error of Diptych's that says what was given and what is wanted."""

from pathlib import Path

import numpy as np
import pytest
import torch

import diptych
from diptych.embed import load_model
from diptych.errors import ConfigError, DataError, InputError, ShapeError, WeightsError
from diptych.files import shown
from diptych.train.config import TrainConfig

BLACK = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    return diptych.load("default", "cpu")


@pytest.mark.parametrize("load", [diptych.load, load_model])
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (None, "by a text or a Path, such as 'default', not by None"),
        (5, r"not by 5 \(int\)"),
        (b"default", r"not by b'default' \(bytes\)"),
        (["default"], "not by a list"),
        ("", "the name of the model is empty"),
    ],
)
def test_the_name_of_a_model(load, name, problem):
    with pytest.raises(InputError, match=problem):
        load(name)


def test_a_loaded_model_is_no_name(model):
    with pytest.raises(InputError, match="not by a Model"):
        diptych.load(model)


@pytest.mark.parametrize("device", [3.5, [], object, True])
def test_a_device(device):
    """torch says all forms that its own arguments have, over many lines."""
    with pytest.raises(ConfigError, match=r"a device must be a string such as auto, cpu or cuda:0, not"):
        diptych.load("default", device)


@pytest.mark.parametrize("wrong", [None, 5, torch.nn.Linear(1, 1)])
def test_the_model_of_a_classifier(wrong):
    with pytest.raises(
        InputError, match=r"needs a model with encode_images and encode_texts, as diptych.load gives it, or its name"
    ):
        diptych.ZeroShotClassifier(wrong, ["cat", "dog"])


def test_the_name_of_a_classifier_s_model():
    with pytest.raises(WeightsError, match="defualt"):
        diptych.ZeroShotClassifier("defualt", ["cat", "dog"])


@pytest.mark.parametrize("wrong", [None, 5, str.upper])
def test_the_texts_of_a_classifier(model, wrong):
    with pytest.raises(InputError, match="give a list of texts, each a class name, not"):
        diptych.ZeroShotClassifier(model, wrong)
    with pytest.raises(InputError, match="give a list of texts, each a template, not"):
        diptych.ZeroShotClassifier(model, ["cat", "dog"], wrong)


def test_what_a_classifier_is_asked(model):
    classifier = diptych.ZeroShotClassifier(model, ["cat", "dog"])
    for wrong in (None, "cat", 1):
        with pytest.raises(ShapeError, match="labels must be a list, one for each image"):
            classifier.score([BLACK], wrong)
    for wrong in (None, "cat"):
        with pytest.raises(ShapeError, match="embeddings are an array of numbers, not"):
            classifier.scores_from_embeddings(wrong)
    with pytest.raises(InputError, match=r"a file or folder is named by a str or a Path, not by 5 \(int\)"):
        diptych.ZeroShotClassifier(model, ["cat", "dog"], cache_folder=5)


def test_the_folder_of_the_class_embeddings_may_begin_with_the_home_folder(model, tmp_path, monkeypatch):
    """As every other path; a folder called ~ was made."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    diptych.ZeroShotClassifier(model, ["cat", "dog"], cache_folder="~/kept")
    assert not (tmp_path / "~").exists() and len(list((tmp_path / "home" / "kept").iterdir())) == 1


@pytest.mark.parametrize("size", [0, -1, None, "8", 1.5, True])
def test_the_size_of_a_batch(model, size):
    """With 0 pictures a batch, encode_images gave no rows at all and no error."""
    with pytest.raises(ConfigError, match="batch_size must be a whole number, at least 1, not"):
        model.encode_images([BLACK], size)
    with pytest.raises(ConfigError, match="batch_size must be a whole number, at least 1, not"):
        model.encode_texts(["a"], batch_size=size)
    with pytest.raises(ConfigError, match="batch_size must be a whole number, at least 1, not"):
        model.encode_pixels(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), size)


def test_a_size_of_numpy_s_is_a_number(model):
    assert model.encode_images([BLACK] * 3, np.int64(2)).shape[0] == 3


def test_pixels_and_the_parts_of_a_model(model):
    with pytest.raises(ShapeError, match="encode_pixels takes uint8 pixels in a tensor, not None"):
        model.encode_pixels(None)
    with pytest.raises(WeightsError, match=r"made of a network of diptych.model, not of None"):
        diptych.Model(None, model.tokenizer, model.preprocessing)
    with pytest.raises(WeightsError, match="needs a Preprocessing and a Tokenizer or None, not None"):
        diptych.Model(model.clip, model.tokenizer, None)
    with pytest.raises(WeightsError, match=r"needs a Preprocessing and a Tokenizer or None, not 5 \(int\)"):
        diptych.Model(model.clip, 5, model.preprocessing)


def test_where_a_model_is_saved(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for wrong in (None, 5):
        with pytest.raises(InputError, match="a file or folder is named by a str or a Path, not by"):
            model.save(wrong)
    for wrong in ("", ".", "/"):
        with pytest.raises(WeightsError, match="a model is saved in a folder with a name of its own"):
            model.save(wrong)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [None, 5, "run", {}, diptych.recipes.tiny_vit])
def test_what_fit_takes(wrong):
    with pytest.raises(
        ConfigError, match=r"fit takes a TrainConfig, as the functions in diptych.recipes return it, not"
    ):
        diptych.fit(wrong)


@pytest.fixture
def config(model, tmp_path):
    return dict(
        model=model.clip.config,
        data=("a",),
        out=str(tmp_path / "run"),
        num_pairs=10**6,
        preprocessing=model.preprocessing,
    )


def test_what_fit_takes_beside_the_configuration(config):
    run = TrainConfig(**config)
    for wrong in (5, print):
        with pytest.raises(ConfigError, match="fit takes a list of evaluators, not"):
            diptych.fit(run, wrong)
    with pytest.raises(ConfigError, match=r"an evaluator must be callable with the model, and 5 \(int\) is"):
        diptych.fit(run, [5])
    with pytest.raises(ConfigError, match=r"pairs must be a Source, as diptych.open_source returns.*, not 5 \(int\)"):
        diptych.fit(run, pairs=5)
    assert not Path(config["out"]).exists()


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("model", None, "model must be a CLIPConfig, not None"),
        ("preprocessing", "default", r"preprocessing must be a Preprocessing, not 'default' \(str\)"),
        ("loader", 5, r"loader must be a LoaderConfig, not 5 \(int\)"),
        ("num_pairs", "many", r"num_pairs must be a number, not 'many' \(str\)"),
        ("minutes", "5", r"minutes must be a number, not '5' \(str\)"),
    ],
)
def test_the_parts_of_a_configuration(config, field, value, problem):
    with pytest.raises(ConfigError, match=problem):
        TrainConfig(**config | {field: value})


def test_data():
    for wrong in (None, 5, b"x", object):
        with pytest.raises(DataError, match="training data is named by a str or a Path, or by several, not by"):
            diptych.open_source(wrong)
        with pytest.raises(InputError, match="a file or folder is named by a str or a Path, not by"):
            diptych.open_benchmark(wrong)
    with pytest.raises(DataError, match="training data is named by strs or Paths, not by None"):
        diptych.open_source([None])
    for wrong in ("", [""]):
        with pytest.raises(DataError, match="a path is empty"):
            diptych.open_source(wrong)
    with pytest.raises(DataError, match="there is no folder '' to evaluate on"):
        diptych.open_benchmark("")
    with pytest.raises(DataError, match=r"the split must be a string, such as test, not 5 \(int\)"):
        diptych.open_benchmark(Path(), 5)


def test_how_a_value_is_shown():
    assert shown(None) == "None" and shown(int) == "<class 'int'>" and shown(1.5) == "1.5 (float)"
    assert shown({}) == "a dict" and shown(OSError()) == "an OSError" and len(shown("a" * 1000)) < 80
