"""Zero-shot classification by models that predict captions: hand-made scores, real networks, real sets."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from predictive_models import DECODER, WORDS, made
from ranks import run_ranks
from training import MODEL

from diptych.data.playground import Playground
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed import Model
from diptych.errors import ConfigError, TextError
from diptych.evalsets.playground_tasks import playground_tasks
from diptych.evaluate import PredictiveZeroShot
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.evaluate.zero_shot.predictive import class_scores
from diptych.model.clip import CLIP


@pytest.fixture(scope="module")
def tokenizer():
    captions = [text for sample in Playground(200, size=32).read(0) for text in sample.texts]
    return Tokenizer.train(captions, vocab_size=560, context_length=32)


@pytest.fixture(scope="module")
def tasks():
    return {task.name: task for task in playground_tasks(size=32, num_samples=60)}


def model_of(config, tokenizer):
    return Model(made(config), tokenizer, Preprocessing(32), name="figure 2")


def test_a_class_of_the_decoder_is_as_likely_as_any_one_of_its_prompts(tokenizer):
    model = model_of(DECODER, tokenizer)
    points = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    names, templates = ("circle", "big star"), ("a {c}.", "the {c} here", "{c}")
    scores = class_scores(model, points, names, templates)
    for column, name in enumerate(names):
        prompts = [template.replace("{c}", name) for template in templates]
        likelihoods = model.clip.text_scores(points, *tokenizer(prompts)).double().exp()
        assert torch.allclose(scores[:, column].double().exp(), likelihoods.mean(dim=1), rtol=1e-3, atol=0)


def test_a_bag_of_words_scores_the_words_of_the_class_name_alone(tokenizer, tasks):
    model = model_of(WORDS, tokenizer)
    plain = PredictiveZeroShot(tasks["shape"], protocols=("single", "ensemble"))
    other = PredictiveZeroShot(dataclasses.replace(tasks["shape"], templates=("an image showing a {c}",)))
    labels, best = plain.predict(model)
    assert np.array_equal(best["single"], best["ensemble"])
    assert np.array_equal(best["single"], other.predict(model)[1]["single"])
    assert len(labels) == 60


@pytest.mark.parametrize("config", [WORDS, DECODER], ids=["words", "decoder"])
def test_predictions_against_one_picture_at_a_time(config, tokenizer, tasks):
    model, task = model_of(config, tokenizer), tasks["position"]
    labels, best = PredictiveZeroShot(task, protocols=("ensemble",)).predict(model)
    samples = list(task.source.read(0))
    assert labels.tolist() == [sample.label for sample in samples]
    templates = task.templates if config is DECODER else ("{c}",)
    for place in (0, 7, 59):
        # The unit embedding has lost its length; the network's own point is found beside it.
        with torch.no_grad():
            pixels = torch.from_numpy(samples[place].image.copy()).permute(2, 0, 1)[None]
            mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (model.preprocessing.mean, model.preprocessing.std))
            point = model.clip.encode_image((pixels / 255 - mean) / std)
            scores = class_scores(model, point, task.class_names, templates)[0]
        assert scores.argmax().item() == best["ensemble"][place]


def test_results_are_those_of_an_evaluator(tokenizer, tasks):
    model = model_of(WORDS, tokenizer)
    model.clip.train()
    evaluator = PredictiveZeroShot(tasks["digit"])
    accuracy, mean = evaluator(model)
    labels, best = evaluator.predict(model)
    hits = int((labels == best["single"]).sum())
    assert (accuracy.task, accuracy.dataset, accuracy.metric, accuracy.protocol) == (
        "zero_shot",
        "digit",
        "accuracy",
        "single",
    )
    assert (
        accuracy.value == hits / 60 and accuracy.n == 60 and (accuracy.low, accuracy.high) == clopper_pearson(hits, 60)
    )
    assert mean.metric == "mean_per_class_accuracy" and mean.interval is None
    assert model.clip.training


def test_it_finds_out_at_once_what_cannot_be_measured(tokenizer, tasks):
    with pytest.raises(ConfigError, match="measure it with ZeroShot"):
        PredictiveZeroShot(tasks["shape"]).check(Model(CLIP(MODEL), tokenizer, Preprocessing(32)))
    with pytest.raises(ConfigError, match="protocols must be some of"):
        PredictiveZeroShot(tasks["shape"], protocols=("both",))
    long = dataclasses.replace(tasks["shape"], templates=("a picture of " * 20 + "{c}",))
    with pytest.raises(TextError, match="tokens with start and end"):
        PredictiveZeroShot(long).check(model_of(DECODER, tokenizer))


def test_an_untrained_decoder_finds_all_words_about_alike(tokenizer):
    model = model_of(DECODER, tokenizer)
    scores = class_scores(model, torch.randn(1, 32), ("circle", "square"), ("a {c}.",))
    _, lengths = tokenizer(["a circle.", "a square."])
    assert scores[0].tolist() == pytest.approx((-(lengths - 1) * math.log(560)).tolist(), rel=0.05)


def measured(config, size: int) -> dict:
    """What one rank finds: it classifies its share of the pictures, and knows the answers of all."""
    captions = [text for sample in Playground(200, size=32).read(0) for text in sample.texts]
    model = model_of(config, Tokenizer.train(captions, vocab_size=560, context_length=32))
    task = next(task for task in playground_tasks(size=32, num_samples=size) if task.name == "shape")
    evaluator = PredictiveZeroShot(task)
    labels, best = evaluator.predict(model)
    return {
        "labels": torch.from_numpy(labels),
        "classes": torch.from_numpy(best["single"]),
        "values": [[one.value, one.n] for one in evaluator(model)],
    }


@pytest.mark.parametrize(("config", "size"), [(WORDS, 23), (DECODER, 23), (WORDS, 2)], ids=["words", "decoder", "few"])
def test_ranks_count_as_one_process_does(config, size):
    alone, ranks = measured(config, size), run_ranks(3, measured, config, size)
    for one in ranks:
        assert torch.equal(one["labels"], alone["labels"]) and torch.equal(one["classes"], alone["classes"])
        assert one["values"] == alone["values"]
