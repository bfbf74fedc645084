"""Where few-shot classifiers begin: the encoder's scale, its features, the classes that have examples, kept files."""

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
from listed_sets import Nothing
from test_few_shot_task import Colours, encoded, measure, write_set

from diptych.data.transforms import Preprocessing
from diptych.errors import InputError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.cards import get_card
from diptych.evalsets.prompts import get_prompts
from diptych.evaluate.probe import few_shot_task
from diptych.evaluate.probe.few_shot_task import FEW_SHOT, FEW_SHOT_FROM_TEXTS, Pool, few_shot_results, point
from diptych.evaluate.tasks.task import Setting


@pytest.fixture
def small(tmp_path):
    write_set(tmp_path / "data", {"train": 3, "test": 2})
    return tmp_path / "data"


def test_an_encoder_without_a_scale_has_no_zero_shot_classifier_to_begin_at(small, monkeypatch):
    monkeypatch.delattr(Colours, "logit_scale")
    with pytest.raises(InputError, match="states no logit_scale"):
        FEW_SHOT_FROM_TEXTS.measure(Colours(), get_card("CIFAR10"), Setting(small))


@pytest.mark.parametrize("scale", [30.0, 5.0])
def test_the_classifiers_begin_at_class_embeddings_times_the_encoder_s_scale(small, tmp_path, monkeypatch, scale):
    pools = []
    monkeypatch.setattr(few_shot_task, "Pool", lambda *most, **rest: pools.append((most, rest)) or Pool(*most, **rest))
    encoder = Colours()
    encoder.logit_scale = scale
    FEW_SHOT_FROM_TEXTS.measure(encoder, get_card("CIFAR10"), Setting(small))
    [(given, others)] = pools
    names = [several[0] for several in get_prompts("CIFAR10").class_names]
    directions = encoder.encode_texts(names).numpy()
    np.testing.assert_allclose(given[2], directions * scale, rtol=1e-5)
    assert others["splits"] == "train" and others["deviations"] == ("learned from 30 images, the paper from 50,000",)


def test_features_of_pixels_are_features_too(small, tmp_path):
    class Pixels(Colours):
        preprocessing = Preprocessing(image_size=8)

        def encode_pixels(self, images):
            return self._points(list(images.float().mean(dim=(2, 3)).numpy()))

        def pixel_features(self, images):
            return torch.cat([7 * self.encode_pixels(images), torch.ones(len(images), 1)], dim=1)

    found = FEW_SHOT.measure(Pixels(), get_card("CIFAR10"), Setting(small))
    assert found[0].run["settings"]["width"] == 5
    assert found[0].run["settings"]["drawn_from"] == "train"


def test_examples_per_class_are_counted_over_the_classes_that_have_some():
    train = encoded(np.repeat([0, 2, 3], 4), 1)  # class 1 has none
    benchmark = Benchmark("some", "test", ("a", "b", "c", "d"), ("{c}",), Nothing(), "x")
    found = few_shot_results(Colours(), Pool(train, 4), benchmark, encoded(np.array([0, 2, 3]), 2), ["probe"])
    assert {one.run["settings"]["examples_per_class"] for one in found} == {4.0}


def test_one_score_that_is_no_number_is_an_error():
    scores = np.eye(3)
    for place in ((0, 0), (2, 1)):
        wrong = scores.copy()
        wrong[place] = np.nan
        with pytest.raises(InputError, match="NaN"):
            point("accuracy", np.arange(3), wrong)


@pytest.mark.parametrize(
    ("weights", "bias"), [((10,), (10,)), ((10, 4, 1), (10,)), ((10, 4), (9,)), ((10, 4), (10, 1))]
)
def test_a_kept_classifier_of_other_shapes_is_learned_again(small, tmp_path, caplog, weights, bias):
    first = measure(small, tmp_path, Colours(), FEW_SHOT)
    for path in (tmp_path / "cache" / "few_shot").iterdir():
        with safetensors.safe_open(path, "numpy") as file:
            about = file.metadata()
        safetensors.numpy.save_file({"weights": np.zeros(weights), "bias": np.zeros(bias)}, path, metadata=about)
    again = FEW_SHOT.measure(Colours(), get_card("CIFAR10"), Setting(small, cache=tmp_path / "cache"))
    assert [one.value for one in again] == [one.value for one in first.results]
    assert "is broken" in caplog.text
