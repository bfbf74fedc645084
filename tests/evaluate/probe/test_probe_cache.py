"""What a probe's task learns, and what is read back of it: every field, and nothing from a file that is not whole."""

import json

import numpy as np
import pytest
import safetensors.numpy
from test_few_shot_task import encoded

from diptych.evalsets.cards import get_card
from diptych.evaluate.metrics.classification import mean_per_class_accuracy
from diptych.evaluate.probe import probe_cache
from diptych.evaluate.probe.linear_probe import LinearProbe
from diptych.evaluate.probe.training_set import TrainingSet

ABOUT = {"lambda": 2.0, "objective": 3.0, "excess": 0.01, "steps": 7, "converged": True}


def test_two_classes_get_half_of_the_difference_each():
    train = encoded(np.arange(40) % 2, 1)
    learned = probe_cache._learn(TrainingSet(get_card("CIFAR10"), 2, train, None), seed=3)
    probe = LinearProbe(seed=3).fit(train.vectors, train.labels)
    weights, bias = learned.fitted.weights, learned.fitted.bias
    np.testing.assert_allclose(weights[1] - weights[0], probe.coef_[0])
    np.testing.assert_allclose(bias[1] - bias[0], probe.intercept_[0])
    np.testing.assert_allclose(weights.sum(axis=0), 0, atol=1e-12)
    assert learned.settings["fits"] == len(probe.search_.trials) + 1
    assert learned.settings["lambda"] == probe.lambda_ and learned.settings["steps"] == probe.n_iter_[0]


@pytest.mark.parametrize(("name", "metric"), [("CIFAR10", None), ("Flowers102", mean_per_class_accuracy)])
def test_penalties_are_judged_by_the_set_s_own_metric(monkeypatch, name, metric):
    given = {}
    monkeypatch.setattr(probe_cache, "LinearProbe", lambda **options: given.update(options) or LinearProbe(**options))
    probe_cache._learn(TrainingSet(get_card(name), 4, encoded(np.arange(60) % 4, 1), None), seed=5)
    assert given["seed"] == 5 and (given["metric"] == "default") == (metric is None)
    if metric is not None:
        truth, scores = np.array([0, 0, 0, 1, 2]), np.eye(4)[[0, 0, 1, 1, 3]]
        assert given["metric"](truth, scores) == metric(truth, scores) != np.mean(scores.argmax(axis=1) == truth)


def write(path, about=None, **changes):
    tensors = {"weights": np.ones((3, 4)), "bias": np.zeros(3)} | changes
    values = {name: json.dumps(value) for name, value in (about or ABOUT).items()}
    path.write_bytes(safetensors.numpy.save(tensors, metadata=values))
    return path


def test_a_kept_probe_is_read_as_it_was_written(tmp_path):
    learned = probe_cache._read(write(tmp_path / "a"), (3, 4))
    fitted = learned.fitted
    assert (fitted.penalty, fitted.objective, fitted.excess, fitted.iterations, fitted.converged) == (
        2,
        3,
        0.01,
        7,
        True,
    )
    assert learned.settings == ABOUT
    np.testing.assert_array_equal(fitted.weights, np.ones((3, 4)))


def with_one(value, shape):
    array = np.zeros(shape)
    array.flat[-1] = value
    return array


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": np.ones((4, 3))},
        {"bias": np.ones(4)},
        {"bias": np.ones((3, 1))},
        {"weights": np.ones((3, 4), np.float32)},
        {"bias": np.ones(3, np.float32)},
        {"weights": with_one(np.nan, (3, 4))},
        {"weights": with_one(np.inf, (3, 4))},
        {"bias": with_one(np.nan, 3)},
    ],
    ids=lambda one: " ".join(f"{name} {array.dtype} {array.shape} {array.flat[-1]}" for name, array in one.items()),
)
def test_a_file_of_other_numbers_is_no_probe(tmp_path, changes):
    with pytest.raises(ValueError):
        probe_cache._read(write(tmp_path / "a", **changes), (3, 4))


def test_a_file_that_is_larger_than_such_a_probe_is_not_opened(tmp_path):
    room = probe_cache._MOST_BESIDE + 8 * 3 * (4 + 1)
    for size, refused in ((room, False), (room + 1, True)):
        path = write(tmp_path / "a")
        beside = size - path.stat().st_size
        write(path, {**ABOUT, "more": "x" * (beside - 200)})
        # Fill up to the byte: JSON of the header may be padded by spaces, which its length counts.
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        padded = length + size - len(content)
        path.write_bytes(
            padded.to_bytes(8, "little") + content[8 : 8 + length] + b" " * (padded - length) + content[8 + length :]
        )
        assert path.stat().st_size == size
        if refused:
            with pytest.raises(ValueError, match="larger than 3 classes of 4 numbers"):
                probe_cache._read(path, (3, 4))
        else:
            assert probe_cache._read(path, (3, 4)).fitted.penalty == 2
