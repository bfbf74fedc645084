"""A number over some of a set's classes says so, and one over few of them has to be asked for."""

import dataclasses
import io
import json

import pytest
import rich.console
from oracle import Oracle, shown_by, write_copy

from diptych.evalsets.cards import CARDS, get_card
from diptych.evalsets.playground_tasks import playground_tasks
from diptych.evalsets.prompts import get_prompts
from diptych.evaluate.class_coverage import classes_in_words, had_to_be_asked_for, note
from diptych.evaluate.evaluate_sets import evaluate_benchmarks
from diptych.evaluate.results_table import zero_shot_table
from diptych.evaluate.suite import read_all, run_suite
from diptych.evaluate.tasks.registry import TASKS
from diptych.evaluate.tasks.task import Setting
from diptych.paper.exhibits.tables_10_11 import TABLE_10, TABLE_11
from diptych.paper.summary import summary
from diptych.records import Result
from diptych.report.exhibit_page import FORMS, write_exhibit
from diptych.report.table import to_rich

LEARNED = ("linear_probe", "projected_probe", "few_shot", "few_shot_from_texts")


def first_names(card):
    return dict(enumerate(several[0] for several in get_prompts(card.prompts).class_names))


def copy(root, name, train, test, listed=None, form="wds"):
    """A copy with two pictures of each of some classes, and a class list of its own."""
    card = CARDS[name]
    order = list(first_names(card)) if listed is None else list(listed)
    write_copy(root / name, card, {"train": 2 * list(train), "test": 2 * list(test)}, first_names(card), order, form)
    return card


def measure(root, card, names=("zero_shot",), **options):
    oracle, out = Oracle(card), root.with_name("out")
    oracle.image_fingerprint = oracle.fingerprint = "oracle"  # so that what was measured is kept
    found = run_suite(oracle, [TASKS[name] for name in names], [card], Setting(root, **options), out)
    return found.results, {one.task: one.reason for one in found.skipped}


@pytest.mark.parametrize("listed", [range(10), [n for n in range(10) if n != 3]], ids=["empty", "not listed"])
def test_nine_of_ten_classes_are_measured_and_every_row_says_so(listed, tmp_path):
    """The class has no picture, or stands in no list; both have nine left, of which the oracle knows all."""
    nine = [n for n in range(10) if n != 3]
    card = copy(tmp_path / "sets", "CIFAR10", nine, nine, listed)
    results, left_out = measure(tmp_path / "sets", card, ("zero_shot", *LEARNED))
    assert not left_out and all(one.value == 1 for one in results)
    assert {classes_in_words(one) for one in results} == {"9 of 10 classes"}
    assert not any(map(had_to_be_asked_for, results))
    kept = read_all(tmp_path / "out")
    assert {json.dumps(one.run["settings"]["classes"]) for one in kept if one.task == "few_shot"} == {
        '{"tested": [9, 10], "learned": [9, 10]}'
    }
    assert all(name == "CIFAR10, 9 of 10 classes" for table in summary(kept).tables for name, _ in table.rows[:1])


@pytest.mark.parametrize(("name", "count"), [("Country211", 3), ("CIFAR10", 8), ("Food101", 90)])
def test_few_classes_are_refused_unless_they_are_asked_for(name, count, tmp_path):
    card = copy(tmp_path / "sets", name, range(count), range(count), range(count))
    results, left_out = measure(tmp_path / "sets", card, ("zero_shot", "few_shot"))
    assert not results and left_out.keys() == {"zero_shot", "few_shot"}
    assert f"show {count} of {card.num_classes} classes" in left_out["zero_shot"]
    assert "--partial" in left_out["zero_shot"] and "rename its folder" in left_out["zero_shot"]
    results, left_out = measure(tmp_path / "sets", card, ("zero_shot", "few_shot"), partial=True)
    assert not left_out and all(one.value == 1 for one in results)
    assert {classes_in_words(one) for one in results} == {f"{count} of {card.num_classes} classes"}
    assert (
        measure(tmp_path / "sets", card, ("zero_shot", "few_shot"))[0] == []
    )  # what was asked for is not kept for all


@pytest.mark.parametrize("task", LEARNED)
def test_a_class_that_is_tested_and_was_not_learned_is_refused(task, tmp_path):
    card = copy(tmp_path / "sets", "CIFAR10", [n for n in range(10) if n != 3], range(10))
    results, left_out = measure(tmp_path / "sets", card, (task,))
    assert not results and "1 of its 10 classes that no training image shows" in left_out[task]
    assert ": cat;" in left_out[task]
    results, left_out = measure(tmp_path / "sets", card, (task,), partial=True)
    assert not left_out and all(
        one.value == 0.9 for one in results if one.condition.get("classifier") != "zero-shot-initialised"
    )
    assert {classes_in_words(one) for one in results} == {"9 of 10 classes learned, 1 tested but not learned"}
    assert all(map(had_to_be_asked_for, results))


def test_a_shift_needs_what_it_tests_from_imagenets_training_images(tmp_path):
    card, home = CARDS["ImageNet-A"], CARDS["ImageNet"]
    test = list(range(200))
    learned = sorted(shown_by(card, label) for label in test[:-1])
    write_copy(tmp_path / "sets/ImageNet", home, {"train": 2 * learned}, first_names(home), list(range(1000)))
    copy(tmp_path / "sets", "ImageNet-A", [], test)
    _, left_out = measure(tmp_path / "sets", card, ("few_shot", "imagenet_probe"))
    assert all("training images show 199 of 1,000 classes" in one for one in left_out.values()) and len(left_out) == 2
    results, left_out = measure(tmp_path / "sets", card, ("few_shot",), partial=True)
    assert not left_out and all(one.value == 199 / 200 for one in results)
    assert classes_in_words(results[0]) == "199 of 1,000 classes learned, 1 tested but not learned"


def test_a_split_with_all_of_its_authors_images_is_whole(tmp_path):
    """Of SVHN's numbers below 2,000 the test images show some; nothing is missing."""
    card = dataclasses.replace(CARDS["CIFAR10"], splits={"train": 12, "test": 12})
    copy(tmp_path / "sets", "CIFAR10", range(6), range(6))
    results, left_out = measure(tmp_path / "sets", card)
    assert not left_out and {classes_in_words(one) for one in results} == {""}


def test_ones_own_set_is_never_refused(tmp_path):
    from diptych.evalsets.user_sets import own_card

    card = copy(tmp_path / "sets", "CIFAR10", [0, 1], [0, 1], form="folders")
    (tmp_path / "sets/CIFAR10").rename(tmp_path / "sets/mine")
    own = own_card(tmp_path / "sets/mine")
    found = run_suite(Oracle(card), [TASKS["zero_shot"]], [own], Setting(tmp_path / "sets"), tmp_path / "out")
    assert not found.skipped and classes_in_words(found.results[0]) == "2 of 10 classes"
    results = evaluate_benchmarks(Oracle(card), [tmp_path / "sets/mine"])
    console = rich.console.Console(width=200, file=io.StringIO())
    console.print(zero_shot_table(results))
    assert "(2 of 10 classes)" in console.file.getvalue()


# ------------------------------------------------------------------ tables


def result(dataset, value, task="linear_probe", protocol="features", **settings):
    card = get_card(dataset)
    n = card.paper_sizes[1]
    return Result(
        task, dataset, "test", card.metric, value, n, value, value, "x", protocol, "mine", run={"settings": settings}
    )


def test_tables_mark_such_numbers_in_every_form_and_give_them_no_say_in_bold(tmp_path):
    some = {"classes": {"tested": [9, 10], "learned": [10, 10]}}
    shown = TABLE_10.build([result("CIFAR10", 0.999, **some), result("DTD", 0.99)])
    cells = dict(zip(shown.tables[-1].columns[1:], shown.tables[-1].rows[0][1], strict=True))
    assert (cells["CIFAR10"].partial, cells["CIFAR10"].bold) == (True, False)
    assert (cells["DTD"].partial, cells["DTD"].bold) == (False, True)
    assert any("CIFAR10 (9 of 10 classes tested, 10 of 10 classes learned)" in note for note in shown.notes)
    for path in write_exhibit("table10", shown, tmp_path, FORMS):
        sign = {".tex": "99.9$\\ddagger$", ".json": '"partial": true'}.get(path.suffix, "99.9‡")
        legend = "" if path.suffix == ".json" else "which is not the paper's protocol"
        text = path.read_text().replace("&#39;", "'").replace("}$", "$")
        assert sign in text and legend in text, path.name
    console = rich.console.Console(width=200, file=io.StringIO())
    console.print(to_rich(shown.tables[0]))
    assert "99.9‡" in console.file.getvalue()
    zero_shot = TABLE_11.build([result("CIFAR10", 0.5, "zero_shot", "ensemble", classes={"tested": [3, 10]})])
    assert any("CIFAR10 (3 of 10 classes)" in note for note in zero_shot.notes)


@pytest.mark.parametrize("classes", ["9 of 10", [9, 10], {"tested": "9"}, {"tested": [9]}, {"unlearned": "x"}, None, 3])
def test_what_is_no_count_of_classes_says_nothing(classes):
    assert classes_in_words(result("CIFAR10", 0.5, classes=classes)) == ""
    assert not had_to_be_asked_for(result("CIFAR10", 0.5, classes=classes))
    assert classes_in_words(dataclasses.replace(result("CIFAR10", 0.5), run={"settings": classes})) == ""


def test_pictures_that_are_drawn_are_all_that_there_are():
    """A task of the playground asks for 8 pairs of colour and shape among 64: no copy of it is missing anything."""
    task = next(one for one in playground_tasks(num_samples=8) if one.name == "held_out_colour_shape")
    assert note(task, "tested", {0, 1}, 8, partial=True) == {}
    collected = dataclasses.replace(task, whole=False)
    assert note(collected, "tested", {0, 1}, 8, partial=True) == {"classes": {"tested": [2, 64]}}


def test_a_copy_of_a_papers_set_cannot_say_of_itself_that_it_is_whole(tmp_path):
    card = copy(tmp_path / "sets", "CIFAR10", [], range(3))
    (tmp_path / "sets/CIFAR10/whole.txt").touch()
    results, left_out = measure(tmp_path / "sets", card)
    assert not results and "show 3 of 10 classes" in left_out["zero_shot"]


def test_a_set_that_shows_all_the_classes_it_names_is_not_warned_about(tmp_path, caplog):
    card = copy(tmp_path / "sets", "CIFAR10", [], [2, 5, 7], listed=[2, 5, 7])
    (tmp_path / "sets/CIFAR10").rename(tmp_path / "sets/mine")
    results = evaluate_benchmarks(Oracle(card), [tmp_path / "sets/mine"])
    assert {classes_in_words(one) for one in results} == {""} and "classes" not in caplog.text
