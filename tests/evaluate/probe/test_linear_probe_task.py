"""The linear probe on sets on disk: splits, folds, several labels, kept classifiers, ImageNet's probe on a shift."""

import dataclasses
import logging

import miniatures
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from diptych.data.decoding import decode_image
from diptych.errors import InputError
from diptych.evalsets.cards import get_card
from diptych.evalsets.opening import open_card
from diptych.evalsets.prompts import get_prompts
from diptych.evalsets.user_sets import own_card
from diptych.evaluate.encoded_set import Encoded
from diptych.evaluate.probe.linear_probe import LinearProbe
from diptych.evaluate.probe.probe_cache import _learn, learn_probe
from diptych.evaluate.probe.training_set import TrainingSet, deviations
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks.probe_tasks import IMAGENET_PROBE, LINEAR_PROBE, PROJECTED_PROBE
from diptych.evaluate.tasks.task import Setting
from diptych.paper.exhibits.tables_10_11 import TABLE_10

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
STL_NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
COLOURS = np.random.default_rng(1).integers(30, 225, (10, 3))


class Pictures:
    """Sees the mean colour of a picture; its features have a constant beside it. It reads nothing."""

    name = "colours"

    def __init__(self, mark="weights"):
        self.image_fingerprint = mark

    def image_features(self, pictures):
        colours = np.stack([np.asarray(picture.convert("RGB")).mean(axis=(0, 1)) for picture in pictures])
        return torch.tensor(np.c_[colours / 128 - 1, np.ones(len(colours))], dtype=torch.float32)

    def encode_images(self, pictures):
        return torch.nn.functional.normalize(self.image_features(pictures), dim=1)


def shade(label, *seeds):
    return np.clip(COLOURS[label] + np.random.default_rng([label, *seeds]).normal(0, 25, 3), 0, 255).astype(np.uint8)


def write_cifar10(root, **sizes):
    for place, (split, per_class) in enumerate(sizes.items()):
        for label, name in enumerate(NAMES):
            folder = root / "CIFAR10" / split / name
            folder.mkdir(parents=True)
            for number in range(per_class):
                pixels = np.broadcast_to(shade(label, place, number), (4, 4, 3))
                Image.fromarray(pixels.copy()).save(folder / f"{split}{number}.png")


def test_train_is_searched_fitted_and_measured_on_test(tmp_path):
    write_cifar10(tmp_path / "data", train=10, test=6)
    setting = Setting(tmp_path / "data", cache=tmp_path / "cache")
    found = run_suite(Pictures(), [LINEAR_PROBE, PROJECTED_PROBE], [get_card("CIFAR10")], setting, tmp_path / "out")
    assert not found.skipped
    features, projected = found.results
    assert (features.task, features.protocol, features.metric) == ("linear_probe", "features", "accuracy")
    assert (projected.task, projected.protocol) == ("projected_probe", "projected")
    assert features.n == 60 and features.low < features.value < features.high and features.value > 0.5
    settings = features.run["settings"]
    assert settings["validation"] == "a fifth of train" and settings["train"] == 100 and 12 <= settings["fits"] <= 16
    # The same by scikit-learn, at the penalty that was found.
    rows = {split: colours(split, place, size) for place, (split, size) in enumerate({"train": 10, "test": 6}.items())}
    peer = LogisticRegression(C=1 / settings["lambda"], tol=1e-8, max_iter=1000).fit(*rows["train"])
    assert features.value == pytest.approx(peer.score(*rows["test"]), abs=1 / 60 + 1e-9)


def colours(split, place, size):
    labels = np.repeat(np.arange(10), size)
    shades = np.stack([shade(label, place, number) for label in range(10) for number in range(size)])
    return np.c_[shades / 128.0 - 1, np.ones(len(shades))], labels


def test_a_kept_probe_is_learned_once_and_never_of_other_weights(tmp_path, caplog):
    write_cifar10(tmp_path / "data", train=5, test=2)
    setting, card = Setting(tmp_path / "data", cache=tmp_path / "cache"), get_card("CIFAR10")
    (first,) = LINEAR_PROBE.measure(Pictures(), card, setting).results
    (kept,) = (tmp_path / "cache/probes").iterdir()
    written = kept.stat().st_mtime_ns
    (again,) = LINEAR_PROBE.measure(Pictures(), card, setting).results
    (without,) = LINEAR_PROBE.measure(Pictures(), card, Setting(tmp_path / "data")).results
    assert first.value == again.value == without.value
    assert first.run["settings"] == again.run["settings"] == without.run["settings"]
    assert kept.stat().st_mtime_ns == written
    kept.write_bytes(b"broken")
    with caplog.at_level(logging.WARNING):
        LINEAR_PROBE.measure(Pictures(), card, setting)
    assert "computed again" in caplog.text
    LINEAR_PROBE.measure(Pictures("other weights"), card, setting)
    assert len(list((tmp_path / "cache/probes").iterdir())) == 2


def test_the_score_of_stl10_is_the_mean_over_its_folds(tmp_path, caplog):
    base = tmp_path / "STL10/stl10_binary"
    base.mkdir(parents=True)
    (base / "class_names.txt").write_text("\n".join(STL_NAMES))
    labels = np.tile(np.arange(10), 5)
    folds = [[row for row in range(50) if (row // 10 + row) % 5 != n % 5 and row % 7 != n % 7] for n in range(10)]
    (base / "fold_indices.txt").write_text("\n".join(" ".join(map(str, rows)) for rows in folds))
    for place, split in enumerate(("train", "test")):
        planes = [np.broadcast_to(shade(label, place, n)[:, None, None], (3, 96, 96)) for n, label in enumerate(labels)]
        (base / f"{split}_X.bin").write_bytes(b"".join(plane.tobytes() for plane in planes))
        (base / f"{split}_y.bin").write_bytes(bytes((labels + 1).tolist()))
    (found,) = LINEAR_PROBE.measure(Pictures(), get_card("STL10"), Setting(tmp_path)).results
    settings = found.run["settings"]
    assert len(settings["values"]) == len(settings["lambda"]) == 10 and settings["train"] == len(folds[0])
    assert found.value == pytest.approx(np.mean(settings["values"])) and found.value > 0.4
    assert (found.low, found.high) == (min(settings["values"]), max(settings["values"]))
    assert found.interval == "range of 10 folds" and found.n == 50
    assert len(set(settings["values"])) > 1


def test_validation_pictures_are_searched_on_and_learned_from(tmp_path):
    miniatures.build("DTD", tmp_path / "DTD")
    (found,) = LINEAR_PROBE.measure(Pictures(), get_card("DTD"), Setting(tmp_path)).results
    settings = found.run["settings"]
    assert settings["validation"] == "val" and settings["train"] == 94 and found.n == 47
    assert settings["deviations"] == ["learned from 94 images, the paper from 3,760"]


def test_an_own_set_s_validation_split_is_searched_on_by_any_word(tmp_path):
    write_cifar10(tmp_path, train=4, validation=2, test=3)
    (tmp_path / "CIFAR10").rename(tmp_path / "own")
    (found,) = LINEAR_PROBE.measure(Pictures(), own_card(tmp_path / "own"), Setting(tmp_path)).results
    assert (found.run["settings"]["validation"], found.run["settings"]["train"], found.n) == ("val", 60, 30)


def test_a_set_without_its_validation_split_says_what_was_learned_from(tmp_path, caplog):
    """The layout of the hub's copies: Flowers102 there has 1,020 images to learn from, and no validation split."""
    root = tmp_path / "Flowers102"
    for split, per_class in (("train", 3), ("test", 1)):
        for label, name in enumerate(get_prompts("Flowers102").class_names):
            folder = root / split / name[0].replace("/", " ")
            folder.mkdir(parents=True)
            for number in range(per_class):
                pixels = np.broadcast_to(shade(label % 10, number), (4, 4, 3))
                Image.fromarray(pixels.copy()).save(folder / f"{split}{number}.png")
    (found,) = LINEAR_PROBE.measure(Pictures(), get_card("Flowers102"), Setting(tmp_path)).results
    settings = found.run["settings"]
    assert (settings["train"], settings["validation"]) == (306, "a fifth of train")
    assert settings["deviations"] == [
        "learned from 306 images, the paper from 2,040",
        "validation images were taken from the training split; the set has 1,020 of its own",
    ]
    assert all(words in caplog.text for words in settings["deviations"])
    shown = TABLE_10.build([found])
    assert any("other numbers of images than the paper's: Flowers102 (306, not 2,040)" in one for one in shown.notes)
    assert any("taken from the training split" in one and "Flowers102" in one for one in shown.notes)


@pytest.mark.parametrize(
    ("train", "val", "words"), [(1020, True, []), (1020, False, ["its own"]), (20, True, ["learn"])]
)
def test_what_differs_from_the_papers_training_set(train, val, words):
    card = dataclasses.replace(get_card("Flowers102"), paper_sizes=(1020, 6149))
    found = deviations(card, train, val)
    assert len(found) == len(words) and all(word in one for word, one in zip(words, found, strict=True))


def test_several_labels_per_picture(tmp_path):
    miniatures.build("VOC2007", tmp_path / "VOC2007")
    (found,) = LINEAR_PROBE.measure(Pictures(), get_card("VOC2007"), Setting(tmp_path)).results
    assert found.metric == "mean_average_precision_11_point" and found.n == 21
    assert found.value == pytest.approx(voc_by_hand(tmp_path), abs=1e-6)
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((200, 6)).astype(np.float32)
    present = vectors[:, :20] @ rng.standard_normal((6, 20)) > 0.5
    metadata = tuple({"labels": tuple(np.flatnonzero(row)), "ignored": ()} for row in present)
    encoded = Encoded(("",) * 200, np.zeros(200, np.int64), vectors, ((),) * 200, metadata, 0, "x")
    learned = _learn(TrainingSet(get_card("VOC2007"), 20, encoded, None), 0)
    assert ((learned.fitted.scores(vectors) > 0) == present).mean() > 0.95


def test_difficult_objects_are_not_learned_from():
    """Each class is scikit-learn's logistic regression on the pictures in which it is not a difficult object."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((80, 4)).astype(np.float32)
    present = vectors[:, :2] + 0.5 * rng.standard_normal((80, 2)) > 0.3
    difficult = (vectors[:, :2] > 0.3) & (rng.random((80, 2)) < 0.5)
    present &= ~difficult  # as negatives they would turn the classifier
    assert (difficult.sum(axis=0) > 9).all() and (present.sum(axis=0) > 9).all()
    metadata = tuple(
        {"labels": tuple(np.flatnonzero(yes)), "ignored": tuple(np.flatnonzero(no))}
        for yes, no in zip(present, difficult, strict=True)
    )
    encoded = Encoded(("",) * 80, np.zeros(80, np.int64), vectors, ((),) * 80, metadata, 0, "x")
    learned = _learn(TrainingSet(get_card("VOC2007"), 2, encoded, None), 0)
    for label in range(2):
        rows = ~difficult[:, label]
        peer = LogisticRegression(C=1 / learned.settings["lambda"], tol=1e-8, max_iter=1000)
        peer.fit(vectors[rows].astype(float), present[rows, label])
        assert learned.fitted.weights[label] == pytest.approx(peer.coef_[0], rel=2e-3, abs=2e-3)
        assert learned.fitted.bias[label] == pytest.approx(peer.intercept_[0], rel=2e-3, abs=2e-3)


def voc_by_hand(root):
    """The probe's mean average precision on the miniature: image n of a split shows the classes n and n + 1, and a
    difficult n + 2; the last one shows nothing. Classes without a counted object in the test split do not exist."""
    learned = learn_probe(Pictures(), get_card("VOC2007"), Setting(root), "features")
    test = open_card(get_card("VOC2007"), root, "test")
    samples = [one for index in range(len(test.source.shards)) for one in test.source.read(index)]
    pictures = [decode_image(one.image) for one in samples]
    scores = learned.fitted.scores(Pictures().image_features(pictures).numpy())
    found = []
    for label in range(20):
        rows = [
            (scores[n, label], n != 20 and (label - n) % 20 in (0, 1))
            for n in range(21)
            if n == 20 or (label - n) % 20 != 2
        ]
        total, points = sum(right for _, right in rows), []
        for least in sorted({score for score, _ in rows}):
            above = [right for score, right in rows if score >= least]
            points.append((sum(above) / total, sum(above) / len(above)))
        found.append(sum(max(p for r, p in points if 10 * r >= tenth - 1e-6) for tenth in range(11)) / 11)
    return np.mean(found)


def test_two_classes_and_a_class_without_a_training_picture():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 2], 40)
    vectors = (labels[:, None] + rng.standard_normal((80, 3))).astype(np.float32)
    encoded = Encoded(("",) * 80, labels, vectors, ((),) * 80, ({},) * 80, 0, "x")
    scores = _learn(TrainingSet(get_card("CIFAR10"), 4, encoded, None), 0).fitted.scores(vectors)
    assert scores.shape == (80, 4)
    assert set(scores.argmax(axis=1)) == {0, 2} and (scores.argmax(axis=1) == labels).mean() > 0.75
    np.testing.assert_allclose(scores[:, 0], -scores[:, 2], rtol=1e-5)


def test_what_a_learned_probe_says_of_itself():
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(3), 30)
    vectors = (np.eye(3)[labels] @ rng.standard_normal((3, 5)) + rng.standard_normal((90, 5))).astype(np.float32)
    encoded = Encoded(("",) * 90, labels, vectors, ((),) * 90, ({},) * 90, 0, "x")
    settings = _learn(TrainingSet(get_card("CIFAR10"), 3, encoded, None), 4).settings
    probe = LinearProbe(seed=4).fit(vectors, labels)
    assert settings["fits"] == len(probe.search_.trials) + 1 and settings["lambda"] == probe.lambda_
    assert (settings["train"], settings["validation"]) == (90, "a fifth of train")
    assert settings["objective"] == probe.fitted_.objective and settings["steps"] == probe.fitted_.iterations
    assert settings["excess"] == probe.fitted_.excess and settings["converged"] is True
    for given in (labels, rng.permutation(labels)):
        found = _learn(TrainingSet(get_card("CIFAR10"), 3, dataclasses.replace(encoded, labels=given), None), 4)
        edge = LinearProbe(seed=4).fit(vectors, given).search_.edge
        assert found.settings.get("search ends at") == (f"the {edge} penalty" if edge else None)
    with pytest.raises(InputError, match="has 1 class; a probe needs two"):
        _learn(TrainingSet(get_card("CIFAR10"), 1, encoded, None), 0)


def test_which_sets_it_applies_to():
    assert all(LINEAR_PROBE.applies(get_card(name)) for name in ("ImageNet", "VOC2007", "UCF101", "MNIST"))
    assert not any(LINEAR_PROBE.applies(get_card(name)) for name in ("ImageNetV2", "Flickr30k", "IM2GPS"))
    assert all(IMAGENET_PROBE.applies(get_card(name)) for name in ("ImageNet", "ImageNetV2", "ObjectNet"))
    assert not IMAGENET_PROBE.applies(get_card("CIFAR10"))


def test_imagenet_s_probe_on_its_parts_and_on_a_shift(tmp_path):
    ids = {0: "n01440764", 1: "n01443537", 999: "n15075141"}
    base, rows = tmp_path / "ImageNet/ILSVRC/Data/CLS-LOC", ["ImageId,PredictionString"]
    matched = tmp_path / "ImageNetV2/imagenetv2-matched-frequency-format-val"
    for place, (label, wordnet_id) in enumerate(ids.items()):
        for number in range(6):
            name = f"ILSVRC2012_val_{10 * place + number:08d}"
            rows.append(f"{name},{wordnet_id} 1 2 3 4")
            paths = (base / f"train/{wordnet_id}/{wordnet_id}_{number}.JPEG", base / f"val/{name}.JPEG")
            for seed, path in enumerate((*paths, matched / f"{label}/{number}.jpeg")):
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.broadcast_to(shade(place, seed, number), (8, 8, 3))
                Image.fromarray(pixels.copy()).save(path)
    (tmp_path / "ImageNet/LOC_val_solution.csv").write_text("\n".join(rows))
    setting = Setting(tmp_path, cache=tmp_path / "cache", partial=True)
    (whole,) = LINEAR_PROBE.measure(Pictures(), get_card("ImageNet"), setting).results
    assert whole.n == 18 and whole.value > 0.6  # of 1,000 classes, of which three have training pictures
    found = IMAGENET_PROBE.measure(Pictures(), get_card("ImageNet"), setting).results
    parts = {one.condition["subset"]: one for one in found}
    assert parts["ImageNet-R"].n == 6 and {one.task for one in found} == {"imagenet_probe"}  # the goldfish
    (shifted,) = IMAGENET_PROBE.measure(Pictures(), get_card("ImageNetV2"), setting).results
    assert (shifted.task, shifted.protocol, shifted.n) == ("imagenet_probe", "adapted", 18)
    assert shifted.value > 0.6
    assert len(list((tmp_path / "cache/probes").iterdir())) == 1  # learned once for all of these
