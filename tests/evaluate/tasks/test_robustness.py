"""Natural shifts: pooling, limiting and pm-k solved by hand; the whole task on sets whose every answer is known."""

import dataclasses
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from imagenet_sets import NAMES, Known, card, measured, shows, write_set
from listed_sets import Listed

from diptych.errors import DataError, ShapeError
from diptych.evalsets.benchmark import check_benchmark
from diptych.evalsets.cards import CARDS
from diptych.evalsets.imagenet_classes import shift_classes
from diptych.evaluate.encoded_set import Encoded
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.evaluate.predictions import read_predictions
from diptych.evaluate.tasks.robustness import (
    ROBUSTNESS,
    accuracy_pm_k,
    check_learned_by_card,
    judge,
    limited,
    max_pooled,
    shift_results,
    subset_results,
    vector_scorer,
)
from diptych.evaluate.tasks.task import Setting
from diptych.evaluate.tasks.testbed import SHIFT_NAMES, SUBSETS
from diptych.records import Predictions, Sample, protocol_in_words

HOW = {"task": "robustness", "protocol": "ensemble", "condition": {"classifier": "static"}}

# ------------------------------------------------------------------ by hand


def test_scores_of_vectors_are_scaled_cosines():
    vectors, classes = np.eye(3, dtype=np.float32)[:2], torch.tensor([[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
    for encoder, scale in ((types.SimpleNamespace(logit_scale=20.0), 20), (types.SimpleNamespace(), 1)):
        assert vector_scorer(encoder, classes)(vectors) == pytest.approx(scale * np.array([[0.6, 0], [0.8, 0]]))


def test_frames_without_offsets_are_anchors_and_broken_ones_are_counted():
    benchmark = check_benchmark("ImageNet-Vid", "test", ["a", "b"], ["{c}"], Listed(()), card=CARDS["ImageNet-Vid"])
    encoded = Encoded(("x", "y"), np.array([0, 1]), np.eye(2), ((), ()), ({}, {}), 0, "print")
    judged = Predictions(("x", "y"), np.array([0, 1]), np.array([[0, 1], [0, 1]]), np.zeros((2, 2)))
    encoder = types.SimpleNamespace(name="model")
    (found,) = shift_results(encoder, benchmark, encoded, judged, **HOW)
    assert (found.metric, found.value, found.n, found.split) == ("accuracy_pm_0", 0.5, 2, "test")
    assert "settings" not in found.run and found.run["fingerprint"] == benchmark.fingerprint
    encoded = dataclasses.replace(encoded, num_broken=3)
    (found,) = shift_results(encoder, benchmark, encoded, judged, settings={"lambda": 1.0}, **HOW)
    assert found.run["settings"] == {"lambda": 1.0, "broken": 3}


def test_max_pooling():
    scores = np.array([[0.1, 0.5, 0.2, 0.9], [0.3, 0.0, 0.4, 0.35]])
    assert max_pooled(scores, ((0, 1), (3,), (2,))).tolist() == [[0.5, 0.9, 0.2], [0.3, 0.35, 0.4]]
    for classes in (((0,), (4,)), ((0,), ()), ((-1,),), ((-1, 2),), ((0, 4),)):
        with pytest.raises(ShapeError):
            max_pooled(scores, classes)


def test_limiting_keeps_the_samples_of_the_shifts_classes():
    rows, labels = limited(np.array([5, 0, 7, 2, 0, 9]), ((0, 2), (9,), (4,)))
    assert rows.tolist() == [1, 3, 4, 5] and labels.tolist() == [0, 0, 0, 1]
    rows, labels = limited(np.array([5]), ((0,),))
    assert rows.shape == labels.shape == (0,)


def test_pm_k():
    # Anchor a: all right. b: wrong at +2. c: wrong itself. d: its own frame is missing. e: alone.
    frames = [
        *(("a", offset, True) for offset in (-2, -1, 0, 1, 2)),
        *(("b", offset, offset != 2) for offset in (-2, -1, 0, 1, 2)),
        *(("c", offset, offset != 0) for offset in (-1, 0, 1)),
        ("d", 1, True),
        ("e", 0, True),
    ]
    anchors, offsets, right = (list(column) for column in zip(*frames, strict=True))
    values = [accuracy_pm_k(right, anchors, offsets, k) for k in (0, 1, 2, 10)]
    assert [one.value for one in values] == [0.75, 0.75, 0.5, 0.5] and all(one.n == 4 for one in values)
    assert (values[2].low, values[2].high) == clopper_pearson(2, 4)
    backwards = accuracy_pm_k(right[::-1], anchors[::-1], offsets[::-1], 2)
    assert backwards == values[2]


def test_pm_k_without_an_anchor_is_refused():
    with pytest.raises(ShapeError, match="anchor"):
        accuracy_pm_k([True], ["a"], [3], 10)
    with pytest.raises(ShapeError, match="2 frames"):
        accuracy_pm_k([True, True], ["a"], [0], 0)


def test_judging_in_blocks_is_judging_at_once(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(23, 7)).astype(np.float32)
    encoded = Encoded(tuple(map(str, range(23))), np.arange(23) % 3, vectors, ((),) * 23, ({},) * 23, 0, "")
    whole = judge(encoded, lambda block: block, ((0, 6), (1,), (3, 4)))
    assert whole.classes[:, 0].tolist() == max_pooled(vectors, ((0, 6), (1,), (3, 4))).argmax(axis=1).tolist()
    monkeypatch.setattr("diptych.evaluate.tasks.robustness._ROWS_PER_BLOCK", 4)
    parts = judge(encoded, lambda block: block, ((0, 6), (1,), (3, 4)))
    assert (parts.classes == whole.classes).all() and np.allclose(parts.scores, whole.scores)
    assert whole.scores.sum(axis=1) == pytest.approx(1) and (parts.ranks == whole.ranks).all()
    assert (np.take_along_axis(whole.classes, whole.ranks[:, None] - 1, 1)[:, 0] == encoded.labels).all()


def test_the_parts_of_imagenet_by_hand_in_any_blocks(monkeypatch, caplog):
    """Scores are the vectors; a picture counts where a shift has its class, and is right where the best of the classes
    that belong to one of the shift's has it. Two classes of one name cost the shifts that have one of them."""
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 1000, 300), rng.standard_normal((300, 1000)).astype(np.float32)
    scores[np.arange(300), np.where(rng.random(300) < 0.6, labels, 0)] = 9  # so that most are right
    encoded = Encoded(("",) * 300, labels, scores, ((),) * 300, ({},) * 300, 0, "x")
    names = [str(one) for one in range(1000)]
    benchmark = check_benchmark("ImageNet", "test", names, ["{c}"], Listed(()), card=CARDS["ImageNet"])
    expected = {}
    for name in SUBSETS:
        owner = {index: place for place, own in enumerate(shift_classes(name)) for index in own}
        rows = [row for row in range(300) if labels[row] in owner]
        best = [max(owner, key=lambda index, row=row: scores[row, index]) for row in rows]
        right = sum(owner[found] == owner[labels[row]] for row, found in zip(rows, best, strict=True))
        expected[f"on {name}"] = (right / len(rows), len(rows))
    encoder = types.SimpleNamespace(name="model")
    more = {"task": "imagenet_probe", "protocol": "adapted", "settings": {"of": 3}}
    for size in (7, 8192):
        monkeypatch.setattr("diptych.evaluate.tasks.robustness._ROWS_PER_BLOCK", size)
        found = subset_results(encoder, benchmark, encoded, lambda block: block, **more)
        assert {
            protocol_in_words(one): (one.value, one.n) for one in found
        } == expected and "no numbers" not in caplog.text
        assert {(one.task, one.split, one.metric, one.run["settings"]["of"]) for one in found} == {
            ("imagenet_probe", "test", "accuracy", 3)
        }
        assert [one.condition["subset"] for one in found] == list(SUBSETS) and found[0].protocol == "adapted"
    (alone,) = set(shift_classes("ImageNet-A")[3])
    without = dataclasses.replace(benchmark, ambiguous=((alone, 1), (1, alone)))
    has = {f"on {name}" for name in SUBSETS if {1, alone} & {index for own in shift_classes(name) for index in own}}
    few = subset_results(encoder, without, encoded, lambda block: block, **HOW)
    known = {name: pair for name, pair in expected.items() if name not in has}
    assert {protocol_in_words(one): (one.value, one.n) for one in few} == known
    assert {"on ImageNet-A"} <= has < set(expected) and few[0].condition["classifier"] == "static"
    assert f"ImageNet: no numbers on the classes of {[one[3:] for one in expected if one in has]}" in caplog.text
    assert f": '1', '{alone}' names several" in caplog.text


def test_what_learned_on_imagenet_needs_classes_that_are_known():
    names = [str(one) for one in range(1000)]
    home = check_benchmark("ImageNet", "train", names, ["{c}"], Listed(()), card=CARDS["ImageNet"])
    test = dataclasses.replace(home, split="test")
    shift = check_benchmark("ImageNet-A", "test", names[:200], ["{c}"], Listed(()), card=CARDS["ImageNet-A"])
    (own,) = set(shift_classes("ImageNet-A")[3])
    assert not any({0, 2} & set(group) for group in shift_classes("ImageNet-A"))
    check_learned_by_card(home, test)
    check_learned_by_card(home, shift)
    same, elsewhere = ({"ambiguous": ((one, 0), (0, one))} for one in (own, 2))
    # Two splits of one copy may take two classes for one another, if both do.
    check_learned_by_card(dataclasses.replace(home, **same), dataclasses.replace(test, **same))
    for pair in ((same, {}), ({}, same), (same, elsewhere)):
        train, tested = (dataclasses.replace(one, **more) for one, more in zip((home, test), pair, strict=True))
        with pytest.raises(DataError, match="do not tell which is which"):
            check_learned_by_card(train, tested)
    # A shift asks for its own classes alone.
    check_learned_by_card(dataclasses.replace(home, **elsewhere), shift)
    with pytest.raises(DataError, match=f"ImageNet/train: several of its classes are called '{own}', '0'; the names"):
        check_learned_by_card(dataclasses.replace(home, **same), shift)
    with pytest.raises(DataError, match="ImageNet-A/test: it has a cat"):
        check_learned_by_card(home, dataclasses.replace(shift, differs="it has a cat"))
    with pytest.raises(DataError, match="ImageNet/train: it has a cat"):
        check_learned_by_card(dataclasses.replace(home, differs="it has a cat"), shift)
    with pytest.raises(DataError, match="several of its classes"):  # the same two in both, but of two sets
        check_learned_by_card(dataclasses.replace(home, **same), dataclasses.replace(shift, **same))


def test_pooled_classes_are_disjoint():
    for name in SUBSETS:
        indices = [index for own in shift_classes(name) for index in own]
        assert len(indices) == len(set(indices)) and set(indices) <= set(range(1000))


# ------------------------------------------------------------------ the whole task


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """A cache: the classifier of 80,000 prompts is made once for all tests."""
    return tmp_path_factory.mktemp("cache")


def test_imagenet_a_counts_its_200_classes_alone(tmp_path, kept):
    classes = [own for (own,) in shift_classes("ImageNet-A")]
    # Sub-class 6's neighbour 7 is none of the 200: leaning there cannot mislead. 307 to 311 are all among them.
    place = classes.index(307)
    samples = [
        Sample("right", shows(6), (), 0),
        Sample("outside", shows(6, 120), (), 0),
        Sample("leaning", shows(307, 200), (), place),
        Sample("fine", shows(307, 60), (), place),
    ]
    write_set(tmp_path, "ImageNet-A", samples, [NAMES[index][0] for index in classes])
    done = ROBUSTNESS.measure(
        Known(), card("ImageNet-A", 200), Setting(tmp_path, kept, tmp_path / "kept", partial=True)
    )
    results = done.results
    assert measured(results) == {("ImageNet-A", "static", "accuracy"): (0.75, 4)}
    assert (results[0].task, results[0].interval, results[0].model) == ("robustness", "clopper-pearson 99.5%", "known")
    assert done.predictions == (tmp_path / "kept/known/ImageNet-A-test-static.parquet",)
    kept = read_predictions(done.predictions[0])
    assert (kept.classes[:, 0] == kept.labels).tolist() == [True, True, False, True]


def test_imagenet_v2_counts_all_1000(tmp_path, kept):
    samples = [Sample("a", shows(6), (), 6), Sample("b", shows(6, 200), (), 6), Sample("c", shows(999), (), 999)]
    write_set(tmp_path, "ImageNetV2", samples, [f"{index} {names[0]}" for index, names in enumerate(NAMES)])
    results = ROBUSTNESS.measure(Known(), card("ImageNetV2", 1000), Setting(tmp_path, kept, partial=True)).results
    assert measured(results) == {("ImageNetV2", "static", "accuracy"): (2 / 3, 3)}
    assert results[0].run["settings"] == {"classes": {"tested": [2, 1000]}}


def test_videos_before_and_after_the_adaptation_to_their_classes(tmp_path, kept):
    """One anchor is right with all its neighbours, one is right itself, one only once the class has its own name."""
    classes = shift_classes("ImageNet-Vid")
    names = [f"thing {number}" for number in range(30)]
    dog, cat = (
        next(n for n, own in enumerate(classes) if 151 in own),
        next(n for n, own in enumerate(classes) if 281 in own),
    )
    taxi = 99  # of ImageNet's geese, which are birds
    bird = next(n for n, own in enumerate(classes) if taxi in own)

    def frame(key, index, label, anchor, offset, labels=()):
        metadata = {"anchor": anchor, "offset": offset, **({"labels": list(labels)} if labels else {})}
        return Sample(key, shows(index), (), label, metadata)

    samples = [
        *(frame(f"a{offset}", 151 + abs(offset), dog, "a", offset) for offset in (-10, -5, 0, 5, 10)),
        *(frame(f"b{offset}", 281 if offset < 9 else 151, cat, "b", offset) for offset in (-1, 0, 1, 10)),
        frame("c", 151, cat, "c", 0),
        *(frame(f"d{offset}", 281, dog, "d", offset, labels=(dog, cat)) for offset in (0, 1)),
        frame("e", taxi, bird, "e", 0),
        frame("e11", 151, bird, "e", 11),
    ]
    write_set(tmp_path, "ImageNet-Vid", samples, names)
    encoder = Known([(name, own) for name, own in zip(names, classes, strict=True)])
    found = measured(
        ROBUSTNESS.measure(encoder, card("ImageNet-Vid", 30, "video"), Setting(tmp_path, kept, partial=True)).results
    )
    assert found["ImageNet-Vid", "static", "accuracy_pm_0"] == (0.8, 5)
    assert found["ImageNet-Vid", "static", "accuracy_pm_10"] == (0.6, 5)
    assert {protocol for _, protocol, _ in found} == {"static", "adaptive"} and len(found) == 4


def test_object_net_by_its_own_names(tmp_path, kept):
    classes = shift_classes("ObjectNet")
    names = [f"object {number}" for number in range(113)]
    assert len(classes[0]) == 2
    samples = [Sample(f"s{index}", shows(index), (), 0) for index in classes[0]]
    samples += [Sample("two", shows(classes[2][0]), (), 2)]
    write_set(tmp_path, "ObjectNet", samples, names)
    meant = [classes[1], classes[0], *classes[2:]]  # the first two names mean each other's things
    encoder = Known(list(zip(names, meant, strict=True)))
    found = measured(ROBUSTNESS.measure(encoder, card("ObjectNet", 113), Setting(tmp_path, kept, partial=True)).results)
    assert found == {
        ("ObjectNet", "static", "accuracy"): (1.0, 3),
        ("ObjectNet", "adaptive", "accuracy"): (1 / 3, 3),
    }


def test_imagenet_on_each_shifts_classes(tmp_path, kept):
    # 6 is in A and R, 7 in neither but a bird; 6 that leans to 7 is right where 7 cannot be chosen.
    samples = [Sample(f"s{number}", shows(6, lean), (), 6) for number, lean in enumerate((0, 140))]
    samples += [Sample("cock", shows(7), (), 7)]
    write_set(tmp_path, "ImageNet", samples, [f"{index} {names[0]}" for index, names in enumerate(NAMES)])
    results = ROBUSTNESS.measure(Known(), card("ImageNet", 1000), Setting(tmp_path, kept, partial=True)).results
    found = measured(results)
    assert found["ImageNet", "on ImageNet-A", "accuracy"] == (1.0, 2)
    assert {tuple(one.run["settings"]["classes"]["tested"]) for one in results} == {(2, 1000)}
    for name in SUBSETS:
        inside = [sum(index in own for own in shift_classes(name)) for index in (6, 6, 7)]
        got = found.get(("ImageNet", f"on {name}", "accuracy"))
        assert (got[1] if got else 0) == sum(inside)


def test_which_sets_it_is_for():
    assert ROBUSTNESS.applies(card("ImageNet", 1000)) and not ROBUSTNESS.applies(card("Food101", 101))
    assert all(ROBUSTNESS.applies(card(name, 1000)) for name in SHIFT_NAMES)
    assert ROBUSTNESS.splits(card("ImageNet", 1000)) == ("test",)
