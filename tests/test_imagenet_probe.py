"""A probe on ImageNet, measured on its shifts: with a classifier that is solved by hand."""

import shutil

import numpy as np
import pytest
from imagenet_sets import NAMES, Known, card, measured, shows, write_set
from sklearn.linear_model import LogisticRegression

from diptych.data.cards.imagenet import shift_classes
from diptych.data.shards import write_shards
from diptych.evaluate.encoded import Encoded
from diptych.evaluate.imagenet_probe import (
    IMAGENET_PROBE,
    PROTOCOL,
    Classifier,
    adapted_classifier,
    learn_probe,
    probe_task,
)
from diptych.evaluate.task import Setting
from diptych.records import Sample


class Means:
    """The nearest class mean, as a linear classifier; classes without an example are never chosen."""

    def __init__(self):
        self.calls = 0

    def __call__(self, features, labels, num_classes):
        self.calls += 1
        weights = np.zeros((num_classes, features.shape[1]), np.float32)
        bias = np.full(num_classes, -1e6, np.float32)
        for label in set(labels.tolist()):
            weights[label] = features[labels == label].mean(axis=0)
            bias[label] = -0.5 * (weights[label] ** 2).sum()
        return Classifier(weights, bias, 0.25)


@pytest.fixture
def sets(tmp_path):
    """Train shows class 6 as a picture of 100, and 7 as one of 200; the tests are of those pictures."""
    write_set(tmp_path, "ImageNet", [Sample("v", shows(100), (), 6), Sample("w", shows(6), (), 7)], plain(range(1000)))
    train = [Sample("a", shows(100), (), 6), Sample("b", shows(200), (), 7)]
    write_shards(train, tmp_path / "ImageNet" / "train", shard_size=10)
    classes = [own for (own,) in shift_classes("ImageNet-A")]
    samples = [Sample("right", shows(100), (), 0), Sample("pooled", shows(200), (), 0)]
    write_set(tmp_path, "ImageNet-A", samples, plain(classes))
    return tmp_path


def plain(indices):
    return [NAMES[index][0] for index in indices]


def test_the_probe_is_scored_on_a_shifts_classes_alone(sets):
    results = probe_task(Means()).measure(Known(), card("ImageNet-A", 200), Setting(sets))
    # Class 7 is none of ImageNet-A's: what looks like it is counted for the best of the others, 6.
    assert measured(results) == {("ImageNet-A", PROTOCOL, "accuracy"): (1.0, 2)}
    assert results[0].task == "linear_probe"
    assert results[0].run["settings"] == {"lambda": 0.25, "train_examples": 2}


def test_the_matching_parts_of_imagenet(sets):
    found = measured(probe_task(Means()).measure(Known(), card("ImageNet", 1000), Setting(sets)))
    assert found["ImageNet", "on ImageNet-A", "accuracy"] == (1.0, 1)
    assert {protocol for _, protocol, _ in found} <= {
        f"on {name}" for name in ("ImageNet-A", "ImageNet-R", "Youtube-BB", "ImageNet-Vid")
    }


def test_a_classifier_is_fitted_once_and_a_broken_one_again(tmp_path, caplog):
    features = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    train = Encoded(tuple("abcdef"), np.array([0, 0, 1, 1, 2, 2]), features, ((),) * 6, ({},) * 6, 0, "print")
    learn = Means()
    made = [adapted_classifier(train, 3, learn, tmp_path / "probes") for _ in range(2)]
    assert learn.calls == 1 and (made[0].scores(features) == made[1].scores(features)).all()
    assert made[1].penalty == 0.25
    (path,) = (tmp_path / "probes").iterdir()
    path.write_bytes(b"broken")
    again = adapted_classifier(train, 3, learn, tmp_path / "probes")
    assert learn.calls == 2 and (again.weights == made[0].weights).all() and "fitted again" in caplog.text
    adapted_classifier(train, 3, learn)
    assert learn.calls == 3


def test_the_probe_is_sklearns_at_the_penalty_it_chose():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 30)
    features = (rng.normal(size=(3, 5))[labels] + rng.normal(size=(90, 5))).astype(np.float32)
    found = learn_probe(features, labels, 3)
    assert found.weights.dtype == np.float32 and 1e-6 <= found.penalty <= 1e6
    reference = LogisticRegression(C=1 / found.penalty, max_iter=10_000, tol=1e-8).fit(features, labels)
    np.testing.assert_allclose(found.scores(features), reference.decision_function(features), atol=0.02)
    again = learn_probe(features, labels, 3)
    assert (again.weights == found.weights).all()


def test_the_whole_measurement_with_the_real_probe(sets):
    several = [Sample(f"t{n}", shows(100 + n), (), 6 + n % 2) for n in range(12)]
    shutil.rmtree(sets / "ImageNet" / "train")
    write_shards(several, sets / "ImageNet" / "train", shard_size=20)
    results = IMAGENET_PROBE.measure(Known(), card("ImageNet-A", 200), Setting(sets))
    assert [(one.protocol, one.n) for one in results] == [(PROTOCOL, 2)] and IMAGENET_PROBE.name == "imagenet_probe"


def test_which_sets_it_is_for():
    task = probe_task(Means())
    assert task.applies(card("ImageNet", 1000)) and task.applies(card("ImageNet-R", 200))
    assert not task.applies(card("Food101", 101)) and not task.needs_texts
    assert task.splits(card("ImageNet", 1000)) == ("train", "test") and task.splits(card("ImageNet-R", 200)) == (
        "test",
    )
