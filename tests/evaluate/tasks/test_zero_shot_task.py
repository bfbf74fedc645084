"""The task of zero-shot classification on vectors drawn at random, beside its numbers by NumPy and scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from listed_sets import Nothing
from scipy.special import log_softmax, softmax
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from diptych.errors import InputError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.cards import CARDS, get_card
from diptych.evaluate.encoded_set import Encoded
from diptych.evaluate.metrics.score import score
from diptych.evaluate.predictions import read_predictions
from diptych.evaluate.tasks import zero_shot
from diptych.evaluate.tasks.task import Setting
from diptych.evaluate.tasks.zero_shot import PROTOCOLS, ZERO_SHOT, Words, class_scores, measure_zero_shot, words

RNG = np.random.default_rng(0)
NAMES = tuple(f"thing {number}" for number in range(8))
TEMPLATES = ("the {c}", "a {c} here", "{c}, a word")
VECTORS = {}


class Drawn:
    """Every text has a vector of its own."""

    name, logit_scale = "drawn", 7.0

    def encode_texts(self, texts):
        for text in texts:
            if text not in VECTORS:
                VECTORS[text] = RNG.standard_normal(6)
        return torch.nn.functional.normalize(torch.tensor(np.array([VECTORS[text] for text in texts])).float(), dim=1)


def encoded(size=60, num_broken=0):
    labels = RNG.integers(0, 8, size)
    own = Drawn().encode_texts([f"the {NAMES[label]}" for label in labels]).numpy()
    vectors = own + 0.5 * RNG.standard_normal(own.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return Encoded(tuple(map(str, range(size))), labels, vectors, ((),) * size, ({},) * size, num_broken, "x")


PICTURES = encoded()


def benchmark(templates=TEMPLATES, name="own", card=None):
    return Benchmark(name, "test", NAMES, templates, Nothing(), "x", card=card)


def logits(templates):
    made = np.mean([Drawn().encode_texts([one.replace("{c}", name) for name in NAMES]).numpy() for one in templates], 0)
    return 7 * PICTURES.vectors @ (made / np.linalg.norm(made, axis=1, keepdims=True)).T


def probabilities():
    return np.mean([softmax(logits([one]), axis=1) for one in TEMPLATES], axis=0)


EXPECTED = {"ensemble": logits(TEMPLATES), "single": logits(TEMPLATES[:1]), "names": logits(["{c}"])}
EXPECTED["probability"] = probabilities()


def measured(protocols=PROTOCOLS, templates=TEMPLATES, setting=None, pictures=PICTURES, **options):
    return measure_zero_shot(
        Drawn(), benchmark(templates, **options), pictures, setting or Setting(Path()), protocols
    ).results


def test_every_protocol_and_metric_is_that_of_numpy():
    found = {(one.protocol, one.metric): one for one in measured()}
    assert len(found) == 4 * 3
    for protocol, scores in EXPECTED.items():
        own = {metric: found[protocol, metric].value for name, metric in found if name == protocol}
        labels = PICTURES.labels
        assert own == pytest.approx(
            {
                "accuracy": (scores.argmax(axis=1) == labels).mean(),
                "accuracy_top_5": top_k_accuracy_score(labels, scores, k=5),
                "mean_per_class_accuracy": balanced_accuracy_score(labels, scores.argmax(axis=1)),
            }
        )
    assert len({one.value for one in found.values() if one.metric == "accuracy"}) > 2
    assert {one.task for one in found.values()} == {"zero_shot"}


def test_a_cards_metric_comes_first_and_no_metric_twice():
    for name, first in (("Flowers102", "mean_per_class_accuracy"), ("CIFAR10", "accuracy")):
        card = get_card(name)
        assert measured(["names"], card=card, setting=Setting(Path(), partial=True))[0].metric == card.metric == first
        assert sorted(one.metric for one in measured(["names"], card=card, setting=Setting(Path(), partial=True))) == [
            "accuracy",
            "accuracy_top_5",
            "mean_per_class_accuracy",
        ]


def test_of_five_classes_there_is_no_top_5():
    pictures = encoded()
    kept = np.flatnonzero(pictures.labels < 5)
    few = Encoded(("",) * len(kept), pictures.labels[kept], pictures.vectors[kept], ((),) * 60, ({},) * 60, 0, "x")
    for names, expected in ((NAMES[:5], {"accuracy", "mean_per_class_accuracy"}), (NAMES[:6], None)):
        several = Benchmark("own", "test", names, TEMPLATES, Nothing(), "x")
        found = measure_zero_shot(Drawn(), several, few, Setting(Path()), ["names"]).results
        assert {one.metric for one in found} == (expected or {"accuracy", "accuracy_top_5", "mean_per_class_accuracy"})


def test_the_seed_is_that_of_the_intervals():
    bounds = set()
    for seed in (0, 3):
        (found,) = [one for one in measured(["names"], setting=Setting(Path(), seed=seed)) if "per_class" in one.metric]
        expected = score("mean_per_class_accuracy", PICTURES.labels, EXPECTED["names"].astype(np.float32), seed=seed)
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
        bounds.add((found.low, found.high))
    assert len(bounds) == 2


def test_with_one_template_its_probabilities_are_no_protocol_of_their_own():
    found = measured(["probability", "names"], TEMPLATES[:1])
    assert {one.protocol for one in found} == {"names"}


def test_what_is_not_said_by_a_card_is_said_by_the_result():
    settings = {name: measured(["names"], name=name)[0].run.get("settings", {}) for name in ("own", "CIFAR10")}
    assert settings["own"]["num_classes"] == 8 and "num_classes" not in settings["CIFAR10"]
    assert "broken" not in settings["own"]
    (broken, *_) = measured(["names"], pictures=encoded(num_broken=1))
    assert broken.run["settings"]["broken"] == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_kept_predictions_are_the_best_classes_with_their_probabilities(tmp_path, monkeypatch, protocol):
    monkeypatch.setattr(zero_shot, "_ROWS_PER_BLOCK", 13)
    measured([protocol], setting=Setting(tmp_path, predictions=tmp_path / "kept"))
    (path,) = (tmp_path / "kept").rglob("*.parquet")
    found, scores = read_predictions(path), EXPECTED[protocol]
    shares = scores if protocol == "probability" else softmax(scores, axis=1)
    best = np.argsort(-shares, axis=1)[:, :5]
    assert np.array_equal(found.classes, best) and found.keys == PICTURES.keys
    np.testing.assert_allclose(found.scores, np.take_along_axis(shares, best, axis=1), rtol=1e-4)


def test_scores_come_in_blocks(monkeypatch):
    chosen = words(benchmark(), "probability")
    whole = class_scores(Drawn(), PICTURES.vectors, chosen)
    monkeypatch.setattr(zero_shot, "_ROWS_PER_BLOCK", 7)
    np.testing.assert_allclose(class_scores(Drawn(), PICTURES.vectors, chosen), whole, rtol=1e-5)
    np.testing.assert_allclose(whole, EXPECTED["probability"], rtol=1e-4)
    one = class_scores(Drawn(), PICTURES.vectors, Words(chosen.names, (TEMPLATES[:1],)))
    np.testing.assert_allclose(log_softmax(one, axis=1), log_softmax(EXPECTED["single"], axis=1), atol=1e-4)


def test_an_encoder_without_a_scale_is_measured_by_cosines_and_has_no_mean_probabilities(caplog):
    class Plain:
        name, encode_texts = "plain", Drawn.encode_texts

    found = class_scores(Plain(), PICTURES.vectors, words(benchmark(), "names"))
    np.testing.assert_allclose(found, EXPECTED["names"] / 7, rtol=1e-4, atol=1e-3)
    with pytest.raises(InputError, match="plain states no logit_scale"):
        class_scores(Plain(), PICTURES.vectors, words(benchmark(), "probability"))
    unscaled = measure_zero_shot(Plain(), benchmark(), PICTURES, Setting(Path())).results
    assert "probabilities of several prompts are not averaged" in caplog.text
    expected = measure_zero_shot(Drawn(), benchmark(), PICTURES, Setting(Path())).results
    assert [(one.protocol, one.metric, one.value) for one in unscaled] == [
        (one.protocol, one.metric, one.value) for one in expected if one.protocol != "probability"
    ]


def test_names_that_are_codes_are_warned_of(caplog):
    measured(["names"])
    assert "look like codes" not in caplog.text
    codes = Benchmark("own", "test", tuple(f"n{number:08d}" for number in range(8)), TEMPLATES, Nothing(), "x")
    measure_zero_shot(Drawn(), codes, PICTURES, Setting(Path()), ["names"])
    assert "look like codes" in caplog.text


def test_which_sets_it_applies_to():
    """All 27 of table 9 and the shifts of pictures; not those whose frames may show several classes."""
    applies = {name for name, card in CARDS.items() if ZERO_SHOT.applies(card)}
    assert {"ImageNet", "VOC2007", "UCF101", "Kinetics700", "ImageNetV2", "ObjectNet", "ImageNet-A"} <= applies
    assert not applies & {"ImageNet-Vid", "Youtube-BB", "RareAct", "Flickr30k", "MSCOCO", "IM2GPS"}
    assert ZERO_SHOT.splits(get_card("UCF101")) == ("test",)
