"""Few-shot learning on sets on disk: means over draws, kept classifiers, and ImageNet's classifier on a shift."""

import dataclasses
import logging

import numpy as np
import pytest
import torch
from listed_sets import Nothing
from PIL import Image

from diptych.errors import DataError, InputError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.cards import get_card
from diptych.evalsets.prompts import get_prompts
from diptych.evalsets.user_sets import own_card
from diptych.evaluate.encoded_set import Encoded
from diptych.evaluate.metrics.classification import mean_of_top_1_and_5, mean_per_class_accuracy
from diptych.evaluate.metrics.ranking import roc_auc
from diptych.evaluate.probe.few_shot import draw_ranks, drawn_rows, fit_few_shot
from diptych.evaluate.probe.training_set import TrainingSet
from diptych.evaluate.suite import read_all, run_suite, write_part
from diptych.evaluate.tasks.few_shot_tasks import FEW_SHOT, FEW_SHOT_FROM_TEXTS, Pool, few_shot_results, point
from diptych.evaluate.tasks.task import Setting
from diptych.records import Result, protocol_in_words

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COLOURS = {name: np.random.default_rng(index).integers(30, 225, 3) for index, name in enumerate(NAMES)}


class Colours:
    """Sees the mean colour of a picture, and reads it from a class's name."""

    name = "colours"
    logit_scale = 30.0

    def __init__(self, mark="weights"):
        self.image_fingerprint = self.fingerprint = mark

    def encode_images(self, pictures):
        return self._points([np.asarray(picture.convert("RGB")).mean(axis=(0, 1)) for picture in pictures])

    def encode_texts(self, texts):
        return self._points([next(COLOURS[name] for name in NAMES if name in text) for text in texts])

    def _points(self, colours):
        points = torch.tensor(np.stack(colours), dtype=torch.float32) / 128 - 1
        return torch.nn.functional.normalize(torch.cat([points, torch.full((len(points), 1), 0.5)], dim=1), dim=1)


class ImagesOnly:
    """The same without texts, with features before a projection."""

    name, image_fingerprint = "colours alone", "weights"

    def encode_images(self, pictures):
        return Colours().encode_images(pictures)

    def image_features(self, pictures):
        return torch.cat([7 * self.encode_images(pictures), torch.ones(len(pictures), 1)], dim=1)


def write_set(root, sizes):
    for split, per_class in sizes.items():
        for index, (name, colour) in enumerate(COLOURS.items()):
            folder = root / "CIFAR10" / split / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                rng = np.random.default_rng([split == "test", index, number])
                shade = np.clip(colour + rng.normal(0, 25, 3), 0, 255).astype(np.uint8)
                Image.fromarray(np.broadcast_to(shade, (4, 4, 3)).copy()).save(folder / f"{split}{number}.png")


@pytest.fixture
def data(tmp_path):
    write_set(tmp_path / "data", {"train": 5, "test": 4})
    return tmp_path / "data"


@pytest.fixture
def small(tmp_path):
    write_set(tmp_path / "data", {"train": 3, "test": 2})
    return tmp_path / "data"


def measure(data, tmp_path, encoder, task, **options):
    setting = Setting(data, cache=tmp_path / "cache", **options)
    return run_suite(encoder, [task], [get_card("CIFAR10")], setting, tmp_path / "out")


def test_the_probe_of_an_encoder_of_pictures_alone(data, tmp_path):
    found = measure(data, tmp_path, ImagesOnly(), FEW_SHOT)
    assert not found.skipped
    assert [protocol_in_words(result) for result in found.results] == ["probe 1-shot", "probe 2-shot", "probe 4-shot"]
    for result in found.results:
        settings = result.run["settings"]
        assert (result.task, result.dataset, result.split, result.metric, result.n) == (
            "few_shot",
            "CIFAR10",
            "test",
            "accuracy",
            40,
        )
        assert result.value == pytest.approx(np.mean(settings["values"]))
        assert (result.low, result.high) == (min(settings["values"]), max(settings["values"]))
        assert result.interval == "range of 3 seeds"
        assert settings["seeds"] == [0, 1, 2] and len(settings["lambda"]) == 3
        assert settings["examples_per_class"] == 5 and settings["train_examples"] == 50
        assert settings["width"] == 5  # features and not embeddings
    assert len(set(found.results[0].run["settings"]["values"])) > 1  # the draws do differ
    one, _, four = (result.value for result in found.results)
    assert 0.1 < one < four
    assert [one.dataset for one in measure(data, tmp_path, ImagesOnly(), FEW_SHOT_FROM_TEXTS).skipped] == ["CIFAR10"]


def test_classifiers_that_begin_at_zero_shot(data, tmp_path):
    found = measure(data, tmp_path, Colours(), FEW_SHOT_FROM_TEXTS)
    by_protocol = {protocol_in_words(result): result for result in found.results}
    kinds = ("zero-shot-initialised", "interpolated")
    assert {result.task for result in found.results} == {"few_shot_from_texts"}
    assert set(by_protocol) == {f"{kind} {shots}-shot" for kind in kinds for shots in (1, 2, 4)}
    assert by_protocol["interpolated 1-shot"].run["settings"]["share"] == [0.5] * 3
    assert "share" not in by_protocol["zero-shot-initialised 1-shot"].run["settings"]
    assert by_protocol["zero-shot-initialised 4-shot"].run["settings"]["choice"] == "4-fold cross-validation"
    probe = measure(data, tmp_path, Colours(), FEW_SHOT).results[0]
    assert probe.run["settings"]["width"] == 4  # it has no features: embeddings
    assert by_protocol["zero-shot-initialised 1-shot"].value > probe.value  # here the texts know the colours


def test_the_same_seed_gives_the_same_numbers_with_and_without_kept_classifiers(small, tmp_path):
    first = measure(small, tmp_path, Colours(), FEW_SHOT)
    kept = list((tmp_path / "cache/few_shot").glob("*.safetensors"))
    assert len(kept) == 6
    kept[0].write_bytes(b"broken")
    setting = Setting(small, cache=tmp_path / "cache")
    again = FEW_SHOT.measure(Colours(), get_card("CIFAR10"), setting).results
    without = FEW_SHOT.measure(Colours(), get_card("CIFAR10"), Setting(small)).results
    values = [[result.value for result in results] for results in (first.results, again, without)]
    assert values[0] == values[1] == values[2]
    other = FEW_SHOT.measure(Colours(), get_card("CIFAR10"), Setting(small, seed=3)).results
    assert other[0].run["settings"]["seeds"] == [3, 4, 5]
    assert other[0].run["settings"]["values"] != first.results[0].run["settings"]["values"]


class Blind:
    """Sees the same in every picture: each draw scores one class, and the mean of equal scores is rounded."""

    name = "blind"

    def encode_images(self, pictures):
        return torch.ones(len(pictures), 4) / 2


def test_equal_scores_of_all_draws_are_kept(tmp_path):
    """(0.2 + 0.2 + 0.2) / 3 is above 0.2 in floating point: the whole measurement was lost, without an error."""
    for split in ("train", "test"):
        for name in NAMES[:5]:
            folder = tmp_path / "sets" / "five" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(folder / "a.png")
    found = run_suite(Blind(), [FEW_SHOT], [own_card(tmp_path / "sets" / "five")], Setting(tmp_path / "sets"), tmp_path)
    assert [(one.low, one.value, one.high) for one in read_all(tmp_path)] == [(0.2, 0.2, 0.2)]
    assert found.results == read_all(tmp_path)


def test_what_is_no_measurement_is_an_error_not_a_loss(tmp_path):
    good = FEW_SHOT.name, "five", "test", "accuracy", 0.5, 2
    for low, high in ((0.6, 0.7), (float("nan"), 1.0), (None, 1.0)):
        with pytest.raises(InputError, match="is no measurement"):
            write_part(tmp_path / "a.json", None, [Result(*good, low, high, "range", "probe 1-shot", "blind")])
    assert not (tmp_path / "a.json").exists()


def test_a_broken_kept_classifier_is_named(small, tmp_path, caplog):
    setting = Setting(small, cache=tmp_path / "cache")
    before = FEW_SHOT.measure(Colours(), get_card("CIFAR10"), setting).results
    for path in (tmp_path / "cache/few_shot").glob("*.safetensors"):
        path.write_bytes(b"broken")
    with caplog.at_level(logging.WARNING):
        after = FEW_SHOT.measure(Colours(), get_card("CIFAR10"), setting).results
    assert caplog.text.count("is learned again") == 6
    assert [result.value for result in before] == [result.value for result in after]


def test_a_kept_classifier_is_what_was_learned(small, tmp_path, caplog):
    """Without a file yet nothing is called broken; with one, it is read and not learned again, whatever it says."""
    pool = Pool(encoded(np.repeat(np.arange(4), 3), 1), 4, np.ones((4, 16), np.float32), tmp_path / "kept")
    ranks = draw_ranks(pool.train.keys, pool.train.labels, 5)
    learned = {name: pool.learn(name, 2, 5, ranks) for name in ("probe", "interpolated")}
    assert "broken" not in caplog.text
    again = dataclasses.replace(pool, train=dataclasses.replace(pool.train, vectors=pool.train.vectors * 0))
    for name, fit in learned.items():
        kept = again.learn(name, 2, 5, ranks)
        assert np.array_equal(kept.weights, fit.weights) and np.array_equal(kept.bias, fit.bias)
        assert (kept.penalty, kept.share, kept.choice) == (fit.penalty, fit.share, fit.choice)
    others = [(again, ("probe", 1, 5)), (again, ("probe", 2, 6)), (dataclasses.replace(again, num_classes=5), None)]
    others.append((dataclasses.replace(again, train=dataclasses.replace(again.train, fingerprint="other")), None))
    for other, asked in others:
        assert not other.learn(*(asked or ("probe", 2, 5)), ranks).weights[:4].any()


def test_other_weights_never_meet_kept_classifiers(small, tmp_path):
    class Darker(Colours):
        def encode_images(self, pictures):
            return super().encode_images(pictures)[:, [1, 0, 3, 2]]

    setting = Setting(small, cache=tmp_path / "cache")
    FEW_SHOT.measure(Colours("a"), get_card("CIFAR10"), setting)
    FEW_SHOT.measure(Darker("b"), get_card("CIFAR10"), setting)
    assert len(list((tmp_path / "cache/few_shot").iterdir())) == 12


def test_a_set_without_a_training_split_is_skipped_with_the_reason(tmp_path):
    write_set(tmp_path / "data", {"test": 2})
    found = measure(tmp_path / "data", tmp_path, Colours(), FEW_SHOT)
    assert not found.results and "train" in found.skipped[0].reason


def test_draws_are_from_training_and_validation_images(tmp_path):
    """Flowers102 has 10 + 10 images a class: 16 shots are possible, as table 9's 2,040 say."""
    for split, per_class in (("train", 2), ("val", 3), ("test", 1)):
        for label, names in enumerate(get_prompts("Flowers102").class_names):
            folder = tmp_path / "Flowers102" / split / names[0].replace("/", " ")
            folder.mkdir(parents=True)
            for number in range(per_class):
                colour = np.random.default_rng([label, number]).integers(0, 255, 3).astype(np.uint8)
                Image.fromarray(np.broadcast_to(colour, (4, 4, 3)).copy()).save(folder / f"{number}.png")
    found = FEW_SHOT.measure(ImagesOnly(), get_card("Flowers102"), Setting(tmp_path)).results
    assert [protocol_in_words(one) for one in found] == [
        "probe 1-shot",
        "probe 2-shot",
        "probe 4-shot",
    ]  # of 5; train has 2
    settings = found[0].run["settings"]
    assert (settings["drawn_from"], settings["train_examples"]) == ("train and validation", 510)
    assert settings["examples_per_class"] == 5
    assert settings["deviations"] == ["learned from 510 images, the paper from 2,040"]
    assert FEW_SHOT.splits(get_card("Flowers102")) == ("train", "val", "test")


def test_joined_splits_are_the_rows_of_both():
    train, val = encoded(np.array([0, 1, 2]), 1), encoded(np.array([2, 1]), 1)
    joined = TrainingSet(get_card("Flowers102"), 3, train, val).joined()
    assert joined.labels.tolist() == [0, 1, 2, 2, 1] and len(set(joined.keys)) == 5
    rows = np.array([4, 0, 3])
    np.testing.assert_array_equal(joined.vectors[rows], np.concatenate([train.vectors, val.vectors])[rows])
    assert joined.fingerprint not in (train.fingerprint, val.fingerprint)
    assert TrainingSet(get_card("Flowers102"), 3, train, None).joined() is train


def test_what_it_applies_to():
    applies = {
        name: FEW_SHOT.applies(get_card(name)) for name in ("CIFAR10", "UCF101", "VOC2007", "Flickr30k", "IM2GPS")
    }
    assert applies == {"CIFAR10": True, "UCF101": True, "VOC2007": False, "Flickr30k": False, "IM2GPS": False}
    shift, home = get_card("ImageNet-A"), get_card("CIFAR10")
    for task in (FEW_SHOT, FEW_SHOT_FROM_TEXTS):
        assert task.applies(shift) and (task.splits(shift), task.splits(home)) == (("test",), ("train", "val", "test"))
        assert task.others(shift) == (("ImageNet", "train"),) and task.others(home) == ()
    assert FEW_SHOT_FROM_TEXTS.needs_texts and not FEW_SHOT.needs_texts


def encoded(labels, seed, metadata=None):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(5).normal(size=(1000, 16))
    vectors = (centres[labels] + 0.8 * rng.normal(size=(len(labels), 16))).astype(np.float32)
    keys = tuple(f"{seed}-{row}" for row in range(len(labels)))
    return Encoded(
        keys, np.asarray(labels), vectors, ((),) * len(labels), metadata or ({},) * len(labels), 0, f"{seed}"
    )


def test_imagenet_s_classifier_is_measured_on_the_classes_of_a_shift():
    """20 of ImageNet's classes are learned; pooling over a shift's classes is done by hand here."""
    classes = np.array([1, 2, 4, 6, 11, 13, 15, 17, 22, 23, 404, 351, 352, 353, 294, 295, 296, 297, 444, 671])
    train = encoded(np.repeat(classes, 2), 1)
    pool = Pool(train, 1000)
    # ImageNet-Vid: class 0 is {404}, 1 is {351, 352, 353}, 2 is {294 to 297}, 3 is {444, 671}.
    members = np.array([404, 351, 352, 353, 294, 295, 296, 297, 444, 671] * 5)
    groups = np.array([0, 1, 1, 1, 2, 2, 2, 2, 3, 3] * 5)
    shift = dataclasses.replace(encoded(members, 2), labels=groups)
    names = tuple(map(str, range(30)))
    benchmark = Benchmark("ImageNet-Vid", "test", names, ("{c}",), Nothing(), "x", card=get_card("ImageNet-Vid"))
    found = few_shot_results(Colours(), pool, benchmark, shift, ["probe"])
    assert [(result.protocol, dict(result.condition), result.metric) for result in found] == [
        ("draws", {"classifier": "probe", "shots": shots}, "accuracy_pm_0") for shots in (1, 2)
    ]
    values = []
    for seed in range(3):
        rows = drawn_rows(draw_ranks(train.keys, train.labels, seed), train.labels, 2)
        scores = fit_few_shot("probe", train.vectors[rows], train.labels[rows], 1000, 2).scores(shift.vectors)
        learned = [[404], [351, 352, 353], [294, 295, 296, 297], [444, 671], [11, 13, 15, 17, 22, 23]]  # 4: birds
        pooled = np.stack([scores[:, own].max(axis=1) for own in learned], axis=1)
        # Classes without an example score lower than all others here, so that the other 25 groups never win.
        values.append(np.mean(pooled.argmax(axis=1) == groups))
    assert found[1].run["settings"]["values"] == pytest.approx(values)
    assert found[1].value > 0.5


def test_what_a_result_says_of_its_draws():
    train, test = encoded(np.repeat(np.arange(4), [2, 2, 2, 3]), 1), encoded(np.arange(8) % 4, 2)
    zero_shot = np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)
    pool = Pool(
        train, 4, zero_shot, splits="train and more", deviations=("few",), classes={"classes": {"tested": [3, 4]}}
    )
    benchmark = Benchmark("own", "test", tuple("abcd"), ("{c}",), Nothing(), "x")
    names = ("probe", "interpolated")
    found = few_shot_results(Colours(), pool, benchmark, dataclasses.replace(test, num_broken=2), names, seed=7)
    assert [protocol_in_words(one) for one in found] == [f"{name} {shots}-shot" for shots in (1, 2) for name in names]
    for one, (shots, name) in zip(found, ((shots, name) for shots in (1, 2) for name in names), strict=True):
        fits, values = [], []
        for seed in (7, 8, 9):
            rows = drawn_rows(draw_ranks(train.keys, train.labels, seed), train.labels, shots)
            fits.append(fit_few_shot(name, train.vectors[rows], train.labels[rows], 4, shots, zero_shot=zero_shot))
            values.append((fits[-1].scores(test.vectors).argmax(axis=1) == test.labels).mean())
        assert one.run["settings"] == {
            "shots": shots,
            "seeds": [7, 8, 9],
            "lambda": [fit.penalty for fit in fits],
            "choice": "fixed",
            "train_examples": 9,
            "examples_per_class": 9 / 4,
            "width": 16,
            "drawn_from": "train and more",
            "classes": {"tested": [3, 4]},
            "deviations": ["few"],
            "broken": 2,
            "values": values,
            **({"share": [0.5] * 3} if name == "interpolated" else {}),
        }
        assert (one.value, one.low, one.high) == (np.mean(values), min(values), max(values))
        assert (one.task, one.metric, one.n, one.run["fingerprint"]) == ("few_shot", "accuracy", 8, "x")
    plain = few_shot_results(Colours(), dataclasses.replace(pool, deviations=()), benchmark, test, ["probe"])[0]
    assert plain.run["settings"]["seeds"] == [0, 1, 2] and not plain.run["settings"].keys() & {"deviations", "broken"}


def test_imagenet_itself_gives_the_parts_that_match_its_shifts():
    classes = np.array([1, 2, 4, 6, 11, 13, 15, 17, 22, 23])
    test = encoded(np.repeat(classes, 3), 2)
    benchmark = Benchmark("ImageNet", "test", tuple(map(str, range(1000))), ("{c}",), Nothing(), "x")
    benchmark = dataclasses.replace(benchmark, card=get_card("ImageNet"))
    found = few_shot_results(Colours(), Pool(encoded(classes, 1), 1000), benchmark, test, ["probe"])
    parts = {protocol_in_words(result): result.n for result in found}
    assert parts["probe 1-shot"] == 30
    assert parts["probe 1-shot on ImageNet-A"] == 3 * 7  # 6, 11, 13, 15, 17, 22, 23
    assert parts["probe 1-shot on ImageNet-R"] == 3 * 8  # 1, 2, 4, 6, 11, 13, 22, 23
    assert all(result.interval == "range of 3 seeds" for result in found)
    assert {result.task for result in found} == {"few_shot"}


def test_points_are_those_of_the_metrics():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 6, 50), rng.normal(size=(50, 6)).astype(np.float32)
    assert point("accuracy", labels, scores) == np.mean(scores.argmax(axis=1) == labels)
    assert point("mean_per_class_accuracy", labels, scores) == mean_per_class_accuracy(labels, scores)
    assert point("mean_of_top_1_and_5", labels, scores) == mean_of_top_1_and_5(labels, scores)
    two = labels % 2
    assert point("roc_auc", two, scores[:, :2]) == roc_auc(two == 1, scores[:, 1] - scores[:, 0])
    assert point("mean_of_top_1_and_5", two, scores[:, :2]) == (point("accuracy", two, scores[:, :2]) + 1) / 2
    for metric, given in (("recall_at_1", scores), ("roc_auc", scores), ("accuracy", scores * np.nan)):
        with pytest.raises(InputError):
            point(metric, labels, given)


def test_splits_of_different_classes_are_refused(tmp_path):
    write_set(tmp_path / "data", {"train": 2, "test": 2})
    for number in range(2):
        (tmp_path / f"data/CIFAR10/train/cat/train{number}.png").unlink()
    (tmp_path / "data/CIFAR10/train/cat").rmdir()
    with pytest.raises(DataError, match="classes"):
        FEW_SHOT.measure(Colours(), get_card("CIFAR10"), Setting(tmp_path / "data"))
