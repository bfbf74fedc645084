"""Files of results from before `condition`: rows that the code of then wrote, read as the Results of today."""

import dataclasses
import json
from pathlib import Path

import pytest

from diptych.errors import DataError
from diptych.evaluate.suite import part_path, read_part, write_part
from diptych.records import kind_of, merge_results, parse_result, parse_results, protocol_in_words, read_results
from diptych.records.wording import PROTOCOLS

OLD = Path(__file__).with_name("rows_before_condition.jsonl")
"""One row or two of each protocol, measured by commit f1bc14c on the sets of test_tasks_setting.py."""

STATIC = {"classifier": "static"}
EXPECTED = [
    *[("zero_shot", "CIFAR10", word, {}) for word in ("ensemble", "single", "names", "probability")],
    ("linear_probe", "CIFAR10", "projected", {}),  # of a model without features
    ("linear_probe", "CIFAR10", "features", {}),
    ("projected_probe", "CIFAR10", "projected", {}),
    *[("few_shot", "CIFAR10", "draws", {"classifier": "probe", "shots": shots}) for shots in (1, 2)],
    *[
        ("few_shot_from_texts", "CIFAR10", "draws", {"classifier": classifier, "shots": shots})
        for shots in (1, 2)
        for classifier in ("zero-shot-initialised", "interpolated")
    ],
    ("human", "OxfordPets", "zero-shot", {}),
    ("robustness", "ImageNet-A", "ensemble", STATIC),
    ("robustness", "ObjectNet", "ensemble", {"classifier": "adaptive"}),
    ("robustness", "ImageNet", "ensemble", STATIC | {"subset": "ImageNet-R"}),
    ("imagenet_probe", "ImageNet-A", "adapted", {}),
    ("retrieval", "Flickr30k", "prefixed", {}),
    ("retrieval", "Flickr30k", "bare", {}),
    ("geolocation", "IM2GPS", "nearest_neighbour", {}),
    ("lexicon", "IIIT5K", "own_lexicon", {}),
    *[
        ("few_shot" if classifier == "probe" else "few_shot_from_texts", "ImageNet", "draws", condition)
        for classifier in ("probe", "zero-shot-initialised", "interpolated")
        for subset in ("ImageNet-A", "ImageNet-Vid")
        for condition in [{"classifier": classifier, "shots": 1, "subset": subset}]
    ],
    *[("imagenet_probe", "ImageNet", "adapted", {"subset": f"ImageNet-{part}"}) for part in ("A", "R", "Vid")],
    *[("shifts", "OxfordPets", "ensemble", {})] * 2,
    *[("shifts", "OxfordPets", "ensemble", {"shift": "gaussian noise", "severity": 2})] * 2,
    *[("shifts", "OxfordPets", "ensemble", {"shift": "inverted", "severity": 1})] * 2,
    ("video", "clips", "frames_averaged", {}),
    ("human", "OxfordPets", "answers", {}),
    ("zero_shot", "clips", "ensemble", {}),
]
KINDS = {"few_shot", "geolocation", "human", "lexicon", "linear_probe", "retrieval", "video", "zero_shot"}


def old_rows() -> list[dict]:
    return [json.loads(line) for line in OLD.read_text().splitlines()]


def old_row(task: str, words: str, dataset: str = "CIFAR10", **settings) -> dict:
    row = {"task": task, "dataset": dataset, "split": "test", "metric": "accuracy", "value": 0.5, "n": 9}
    row |= {"low": None, "high": None, "interval": None, "protocol": words, "model": "m", "paper": None}
    return row | {"run": {"settings": settings} if settings else {}}


def test_every_protocol_of_old_files_becomes_a_word_and_a_condition():
    results = read_results(OLD)
    assert [(one.task, one.dataset, one.protocol, dict(one.condition)) for one in results] == EXPECTED
    assert {one.protocol for one in results} == PROTOCOLS.keys()
    assert {kind_of(one) for one in results} == KINDS
    assert len({one.identity for one in results}) == len(results)


def test_numbers_and_the_words_of_tables_stay_as_they_were():
    for row, result in zip(old_rows(), read_results(OLD), strict=True):
        kept = ("split", "metric", "value", "n", "low", "high", "interval", "model")
        assert {name: getattr(result, name) for name in kept} == {name: row[name] for name in kept}
        assert kind_of(result) == row["task"]
        settings = row["run"].get("settings", {})
        if "shift" not in settings:
            assert protocol_in_words(result) == row["protocol"] and result.run == row["run"]
        else:
            assert row["dataset"].startswith(f"{result.dataset} {result.condition['shift']}")
            assert result.run["settings"] == {"seed": settings["seed"]}


def test_an_old_file_is_rewritten_in_the_new_form(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(OLD.read_bytes())
    before = read_results(path)
    assert merge_results([dataclasses.replace(before[0], value=before[0].high)], path) == 1
    assert all("condition" in row and "paper" not in row for row in map(json.loads, path.read_text().splitlines()))
    assert read_results(path)[1:] == before[1:]


@pytest.mark.parametrize(
    ("words", "task", "name"),
    [("ensemble", "zero_shot", "shifts"), ("projected", "linear_probe", "projected_probe")],
)
def test_a_part_tells_the_task_where_a_row_alone_does_not(words, task, name, tmp_path):
    row = old_row(task, words)
    assert parse_result(row).task == task
    assert parse_results([row], task=name)[0].task == name
    path = part_path(tmp_path, "m", "CIFAR10", name)
    write_part(path, "mark", [])
    content = json.loads(path.read_text())
    content["results"] = [row]
    path.write_text(json.dumps({name: value for name, value in content.items() if name != "digest"}))
    assert [one.task for one in read_part(path)["results"]] == [name]


def test_the_name_of_a_part_changes_no_task_of_another_kind():
    assert parse_results([old_row("zero_shot", "ensemble")], task="retrieval")[0].task == "zero_shot"
    new = {**old_row("zero_shot", "ensemble"), "condition": {}}
    del new["paper"]
    assert parse_results([new], task="shifts")[0].task == "zero_shot"


def test_a_set_as_it_is_counts_as_zero_shot_unless_its_shifts_follow():
    clean, other = old_row("zero_shot", "ensemble"), old_row("zero_shot", "ensemble", "MNIST")
    noise = old_row("zero_shot", "ensemble", "CIFAR10 noise 3", of="CIFAR10", shift="noise", severity=3)
    assert [one.task for one in parse_results([clean, noise])] == ["shifts", "shifts"]
    assert [one.task for one in parse_results([clean, other, noise])] == ["zero_shot", "zero_shot", "shifts"]
    assert [one.task for one in parse_results([noise, clean])] == ["shifts", "zero_shot"]


@pytest.mark.parametrize("words", ["probe x-shot", "probe 01-shot", "on ", "some way of mine", "probe 1-shot on a b"])
def test_words_that_nobody_wrote_stay_as_they_are(words):
    for task in ("zero_shot", "few_shot", "linear_probe", "mine"):
        result = parse_result(old_row(task, words))
        assert (result.task, result.protocol, dict(result.condition)) == (task, words, {})
        assert protocol_in_words(result) == words


def test_the_field_paper_is_null_or_an_object_and_is_dropped(tmp_path):
    row = old_row("zero_shot", "single")
    assert parse_result(row | {"paper": {"value": 0.4}}) == parse_result(row)
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(row | {"paper": 0.4}) + "\n")
    with pytest.raises(DataError, match=r"line 1 is not a result \(unknown fields: paper"):
        read_results(path)


def test_full_supervision_is_a_number_of_shots_of_its_own():
    result = parse_result(old_row("few_shot", "probe full-shot"))
    assert result.condition == {"classifier": "probe", "shots": "full"}
    assert protocol_in_words(result) == "probe full-shot"
