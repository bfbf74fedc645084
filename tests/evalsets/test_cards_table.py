"""The table of benchmark cards against the paper's table 9 and the prompts table."""

import csv
import json
from pathlib import Path

import pytest

from diptych.errors import ConfigError, InputError
from diptych.evalsets.card import METRICS, TASKS, Card
from diptych.evalsets.cards import CARDS, get_card, has_shifts, home_of, is_paper_set, subsets_of
from diptych.evalsets.prompts import get_prompts, plain_name, prompts_table
from diptych.evaluate.tasks.table import TASKS as MEASUREMENTS
from diptych.evaluate.tasks.testbed import SHIFT_NAMES

ASSETS = Path(__file__).resolve().parents[2] / "diptych" / "assets"
TABLE_9 = Path(__file__).resolve().parents[3] / "shared" / "paper" / "datasets_table9.csv"
OTHERS = {"aYahoo", "SUN", "SVHN", "SVHN-Numbers", "IIIT5K", "Flickr30k", "MSCOCO", "RareAct", "IM2GPS", "CIFAR10.1"}
SPLITS = {"train", "val", "test"}
METRIC_NAMES = {
    "accuracy": "accuracy",
    "mean per class": "mean_per_class_accuracy",
    "11-point mAP": "mean_average_precision_11_point",
    "mean(top1, top5)": "mean_of_top_1_and_5",
    "ROC AUC": "roc_auc",
}
CLASSES_MISPRINTED = {"Food101": (102, 101), "FER2013": (8, 7)}
SIZES_MISPRINTED = {"Birdsnap", "FER2013", "Country211", "UCF101"}  # each has a trap that says so


def test_the_sets_are_these():
    groups = [[card.name for card in CARDS.values() if card.group == group] for group in ("paper27", "shift", "other")]
    assert [len(names) for names in groups] == [27, 7, 10]
    assert groups[0][:3] == ["Food101", "CIFAR10", "CIFAR100"] and groups[0][-1] == "ImageNet"
    assert set(groups[1]) == {
        "ImageNetV2",
        "ImageNet-Sketch",
        "ImageNet-A",
        "ImageNet-R",
        "ObjectNet",
        "ImageNet-Vid",
        "Youtube-BB",
    }
    assert set(groups[2]) == OTHERS


def test_what_single_rows_say():
    """Source: appendix A.1 (folds), section 3.3 and appendix E.5 (shifts), section 4 (people)."""

    def having(field):
        return {card.name for card in CARDS.values() if getattr(card, field)}

    assert {card.name: card.folds for card in CARDS.values() if card.folds} == {"STL10": 10, "UCF101": 3}
    assert having("shift_of") == set(SHIFT_NAMES) and {CARDS[name].shift_of for name in SHIFT_NAMES} == {"ImageNet"}
    assert having("is_subset") == set(SHIFT_NAMES) - {"ImageNetV2", "ImageNet-Sketch"}
    assert having("has_frames") == {"ImageNet-Vid", "Youtube-BB"}
    assert having("has_own_names") == {"ObjectNet", "ImageNet-Vid", "Youtube-BB"} and having("has_border") == {
        "ObjectNet"
    }
    assert having("has_lexicons") == {"IIIT5K"} and having("has_human_study") == {"OxfordPets"}
    assert {card.name: card.max_captions for card in CARDS.values() if card.max_captions} == {"MSCOCO": 5}
    assert having("is_numbered") == {"CIFAR10", "CIFAR100", "FER2013", "GTSRB", "ImageNet", "MNIST", "SVHN"}
    assert having("archive_names") == {"Caltech101", "EuroSAT"} and having("class_codes") == {"Country211"}


def test_names_of_archives_are_those_of_classes():
    for card in CARDS.values():
        names = [plain_name(one) for one, *_ in get_prompts(card.prompts).class_names] if card.prompts else []
        assert set(map(plain_name, card.archive_names.values())) <= set(names)
        assert len(card.class_codes) in (0, len(names))


def test_what_cards_say_of_each_other():
    assert [card.name for card in CARDS.values() if has_shifts(card)] == ["ImageNet"]
    assert subsets_of(CARDS["ImageNet"]) == ("ImageNet-A", "ImageNet-R", "ObjectNet", "ImageNet-Vid", "Youtube-BB")
    assert subsets_of(CARDS["Food101"]) == () and home_of(CARDS["Food101"]) is CARDS["Food101"]
    assert home_of(CARDS["ObjectNet"]) is home_of(CARDS["ImageNet"]) is CARDS["ImageNet"]
    assert is_paper_set("Food101") and not is_paper_set("food101") and not is_paper_set("fruit")


FRUIT = {"name": "Fruit", "title": "Fruit", "num_classes": 4, "splits": {"train": 8, "test": 4}} | {
    "homepage": "https://example.org",
    "split_rule": "as its folder has them",
}
COMMON = {"zero_shot", "linear_probe", "projected_probe", "few_shot", "few_shot_from_texts", "shifts"}


@pytest.mark.parametrize(
    ("fields", "measured"),
    [
        ({}, COMMON),
        ({"has_human_study": True}, COMMON | {"human"}),
        ({"num_classes": 0, "has_lexicons": True}, {"lexicon"}),
        ({"task": "retrieval", "num_classes": 0, "metric": "recall_at_1"}, {"retrieval"}),
        ({"task": "video"}, COMMON - {"shifts"} | {"video"}),
        (
            {"shift_of": "ImageNet"},
            {"zero_shot", "robustness", "imagenet_probe", "few_shot", "few_shot_from_texts"},
        ),
        (
            {"shift_of": "ImageNet", "task": "video", "has_frames": True, "is_subset": True},
            {"robustness", "imagenet_probe", "few_shot", "few_shot_from_texts"},
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_new_set_is_one_row(fields, measured):
    card = Card(**{**FRUIT, **fields})
    assert {task.name for task in MEASUREMENTS.values() if task.applies(card)} == measured
    assert MEASUREMENTS["linear_probe"].folds(Card(**FRUIT, folds=5)) == 5
    assert card.group == ("shift" if "shift_of" in fields else "other")


@pytest.mark.parametrize("fields", [{"task": "songs"}, {"metric": "votes"}, {"is_subset": True}, {"has_frames": True}])
def test_a_row_that_contradicts_itself_is_refused(fields):
    with pytest.raises(ConfigError, match="card Fruit"):
        Card(**{**FRUIT, **fields})
    with pytest.raises(TypeError, match="positional"):
        Card("Fruit", **{**FRUIT, **fields})


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card.name)
def test_a_row_is_whole(card):
    assert CARDS[card.name] is card and card.task in TASKS and card.metric in METRICS
    assert set(card.splits) <= SPLITS and all(size > 0 for size in card.splits.values())
    assert "test" in card.splits or card.name in {"Youtube-BB", "SUN", "RareAct"}
    assert card.title and card.split_rule and card.homepage.startswith("http")
    assert card.traps and all(trap.endswith(".") and "\n" not in trap for trap in card.traps)
    assert (card.paper_sizes is None) == (card.group != "paper27")
    if card.hub:
        owner, _, name = card.hub.partition("/")
        assert owner and name and (name in card.folders or owner != "clip-benchmark")
    if card.prompts:
        words = get_prompts(card.prompts)
        assert len(words.class_names) == card.num_classes
        assert words.single and all("{c}" in template for template in words.templates)


def test_no_two_sets_share_a_folder():
    named = [name.lower() for card in CARDS.values() for name in (card.name, *card.folders)]
    assert len(named) == len(set(named)), sorted(name for name in set(named) if named.count(name) > 1)


def test_sizes_of_the_paper_are_the_archives_training_and_validation_pictures():
    for card in CARDS.values():
        if card.paper_sizes and card.name not in SIZES_MISPRINTED | {"STL10"}:
            train = card.splits["train"] + card.splits.get("val", 0)
            assert (train, card.splits["test"]) == card.paper_sizes, card.name
    assert CARDS["STL10"].splits["train"] == 5 * CARDS["STL10"].paper_sizes[0]
    for name in SIZES_MISPRINTED:
        printed = [f"{size:,}" for size in CARDS[name].paper_sizes]
        assert any(size in trap for trap in CARDS[name].traps for size in printed), name


@pytest.mark.skipif(not TABLE_9.exists(), reason=f"no table of the paper at {TABLE_9}")
def test_table_9():
    with TABLE_9.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["dataset"] for row in rows] == [card.name for card in CARDS.values() if card.paper_sizes]
    for row in rows:
        card = CARDS[row["dataset"]]
        assert card.paper_sizes == (int(row["train_size"]), int(row["test_size"])), card.name
        assert card.metric == METRIC_NAMES[row["metric"]], card.name
        classes = CLASSES_MISPRINTED.get(card.name, (card.num_classes,) * 2)
        assert classes == (int(row["classes"]), card.num_classes)
        assert card.num_classes == int(row["classes_in_prompts_json"])


def test_words_of_sets_that_the_authors_did_not_list():
    shifts = {row["name"]: row for row in map(json.loads, (ASSETS / "imagenet_shifts.jsonl").open()) if "name" in row}
    imagenet = prompts_table()["ImageNet"]
    adversarial = get_prompts("ImageNet-A")
    assert adversarial.class_names[0] == imagenet.class_names[6] and adversarial.templates == imagenet.templates
    for name in ("ImageNet-A", "ImageNet-R", "ObjectNet", "ImageNet-Vid", "Youtube-BB"):
        assert len(get_prompts(name).class_names) == len(shifts[name]["classes"])
    # ILSVRC's names of the 30 video classes go with the groups of ImageNet's classes: some that both name.
    for name in ("fox", "lion", "tiger", "zebra", "hamster", "lizard", "squirrel"):
        place = get_prompts("ImageNet-Vid").class_names.index((name,))
        members = " ".join(imagenet.class_names[index][0] for index in shifts["ImageNet-Vid"]["classes"][place])
        assert name in members.lower()
    assert get_prompts("Youtube-BB").class_names[0] == ("person",)
    assert get_prompts("SVHN").class_names[7] == ("7",)


@pytest.mark.parametrize("name", ["Food101", "food101", "wds_food101", " FOOD-101 "])
def test_a_card_is_found_by_any_of_its_names(name):
    assert get_card(name) is CARDS["Food101"]


def test_a_wrong_name_is_answered_with_near_ones():
    with pytest.raises(InputError, match=r"no card for 'Caltech256'.*did you mean Caltech101"):
        get_card("Caltech256")
    with pytest.raises(InputError, match=r"there are Food101, CIFAR10"):
        get_card("???")
    with pytest.raises(InputError, match=r"no prompts for 'Q'; there are for Birdsnap.*ObjectNet"):
        get_prompts("Q")
