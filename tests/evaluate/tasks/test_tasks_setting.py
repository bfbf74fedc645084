"""What a Setting says reaches every task: pictures are encoded once and kept, by as many workers as it names."""

import dataclasses

import numpy as np
import pytest
from colours import NAMES, ColourEncoder, FingerprintedEncoder, encoded
from colours import picture as coloured
from listed_sets import Listed
from oracle import Oracle, shown_by, write_copy

from diptych.data.decoding import decode_image
from diptych.evalsets.archive_registry import LAYOUTS, Layout
from diptych.evalsets.benchmark import check_benchmark
from diptych.evalsets.cards import CARDS
from diptych.evalsets.opening import open_card
from diptych.evalsets.prompts import get_prompts
from diptych.evalsets.set_sources import Entry, ListedSource
from diptych.evaluate import encoded_set as encoding
from diptych.evaluate.encoded_set import encode_set
from diptych.evaluate.tasks.registry import TASKS
from diptych.evaluate.tasks.shifted import measure_shifts
from diptych.evaluate.tasks.task import Setting
from diptych.evaluate.tasks.video import measure_video
from diptych.evaluate.tasks.zero_shot import PROTOCOLS, measure_zero_shot
from diptych.records import Sample
from diptych.records.wording import PROTOCOLS as WORDS


class Counting(Oracle):
    """An oracle that may be kept, has features, knows any text, and counts what it encodes."""

    image_fingerprint = fingerprint = "counting"
    logit_scale = 100.0

    def __init__(self, card):
        super().__init__(card)
        self.pictures = self.texts = 0

    def encode_images(self, pictures):
        self.pictures += len(pictures)
        colours = np.array([np.asarray(decode_image(one))[0, 0] for one in pictures]).astype(int)
        return self.table[(256 * colours[:, 0] + colours[:, 1]) % len(self.table)]

    def image_features(self, pictures):
        return 2 * self.encode_images(pictures)

    def encode_texts(self, texts):
        self.texts += len(texts)
        return self.table[[self.means.get(text, len(text)) if self.card.prompts else len(text) for text in texts]]


def copy_of(name: str, root) -> None:
    """Two pictures of each of the first classes, in train and test."""
    card = CARDS[name]
    shown = list(range(6)) if card.group != "shift" else [0, 1, 2]
    words = [several[0] for several in get_prompts(card.prompts).class_names]
    write_copy(root / name, card, {"train": 2 * shown, "test": 2 * shown}, dict(enumerate(words)), [*range(len(words))])


def listed_set(name: str, root, monkeypatch) -> None:
    """Coloured pictures with all that a task may ask for beside them."""
    folder = root / name
    folder.mkdir(parents=True)
    parts = {}
    for split, first in (("train", 50), ("test", 0)):
        entries = []
        for number in range(first, first + 8):
            file = f"{number}.png"
            (folder / file).write_bytes(encoded(coloured(NAMES[number % 7], number)))
            known = {"latitude": 10.0 * (number % 7), "longitude": 5.0, "lexicon": ("red", "blue"), "clip": f"{number}"}
            entries.append(Entry(file, number % 2, (f"number {number}",), known))
        parts[split] = tuple(entries)
    layout = Layout(lambda folder, split: ListedSource(folder, parts[split]), ("0.png",))
    monkeypatch.setitem(LAYOUTS, name, (layout,))


TEXTS_KEPT = {"zero_shot", "few_shot_from_texts", "human", "robustness", "video"}
CASES = [
    *[(task, "CIFAR10") for task in ("zero_shot", "linear_probe", "projected_probe", "few_shot")],
    *[("few_shot_from_texts", "CIFAR10"), ("human", "OxfordPets"), ("robustness", "ImageNet-A")],
    *[
        ("robustness", "ObjectNet"),
        ("robustness", "ImageNet"),
        ("imagenet_probe", "ImageNet-A"),
        ("few_shot", "ImageNet-A"),
    ],
    *[("retrieval", "Flickr30k"), ("geolocation", "IM2GPS"), ("lexicon", "IIIT5K")],
]


@pytest.mark.parametrize(("task", "name"), CASES, ids=lambda one: str(one))
def test_a_task_encodes_once_with_the_workers_that_are_named(task, name, tmp_path, monkeypatch):
    workers = []
    encode = encoding._encode
    monkeypatch.setattr(encoding, "_encode", lambda *most: workers.append(most[-1]) or encode(*most[:-1], 0))
    root = tmp_path / "sets"
    if name in ("Flickr30k", "IM2GPS", "IIIT5K"):
        listed_set(name, root, monkeypatch)
    else:
        copy_of(name, root)
        if task in ("imagenet_probe", "few_shot") and CARDS[name].group == "shift":
            home = CARDS["ImageNet"]
            wanted = sorted({shown_by(CARDS[name], label) for label in (0, 1, 2)})
            words = dict(enumerate(several[0] for several in get_prompts("ImageNet").class_names))
            write_copy(root / "ImageNet", home, {"train": 2 * wanted, "test": 2 * wanted}, words, [*range(1000)])
    card, setting = CARDS[name], Setting(root, tmp_path / "cache", num_workers=3, partial=True)
    assert TASKS[task].applies(card)
    first, second = Counting(card), Counting(card)
    found = TASKS[task].measure(first, card, setting).results
    assert workers and set(workers) == {3}
    again = TASKS[task].measure(second, card, setting).results
    assert [(one.identity, one.value) for one in again] == [(one.identity, one.value) for one in found]
    assert first.pictures > 0 == second.pictures
    assert {one.task for one in found} == {task} and {one.protocol for one in found} <= WORDS.keys()
    assert len({one.identity for one in found}) == len(found)
    assert second.texts == (0 if task in TEXTS_KEPT else first.texts)
    kept = {path.name for path in (tmp_path / "cache").iterdir()}
    assert kept <= {"pictures", "classifiers", "probes", "few_shot"} and "pictures" in kept


def test_zero_shot_is_for_sets_with_one_class_a_picture():
    applies = {name for name, card in CARDS.items() if TASKS["zero_shot"].applies(card)}
    assert {"CIFAR10", "VOC2007", "UCF101", "Kinetics700", "ImageNet-A"} <= applies
    assert not applies & {"ImageNet-Vid", "Youtube-BB", "RareAct", "Flickr30k", "IM2GPS"}
    some = CARDS["CIFAR10"]
    for number in (0, 1):
        assert TASKS["zero_shot"].applies(dataclasses.replace(some, num_classes=number)) == bool(number)


@pytest.mark.parametrize("num_classes", [5, 6])
def test_top_5_is_measured_of_more_than_five_classes(num_classes, tmp_path):
    names = NAMES[:num_classes]
    samples = tuple(Sample(f"{n}", coloured(name, n), (), n) for n, name in enumerate(names))
    benchmark = check_benchmark("colours", "test", names, ("{c}",), Listed(samples))
    encoder = ColourEncoder()
    results = measure_zero_shot(encoder, benchmark, encode_set(encoder, benchmark), Setting(tmp_path)).results
    assert [one.metric for one in results if one.protocol == "names"] == [
        "accuracy",
        *(["accuracy_top_5"] if num_classes > 5 else []),
        "mean_per_class_accuracy",
    ]
    assert {one.protocol for one in results} == {"ensemble", "single", "names"}


class Erring(Counting):
    """Takes every third picture for one of the next class."""

    def encode_images(self, pictures):
        colours = np.array([np.asarray(decode_image(one))[0, 0] for one in pictures]).astype(int)
        return self.table[(256 * colours[:, 0] + colours[:, 1] + (colours[:, 2] % 3 == 0)) % len(self.table)]


@pytest.mark.parametrize("task", ["zero_shot", "human", "linear_probe"])
def test_the_seed_of_the_setting_is_that_of_the_draws(task, tmp_path):
    card = CARDS["OxfordPets"]  # its metric is no count: the interval is a bootstrap's
    words = [several[0] for several in get_prompts(card.prompts).class_names]
    labels = {"train": 6 * [0, 1, 2, 3], "test": 3 * [0, 1, 2, 3, 4]}
    write_copy(tmp_path / "OxfordPets", card, labels, dict(enumerate(words)), [*range(len(words))])
    ends = []
    for seed in (0, 0, 1):
        found = TASKS[task].measure(Erring(card), card, Setting(tmp_path, seed=seed, partial=True)).results
        (result,) = [one for one in found if (one.metric, one.protocol != "single") == (card.metric, True)][:1]
        assert 0 < result.low < result.value < 1
        ends.append((result.low, result.high))
    assert ends[0] == ends[1] != ends[2]


def test_frames_are_encoded_once_with_the_workers_that_are_named(tmp_path, monkeypatch):
    workers = []
    encode = encoding._encode
    monkeypatch.setattr(encoding, "_encode", lambda *most: workers.append(most[-1]) or encode(*most[:-1], 0))
    samples = tuple(Sample(f"{n}", coloured(NAMES[n // 2], n), (), n // 2, {"clip": f"{n // 2}"}) for n in range(14))
    benchmark = check_benchmark("clips", "test", NAMES, ("{c}",), Listed(samples))
    for seen in (14, 0):
        encoder = FingerprintedEncoder()
        encoder.image_fingerprint = "pictures"
        results = measure_video(encoder, benchmark, Setting(tmp_path, tmp_path / "cache", num_workers=4))
        assert [one.metric for one in results] == ["accuracy"] and encoder.pictures_seen == seen
        assert encoder.texts_seen == seen / 2
    assert workers == [4]


def test_sixteen_frames_of_the_clips_of_the_test_split_are_asked_for(tmp_path, monkeypatch):
    pytest.importorskip("av")
    asked = []
    samples = tuple(Sample(f"{n}", coloured(NAMES[n], n), (), n, {"clip": f"{n}"}) for n in range(7))
    clips = check_benchmark("clips", "test", NAMES, ("{c}",), Listed(samples))
    monkeypatch.setattr("diptych.evaluate.tasks.video.open_frames", lambda *most: asked.append(most) or clips)
    TASKS["video"].measure(ColourEncoder(), CARDS["UCF101"], Setting(tmp_path))
    assert asked == [(CARDS["UCF101"], tmp_path, "test", 16)]


def test_raising_a_version_measures_all_anew():
    """So a version is raised where numbers change, and only there; it is written here a second time on purpose."""
    probes = ("linear_probe", "projected_probe", "imagenet_probe", "few_shot", "few_shot_from_texts")
    raised = dict.fromkeys(probes, 3) | {"geolocation": 2, "video": 2}
    assert {name: task.version for name, task in TASKS.items() if task.version > 1} == raised
    assert all(TASKS[name].version == 1 for name in TASKS.keys() - raised)


def test_protocols_and_folds_are_these():
    assert PROTOCOLS == ("ensemble", "single", "names", "probability")
    divided = {name for name, task in TASKS.items() if any(task.folds(card) for card in CARDS.values())}
    assert divided == {"linear_probe", "projected_probe"}


def test_made_shifts_keep_nothing_and_use_the_workers(tmp_path, monkeypatch):
    workers = []
    encode = encoding._encode
    monkeypatch.setattr(encoding, "_encode", lambda *most: workers.append(most[-1]) or encode(*most[:-1], 0))
    copy_of("CIFAR10", tmp_path / "sets")
    monkeypatch.setattr("diptych.evaluate.tasks.shifted.SEVERITIES", (2,))
    setting = Setting(tmp_path / "sets", tmp_path / "cache", num_workers=2, seed=5, partial=True)
    found = TASKS["shifts"].measure(Counting(CARDS["CIFAR10"]), CARDS["CIFAR10"], setting).results
    assert set(workers) == {2} and not (tmp_path / "cache").exists()
    changed = [one for one in found if one.condition]
    assert {one.run["settings"]["seed"] for one in changed} == {5} and {one.task for one in found} == {"shifts"}
    assert 2 in {one.condition["severity"] for one in changed} and len({one.identity for one in found}) == len(found)
    assert np.isfinite([one.value for one in found]).all()
    few = open_card(CARDS["CIFAR10"], tmp_path / "sets")
    measure_shifts(Counting(CARDS["CIFAR10"]), few, [], cache=setting.cache, partial=True)
    assert {path.name for path in setting.cache.iterdir()} == {"pictures", "classifiers"}
