"""An encoder that knows every answer has the perfect number on every card's copies, whatever order their classes have.

Where a copy's class cannot be told the number is the right one, too, or there is none: never a wrong one.
"""

import io
import random

import pytest
from oracle import IN_IMAGENET, Oracle, shown_by, write_copy
from PIL import Image

from diptych.evalsets.cards import CARDS
from diptych.evalsets.imagenet_classes import shift_classes, wordnet_ids
from diptych.evalsets.prompts import get_prompts
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks.registry import TASKS
from diptych.evaluate.tasks.task import Setting
from diptych.records import kind_of

CLASSES = [card for card in CARDS.values() if card.prompts and card.task != "multi_label"]
SHIFTS = [card for card in CARDS.values() if card.group == "shift"]
LEARNED = ("linear_probe", "projected_probe", "few_shot", "few_shot_from_texts")
names_of = {card.name: [several[0] for several in get_prompts(card.prompts).class_names] for card in CLASSES}


def some(count: int) -> list[int]:
    """Classes that have pictures: the first, the last and some between."""
    return sorted({0, 1, count // 3, count // 2, count - 2, count - 1})


def measure(root, card, names, order, tasks, others=None, form="wds", without=()):
    """Values and reasons of what was left out, of a copy with two pictures of each of some classes in each split."""
    shown = [label for label in some(len(names_of[card.name])) if label not in without]
    labels = {"train": 2 * shown, "test": 2 * shown}
    write_copy(root / "sets" / card.name, card, labels, names, order, form)
    found = run_suite(
        Oracle(card, others),
        [TASKS[name] for name in tasks],
        [card],
        Setting(root / "sets", partial=True),
        root / "out",
    )
    return found.results, {one.task: one.reason for one in found.skipped}


def perfect(results) -> bool:
    return bool(results) and all(one.value == 1 for one in results)


def in_any_order(card) -> list[int]:
    return random.Random(card.name).sample(range(len(names_of[card.name])), len(names_of[card.name]))


def tasks_of(card, *more):
    wanted = ("zero_shot", "robustness", *more)
    return [name for name in wanted if TASKS[name].applies(card)]


@pytest.mark.parametrize("card", CLASSES, ids=lambda card: card.name)
def test_in_another_order(card, tmp_path):
    names = dict(enumerate(names_of[card.name]))
    more = LEARNED if card.group != "shift" else ()
    results, left_out = measure(tmp_path, card, names, in_any_order(card), tasks_of(card, *more))
    assert not left_out and perfect(results)


def test_two_missiles_in_any_order_are_taken_for_one_another_nowhere(tmp_path):
    """ImageNet by the paper's names, which are alike for two pairs: what needs to tell these apart is left out."""
    home, names = CARDS["ImageNet"], dict(enumerate(names_of["ImageNet"]))
    shown = sorted({657, 744, 836, 837} | {min(one) for name in IN_IMAGENET for one in shift_classes(name)[:3]})
    write_copy(tmp_path / "sets/ImageNet", home, dict.fromkeys(("train", "test"), 2 * shown), names, in_any_order(home))
    for name in ("ImageNet-A", "ImageNet-R", "ImageNetV2"):
        card, labels = CARDS[name], [0, 1, 2] if name != "ImageNetV2" else shown
        order = list(range(len(names_of[name])))
        write_copy(tmp_path / f"sets/{name}", card, {"test": labels}, dict(enumerate(names_of[name])), order)
    found = {}
    for name in ("ImageNet", "ImageNet-A", "ImageNet-R", "ImageNetV2"):
        oracle, tasks = Oracle(CARDS[name]), [TASKS[task] for task in ("robustness", "imagenet_probe", "few_shot")]
        found[name] = run_suite(oracle, tasks, [CARDS[name]], Setting(tmp_path / "sets", partial=True), tmp_path / name)
    home = found["ImageNet"]
    assert not home.skipped and all(one.value == 1 for one in home.results if not is_of_alike(one))
    of_parts = {one.condition.get("subset") for one in home.results} - {None}
    assert of_parts == {"ImageNet-A", "ImageNet-Vid", "Youtube-BB"}
    assert not found["ImageNet-A"].skipped and perfect(found["ImageNet-A"].results)
    for name in ("ImageNet-R", "ImageNetV2"):
        assert {one.task for one in found[name].skipped} == {"imagenet_probe", "few_shot"}
        assert all("'missile'" in one.reason and "WordNet ids" in one.reason for one in found[name].skipped)


def is_of_alike(result) -> bool:
    """Texts cannot tell the pairs apart; classifiers that learned from pictures can."""
    return kind_of(result) == "zero_shot" and "subset" not in result.condition


@pytest.mark.parametrize("card", CLASSES, ids=lambda card: card.name)
def test_with_one_class_renamed(card, tmp_path):
    names = dict(enumerate(names_of[card.name]))
    other = some(len(names))[-2]
    names[other] = "blorb"
    others = {"blorb": shown_by(card, other)}
    results, left_out = measure(tmp_path, card, names, in_any_order(card), tasks_of(card), others)
    if card.metric == "roc_auc":
        assert not results and "write the paper's class names" in left_out["zero_shot"]
    elif card.group == "shift" or card.name == "ImageNet":
        assert left_out.keys() == {"robustness"} and "names none of the" in left_out["robustness"]
        assert all(one.value == 1 for one in results)
    else:
        assert left_out == {} and perfect(results)


@pytest.mark.parametrize("card", CLASSES, ids=lambda card: card.name)
def test_without_one_class(card, tmp_path):
    names = dict(enumerate(names_of[card.name]))
    lost = some(len(names))[-1]
    order = [label for label in in_any_order(card) if label != lost]
    if card.prompts == "ImageNet":
        order.sort()
    results, left_out = measure(tmp_path, card, names, order, tasks_of(card), without=(lost,))
    if len(order) == 1:
        assert not results and "a classifier needs two" in left_out["zero_shot"]
    else:
        assert not left_out and perfect(results)


@pytest.mark.parametrize("form", ["parquet", "folders"])
@pytest.mark.parametrize(
    "name", ["EuroSAT", "CLEVRCounts", "FER2013", "GTSRB", "Flowers102", "ImageNet-R", "ObjectNet"]
)
def test_in_other_forms(name, form, tmp_path):
    card = CARDS[name]
    names = {label: name.replace(" ", "_").replace("/", "_") for label, name in enumerate(names_of[name])}
    order = sorted(names, key=names.__getitem__) if form == "folders" else in_any_order(card)
    results, left_out = measure(tmp_path, card, names, order, tasks_of(card), form=form)
    assert not left_out and perfect(results)


GREY = 20  # between the greys of neighbouring classes
KEPT = ("gaussian noise", "gaussian blur", "defocus blur", "motion blur", "pixelate", "jpeg", "saturation", "greyscale")
"""Made shifts that leave the mean of a picture of one grey as it is, nearly."""


def in_grey(shown, copy):
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (40 + GREY * shown,) * 3).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize("form", ["wds", "folders"])
def test_made_shifts_keep_the_classes(form, tmp_path):
    card, names = CARDS["STL10"], dict(enumerate(names_of["STL10"]))
    order = sorted(names, key=names.__getitem__) if form == "folders" else in_any_order(card)
    write_copy(tmp_path / "sets/STL10", card, {"test": list(range(10))}, names, order, form, in_grey)
    oracle = Oracle(card, read=lambda pixels: round((float(pixels.mean()) - 40) / GREY))
    found = run_suite(oracle, [TASKS["shifts"]], [card], Setting(tmp_path / "sets"), tmp_path / "out")
    values: dict[str, set[float]] = {}
    for one in found.results:
        values.setdefault(one.condition.get("shift", ""), set()).add(one.value)
    assert not found.skipped and all(values[name] == {1} for name in ("", *KEPT))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("ImageNet", "wds"),
        ("ImageNetV2", "wds"),
        ("ImageNet-A", "wds"),
        ("ImageNetV2", "folders"),
        ("ImageNet-A", "folders"),
    ],
)
def test_imagenet_by_wordnet_ids(name, form, tmp_path):
    card = CARDS[name]
    classes = shift_classes(name) if card.group == "shift" else [(index,) for index in range(1000)]
    names = {label: wordnet_ids()[index] for label, (index,) in enumerate(classes)}
    order = in_any_order(card) if form == "wds" else list(names)
    results, left_out = measure(tmp_path, card, names, order, tasks_of(card), form=form)
    assert not left_out and perfect(results)


@pytest.mark.parametrize("name", ["ImageNet-A", "ImageNet-Sketch", "ObjectNet"])
def test_imagenets_own_probe_on_its_shifts(name, tmp_path):
    """Trained on a copy whose folders are in one order, tested on a shift in another."""
    shift, home = CARDS[name], CARDS["ImageNet"]
    shown = some(len(names_of[name]))
    wanted = sorted({shown_by(shift, label) for label in shown})
    ids = dict(enumerate(wordnet_ids()))
    write_copy(tmp_path / "sets/ImageNet", home, {"train": 2 * wanted, "test": 2 * wanted}, ids, in_any_order(home))
    order = in_any_order(shift) if name != "ImageNet-Sketch" else list(range(1000))
    write_copy(tmp_path / f"sets/{name}", shift, {"test": 2 * shown}, dict(enumerate(names_of[name])), order)
    tasks = [TASKS[task] for task in ("imagenet_probe", "few_shot")]
    found = run_suite(Oracle(shift), tasks, [shift, home], Setting(tmp_path / "sets", partial=True), tmp_path / "out")
    assert not found.skipped and perfect(found.results)
    assert {one.dataset for one in found.results} == {name, "ImageNet"}
    (tmp_path / "sets/ImageNet/classnames.txt").write_text("\n".join(f"thing {n}ish" for n in range(1000)))
    found = run_suite(Oracle(shift), tasks, [shift], Setting(tmp_path / "sets", partial=True), tmp_path / "other")
    assert not found.results and all("names none of the 1000 classes" in one.reason for one in found.skipped)
