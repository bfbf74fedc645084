"""Bad input to the paper's evaluation: a clear error or a counted skip, and never a number."""

import json

import numpy as np
import pytest
from embedding import make_vit
from PIL import Image
from shaded_sets import NAMES, Shades, png, write_folders, write_wds

from diptych.data.transforms import Preprocessing
from diptych.embed import load
from diptych.embed.model import Model
from diptych.errors import ConfigError, DataError, InputError, WeightsError
from diptych.evalsets.benchmark import open_benchmark
from diptych.evalsets.cards import get_card
from diptych.evalsets.user_sets import own_card
from diptych.evaluate.metrics.score import score
from diptych.evaluate.probe.linear_probe import LinearProbe
from diptych.evaluate.suite import part_path, run_suite
from diptych.evaluate.tasks.few_shot_tasks import FEW_SHOT, FEW_SHOT_FROM_TEXTS
from diptych.evaluate.tasks.probe_tasks import LINEAR_PROBE
from diptych.evaluate.tasks.retrieval import RETRIEVAL
from diptych.evaluate.tasks.task import Setting
from diptych.evaluate.tasks.zero_shot import ZERO_SHOT
from diptych.records import read_results

PROBES = (LINEAR_PROBE, FEW_SHOT, FEW_SHOT_FROM_TEXTS)


def skipped(data, tmp_path, tasks, encoder=None, card="CIFAR10"):
    """The reasons of the suite, which must not have a single number; few classes alone are none of them."""
    setting = Setting(data, cache=tmp_path / "cache", partial=True)
    card = card if not isinstance(card, str) else get_card(card)
    found = run_suite(encoder or Shades(), tasks, [card], setting, tmp_path / "out")
    assert not found.results and not list((tmp_path / "out").rglob("*.json"))
    return [one.reason for one in found.skipped]


@pytest.mark.parametrize("task", PROBES, ids=lambda task: task.name)
def test_without_a_training_split_nothing_is_learned(tmp_path, task):
    [reason] = skipped(write_folders(tmp_path / "data", ("test",)), tmp_path, [task])
    assert "no split train" in reason


@pytest.mark.parametrize("task", PROBES, ids=lambda task: task.name)
def test_class_folders_without_splits_are_not_learned_from_and_tested_on(tmp_path, task):
    data = write_folders(tmp_path / "data", ("",))
    [reason] = skipped(data, tmp_path, [task])
    assert "it has no split train; class folders without splits are the test split" in reason
    assert run_suite(Shades(), [ZERO_SHOT], [get_card("CIFAR10")], Setting(data), tmp_path / "zero-shot").results


def test_class_folders_without_splits_are_no_validation_split(tmp_path):
    """`--split val` measured the same pictures and called them val."""
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "pets" / name / "a.png")
    assert open_benchmark(tmp_path / "pets").class_names == ("cat", "dog")
    for split in ("val", "train", "tset"):
        with pytest.raises(DataError, match=f"has no split {split}; a folder per class, without .* is a test split"):
            open_benchmark(tmp_path / "pets", split)


def test_without_a_test_split_nothing_is_measured(tmp_path):
    reasons = skipped(write_wds(tmp_path / "data", [0, 1], "train"), tmp_path, [ZERO_SHOT, *PROBES])
    assert len(reasons) == 4 and all("lacks test/nshards.txt; its splits are: train" in one for one in reasons)


def test_one_class_more_is_another_set(tmp_path):
    [reason] = skipped(write_wds(tmp_path / "data", [0, 1], names=(*NAMES, "bus")), tmp_path, [ZERO_SHOT])
    assert "CIFAR-10 has 10 classes, but CIFAR10 has 11: is it another set?" in reason


def test_a_class_that_a_copy_lacks_stays_a_candidate_and_is_named(tmp_path, caplog):
    data = write_wds(tmp_path / "data", [0, 1], names=NAMES[:9])
    card, out = get_card("CIFAR10"), tmp_path / "out"
    [few] = run_suite(Shades(), [ZERO_SHOT], [card], Setting(data), out).skipped
    assert "its test images show 2 of 10 classes" in few.reason and "--partial" in few.reason
    done = run_suite(Shades(), [ZERO_SHOT], [card], Setting(data, partial=True), out)
    assert {(result.n, tuple(result.run["settings"]["classes"]["tested"])) for result in done.results} == {(2, (2, 10))}
    assert NAMES[9] in caplog.text


@pytest.mark.parametrize(
    ("task", "split"),
    [*((task, "train") for task in PROBES), (LINEAR_PROBE, "val")],
    ids=[*(f"{task.name} train" for task in PROBES), "linear_probe val"],
)
def test_splits_with_other_classes_do_not_meet(tmp_path, task, split):
    """As many classes, but the labels would mean others."""
    for one in ("train", "val", "test"):
        names = ("bus", "cat", "dog") if one == split else ("cat", "dog", "wolf")
        for name in names:
            folder = tmp_path / "data/animals" / one / name
            folder.mkdir(parents=True)
            for number in range(5):
                (folder / f"{number}.png").write_bytes(png(10 * len(name) + number))
    [reason] = skipped(tmp_path / "data", tmp_path, [task], card=own_card(tmp_path / "data/animals"))
    assert "'bus'" in reason and "'wolf'" in reason and "all splits need the same classes" in reason


def test_labels_out_of_range_are_no_samples(tmp_path):
    [reason] = skipped(write_wds(tmp_path / "data", [*range(10), 10]), tmp_path, [ZERO_SHOT])
    assert "1 of 11 samples are broken" in reason
    few = write_wds(tmp_path / "few", [*range(10)] * 20 + [10, -1])
    found = run_suite(Shades(), [ZERO_SHOT], [get_card("CIFAR10")], Setting(few), tmp_path / "few-out")
    assert {(one.n, one.run["settings"]["broken"]) for one in found.results} == {(200, 2)}
    for labels in ([0, 3], [-1, 0]):
        with pytest.raises(InputError, match=r"labels must lie in \[0, 3\)"):
            score("accuracy", np.array(labels), np.eye(3)[:2])


@pytest.mark.parametrize("task", PROBES, ids=lambda task: task.name)
def test_training_pictures_of_one_class_teach_nothing(tmp_path, task):
    write_wds(tmp_path / "data", [3] * 8, "train")
    [reason] = skipped(write_wds(tmp_path / "data", [0, 1, 2]), tmp_path, [task])
    assert "one class" in reason or "of 1 class" in reason or "have 1 class" in reason


def test_one_class_alone_has_no_area_and_no_classifier(tmp_path):
    with pytest.raises(InputError, match="there is nothing to rank"):
        score("roc_auc", np.ones(4, int), np.random.default_rng(0).standard_normal((4, 2)))
    (tmp_path / "one/test/cat").mkdir(parents=True)
    (tmp_path / "one/test/cat/0.png").write_bytes(png(3))
    with pytest.raises(DataError, match="a classifier needs two or more"):
        own_card(tmp_path / "one")


def test_corrupt_pictures_are_counted_in_every_split(tmp_path):
    write_wds(tmp_path / "data", [*range(10)] * 20 + [None], "train")
    write_wds(tmp_path / "data", [*range(10)] * 15 + [None])
    setting, card = Setting(tmp_path / "data", cache=tmp_path / "cache"), get_card("CIFAR10")
    for _ in range(2):  # anew, and from the cache
        found = run_suite(Shades(), [ZERO_SHOT, LINEAR_PROBE, FEW_SHOT], [card], setting, tmp_path / "out")
        assert not found.skipped and {one.n for one in found.results} == {150}
        assert {one.run["settings"]["broken"] for one in found.results} == {1}
        (probe,) = (one for one in found.results if one.task == "linear_probe")
        assert probe.run["settings"]["train"] == 200
        for path in (tmp_path / "out/parts").rglob("*.json"):
            path.unlink()


@pytest.mark.parametrize("caption", ["", "  \n"])
def test_a_set_with_empty_captions_has_no_recall(tmp_path, caption):
    folder = tmp_path / "data/Flickr30k/test"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png(number))
        (folder / f"{number}.txt").write_text(caption)
    [reason] = skipped(tmp_path / "data", tmp_path, [RETRIEVAL], card="Flickr30k")
    assert "caption" in reason or "text" in reason


@pytest.mark.parametrize("broken", ["pictures", "texts"])
def test_embeddings_that_are_nan_give_no_number_and_no_cache(tmp_path, broken):
    data = write_folders(tmp_path / "data", ("train", "test"))
    tasks = [ZERO_SHOT, FEW_SHOT_FROM_TEXTS, *([LINEAR_PROBE, FEW_SHOT] if broken == "pictures" else [])]
    reasons = skipped(data, tmp_path, tasks, Shades(broken))
    assert len(reasons) == len(tasks) and all("NaN" in one for one in reasons)
    folders = ("probes", "few_shot", *(["classifiers"] if broken == "texts" else []))
    assert not [path for name in folders for path in (tmp_path / "cache" / name).rglob("*")]
    if broken == "pictures":
        assert not list((tmp_path / "cache/pictures").iterdir())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(value):
    features, labels = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32), np.arange(20) % 2
    probe = LinearProbe(1.0).fit(features, labels)
    features[7, 1] = value
    with pytest.raises(InputError, match="NaN or infinity"):
        LinearProbe(1.0).fit(features, labels)
    with pytest.raises(InputError, match="NaN or infinity"):
        probe.predict(features)
    with pytest.raises(InputError, match="NaN or infinity"):
        score("accuracy", labels, np.c_[features[:, 1], features[:, 2]])


def test_models_that_cannot_say_how_pictures_are_prepared(tmp_path, monkeypatch):
    model = make_vit()
    other = Preprocessing(model.preprocessing.image_size + 1)
    with pytest.raises(WeightsError, match="the preprocessing makes"):
        Model(model.clip, model.tokenizer, other)
    (tmp_path / "made_up_model.py").write_text("class Network:\n    def forward(self, pixels): return pixels\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="without encode_images"):
        load("python:made_up_model:Network")


def test_results_of_another_version_are_not_mixed_in(tmp_path):
    data = write_folders(tmp_path / "data", ("test",))
    setting, out = Setting(data), tmp_path / "out"
    run_suite(Shades(), [ZERO_SHOT], [get_card("CIFAR10")], setting, out)
    path = part_path(out, "shades", "CIFAR10", "zero_shot")
    part = json.loads(path.read_text()) | {"format": 0}
    del part["digest"]  # as that version would have written it; with the digest of format 1 it would be damaged
    path.write_text(json.dumps(part))
    before = (out / "results.jsonl").read_text()
    other = Shades()
    other.name = "another model"
    for encoder in (Shades(), other):
        with pytest.raises(ConfigError, match="written by another version of Diptych"):
            run_suite(encoder, [ZERO_SHOT], [get_card("CIFAR10")], setting, out)
    assert (out / "results.jsonl").read_text() == before
    row = json.loads(before.splitlines()[0]) | {"percent": 97.0}
    (out / "results.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match="line 1 is not a result"):
        read_results(out / "results.jsonl")
