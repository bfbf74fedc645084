"""Models in pairs: who is right where the other errs."""

import dataclasses

import numpy as np
import pytest

from diptych.evaluate.metrics.comparison import holm
from diptych.evaluate.predictions import predictions_path, read_predictions, top_predictions, write_predictions
from diptych.paper.exhibit_table import EXHIBITS
from diptych.paper.exhibits.pairs import ERROR, PAIRS, paired_models
from diptych.records import Result
from diptych.report.bars import BarChart, bar_chart

NUM = 400


def logits(right: np.ndarray, labels: np.ndarray, num_classes: int = 7) -> np.ndarray:
    """Scores under which the classifier is right where it should be."""
    scores = np.zeros((len(labels), num_classes), np.float32)
    scores[np.arange(len(labels)), np.where(right, labels, (labels + 1) % num_classes)] = 2.0
    return scores


def measure(folder, model: str, right: np.ndarray, dataset="CIFAR10", protocol="ensemble", keys=None) -> Result:
    """The files and the Result that a measurement leaves."""
    labels = np.arange(len(right)) % 7
    keys = tuple(f"{row:05}" for row in range(len(right))) if keys is None else keys
    write_predictions(
        top_predictions(keys, labels, [logits(right, labels)]),
        predictions_path(folder, model, dataset, "test", protocol),
    )
    value = float(right.mean())
    return Result("zero_shot", dataset, "test", "accuracy", value, len(right), None, None, None, protocol, model)


def answers(share: float, num: int = NUM) -> np.ndarray:
    return np.arange(num) < round(share * num)


def test_two_models_that_overlap_are_told_apart(tmp_path):
    # 40 more right and none less: intervals of 50 and 60 % of 400 overlap, the pair is beyond chance.
    results = [measure(tmp_path, "worse", answers(0.5)), measure(tmp_path, "better", answers(0.6))]
    shown = paired_models(results, tmp_path)
    ((name, cells),) = shown.tables[0].rows
    assert name == "CIFAR10, zero-shot" and cells[0] == "400" and [cells[1].value, cells[2].value] == [50, 60]
    assert cells[3].value == pytest.approx(-10) and cells[3].low == pytest.approx(-10)
    assert cells[3].high < -7 and cells[4:] == ["0", "40", "< 0.0001", "better"]
    assert "worse is better than better on 0 of 1 measurements, worse on 1" in shown.title
    assert shown.charts[0].intervals[0][0] == pytest.approx(-10)


def test_the_same_answers_are_not_told_apart(tmp_path):
    shown = paired_models([measure(tmp_path, name, answers(0.5)) for name in "ab"], tmp_path)
    ((_, cells),) = shown.tables[0].rows
    assert cells[3].value == 0 and cells[-2:] == ["1.00", "not told apart"]


def test_p_is_corrected_over_the_sets_of_a_pair(tmp_path):
    # 9 to none alone: p = 2 / 2^9 = 0.0039 of one test, of two sets twice that.
    right = answers(0.5)
    nine = right.copy()
    nine[-9:] = True
    results = [measure(tmp_path, "a", right), measure(tmp_path, "b", nine)]
    assert paired_models(results, tmp_path).tables[0].rows[0][1][-1] == "b"
    results += [measure(tmp_path, name, right, "MNIST") for name in "ab"]
    rows = dict(paired_models(results, tmp_path).tables[0].rows)
    assert rows["CIFAR10, zero-shot"][-2:] == ["0.0078", "not told apart"] and 2 / 2**9 < ERROR < 4 / 2**9


def test_what_cannot_be_compared_is_named(tmp_path):
    results = [measure(tmp_path, name, answers(0.5)) for name in "abcd"]
    other = tuple(f"other {row}" for row in range(NUM))
    measure(tmp_path, "b", answers(0.5), keys=other)
    results[2] = dataclasses.replace(results[2], value=0.75)
    predictions_path(tmp_path, "d", "CIFAR10", "test", "ensemble").write_bytes(b"no parquet")
    assert paired_models(results, tmp_path) is None
    fifth = measure(tmp_path, "e", answers(0.6))
    notes = " ".join(paired_models([*results, fifth], tmp_path).notes)
    assert "a and b were measured on other samples of CIFAR10" in notes
    assert "c on CIFAR10, ensemble: the predictions that lie there are not those of its score" in notes
    assert "d on CIFAR10, ensemble: its file of predictions cannot be read" in notes


def test_one_model_and_missing_files_give_no_table(tmp_path):
    one = measure(tmp_path, "a", answers(0.5))
    gone = dataclasses.replace(one, model="b")
    assert paired_models([one, gone], tmp_path) is None and paired_models([], tmp_path) is None
    assert EXHIBITS["pairs"] is PAIRS and "MODEL MODEL" in PAIRS.build([]).notes[0]


def test_of_many_models_each_is_compared_with_the_best(tmp_path):
    results = [measure(tmp_path, f"m{number}", answers(0.3 + 0.05 * number)) for number in range(6)]
    shown = paired_models(results, tmp_path)
    assert [table.title for table in shown.tables] == [f"m5 and m{number}" for number in range(5)]
    assert shown.title.endswith("comparisons tell models apart")


def test_ranks_are_kept_beyond_the_classes_that_are(tmp_path):
    scores = np.tile(-np.arange(9.0, dtype=np.float32), (9, 1))
    found = top_predictions([str(row) for row in range(9)], np.arange(9), [scores[:4], scores[4:]])
    assert found.ranks.tolist() == list(range(1, 10)) and found.classes.shape == (9, 5)
    write_predictions(found, tmp_path / "some.parquet")
    assert read_predictions(tmp_path / "some.parquet").ranks.tolist() == list(range(1, 10))
    write_predictions(dataclasses.replace(found, ranks=None), tmp_path / "none.parquet")
    assert read_predictions(tmp_path / "none.parquet").ranks is None


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_whiskers_of_bars():
    plain = BarChart("t", "x", [("a", 1.0), ("b", -2.0)])
    with_whiskers = dataclasses.replace(plain, intervals=[(0.5, 1.5), None])
    assert bar_chart(with_whiskers).count("whisker") == 3 and "whisker" not in bar_chart(plain)
    with pytest.raises(Exception, match="2 bars and 1 intervals"):
        bar_chart(dataclasses.replace(plain, intervals=[(0.5, 1.5)]))


def test_a_probe_on_embeddings_stands_beside_one_on_features(tmp_path):
    results = [
        measure(tmp_path, "deep", answers(0.6), protocol="features"),
        measure(tmp_path, "deep", answers(0.9), protocol="projected"),
        measure(tmp_path, "pixels", answers(0.5), protocol="projected"),
    ]
    ((name, cells),) = paired_models(results, tmp_path).tables[0].rows
    assert name == "CIFAR10, linear probe" and [cells[1].value, cells[2].value] == [60, 50]
