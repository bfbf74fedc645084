"""The analysis from end to end: verdicts, accuracies on Overlap, Clean and All, the report, and the command."""

import re

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from known_images import Knows, config, sample, write_set

from diptych.data.shards import write_shards
from diptych.errors import ConfigError, InputError
from diptych.overlap.detector import Detector
from diptych.overlap.overlap_analysis import run_overlap
from diptych.overlap.thresholds import PROVISIONAL, Threshold, choose_thresholds
from diptych.records import read_results


class Remembers:
    """A classifier of even and odd numbers that is right on the numbers below 60, and always says even otherwise."""

    name, logit_scale, image_fingerprint, fingerprint = "remembers", 10.0, "remembers", "texts"

    def encode_images(self, images):
        rows = []
        for image in images:
            red, green, blue = np.asarray(image)[0, 0].tolist()
            number = 65_536 * red + 256 * green + blue
            odd = number % 2 if number < 60 else 0
            rows.append([1.0 - odd, float(odd)])
        return torch.tensor(rows)

    def encode_texts(self, texts):
        return torch.tensor([[1.0, 0.0] if "even" in text else [0.0, 1.0] for text in texts])


def run(data, *sets, model=None, **changes):
    options = {"threshold": 0.9, "detector": Detector(Knows())} | changes
    return run_overlap(config(data, *sets), model, **options)


def mixed(data):
    """A set of which 20 images overlap (all right) and 20 do not (half right)."""
    return write_set(data / "mixed", [*range(40, 60), *range(1000, 1020)])


def test_accuracies_are_those_of_a_case_counted_by_hand(data):
    mixed(data)
    outcome = run(data, "mixed", model=Remembers())
    rows = {(row.metric, row.condition["subset"]): row for row in read_results(outcome.results)}
    assert {place: (row.value, row.n) for place, row in rows.items()} == {
        ("accuracy", "overlap"): (1.0, 20),
        ("accuracy", "clean"): (0.5, 20),
        ("accuracy", "all"): (0.75, 40),
        ("contamination", "all"): (0.5, 40),
    }
    assert all(row.task == "overlap" and row.condition["measured_by"] == "zero_shot" for row in rows.values())
    assert rows["accuracy", "overlap"].setting("threshold", float) == 0.9
    [measured] = outcome.measured
    assert measured.analysis.p == pytest.approx(0.5**20)  # all 20 right, at a rate of one half
    assert measured.corrected.bonferroni == pytest.approx(0.5**20)
    assert measured.analysis.subsets.difference == pytest.approx(0.25)


def test_verdicts_have_a_row_for_each_image(data):
    mixed(data)
    table = pq.read_table(run(data, "mixed", "new").duplicates)
    assert len(table) == 70
    verdicts = dict(
        zip(
            zip(table["dataset"].to_pylist(), table["key"].to_pylist(), strict=True),
            table["verdict"].to_pylist(),
            strict=True,
        )
    )
    overlapping = {key for (dataset, key), verdict in verdicts.items() if verdict == "overlap"}
    assert sorted(int(key.split("/")[-1]) for key in overlapping) == list(range(40, 60))


def test_another_threshold_measures_nothing_again(data):
    mixed(data)
    run(data, "mixed", model=Remembers())

    class Fails(Remembers):
        def encode_images(self, images):
            raise AssertionError("encoded again")

    outcome = run(data, "mixed", model=Fails(), threshold=-1.0)
    assert outcome.measured[0].analysis.subsets.n_overlap == 40
    assert outcome.measured[0].analysis.p is None


def test_without_overlap_nothing_is_compared(data):
    outcome = run(data, "new", model=Remembers())
    assert "No image of new was found in the training data" in outcome.report.read_text()
    assert {row.condition["subset"] for row in read_results(outcome.results)} == {"clean", "all"}


def test_a_set_without_classes_has_verdicts_and_no_accuracy(data):
    write_shards([sample(number, label=None) for number in (7, 5000)], data / "loose")
    outcome = run(data, "loose", model=Remembers())
    assert not outcome.measured and len(pq.read_table(outcome.duplicates)) == 2


def test_the_report_says_first_that_nobody_has_judged(data):
    outcome = run(data, "shared", threshold=None, detector=Detector(Knows(name="default")))
    page = outcome.report.read_text()
    assert page.index("PROVISIONAL: nobody has judged pairs of shared") < page.index("<table")
    assert (
        "PROVISIONAL"
        not in run(data, "shared", threshold=0.9, detector=Detector(Knows(name="default"))).report.read_text()
    )


def test_the_report_shows_the_doubtful_pairs_first(data):
    outcome = run(data, "shared")
    page = outcome.report.read_text()
    assert page.count('alt="Evaluation image"') == page.count('alt="Training image"') == 8  # all 20 score 1
    assert "20 of 20 images of shared (100.00 %)" in page and "http" not in re.sub(r"http-equiv|w3\.org", "", page)


def test_thresholds_are_given_judged_or_provisional():
    judged = {"a": Threshold(0.8, "judged", num_judged=40)}
    chosen = choose_thresholds(["a", "b", "c"], "default", given={"b": 0.7}, judged=judged)
    assert (chosen["a"].value, chosen["b"].value, chosen["c"].value) == (0.8, 0.7, PROVISIONAL["default"])
    assert [chosen[name].origin for name in "abc"] == ["judged", "given", "provisional"]
    with pytest.raises(ConfigError, match="none of the sets: a"):
        choose_thresholds(["a"], "default", given={"z": 0.5})
    with pytest.raises(ConfigError, match="lies between -1 and 1"):
        choose_thresholds(["a"], "default", given=7)
    with pytest.raises(ConfigError, match="--threshold"):
        choose_thresholds(["a"], "mine")


# ---- the command


def overlap(command, data, *more, sets=("shared",)):
    options = [option for name in sets for option in ("--eval", str(data / name))]
    return command(
        *("overlap", *more, "--train", str(data / "train"), *options, "--out", str(data / "out")),
        *("--detector", "python:known_images:Knows", "--workers", "0", "--threshold", "0.9"),
    )


def test_the_command_reports_and_removes(command, data):
    done = overlap(command, data, sets=("shared", "new"))
    assert "20 of 20 images of shared (100.00 %)" in done.out and "report.html" in done.out
    done = overlap(command, data, "remove", "--clean", str(data / "clean"))
    assert "180 of 200 samples are kept" in done.out and "20 that overlap with shared" in done.out
    assert (data / "clean" / "datasheet.json").is_file()


def test_the_command_checks_exactly_and_searches_upside_down(command, data):
    pytest.importorskip("cv2")
    done = overlap(command, data, "--exact-check", "--upside-down")
    assert "No image of shared" in done.out  # images of one colour have no details that could agree
    assert (data / "out" / "checks" / "shared.jsonl").stat().st_size
    assert (data / "out" / "sets" / "shared" / "turned").is_dir()


def test_the_command_measures_a_model(command, data):
    mixed(data)
    done = overlap(command, data, "--model", "python:test_overlap_analysis:Remembers", sets=("mixed",))
    assert "results.jsonl" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "x"], "name the training data"),
        (["--train", "t", "--out", "x"], "at least one evaluation set"),
        (["--train", "t", "--eval", "e"], "--out FOLDER"),
        (["remove", "--train", "t", "--out", "x", "--clean", "c"], "or a score for inner duplicates"),
        (["--train", "t", "--eval", "e", "--out", "x", "--threshold", "high"], "write a number"),
        (["--train", "t", "--eval", "e", "--out", "x", "--threshold", "0.5", "--threshold", "a=0.5"], "give it alone"),
        (["remove", "--train", "t", "--eval", "e", "--out", "x"], "--clean FOLDER"),
    ],
)
def test_the_command_says_what_is_missing(command, arguments, words):
    failed = command("overlap", *arguments)
    assert failed.status and words in failed.err


def test_two_sets_of_one_name_are_refused_before_anything_is_embedded(data):
    with pytest.raises(InputError, match="two evaluation sets"):
        run(data, "shared", "shared")
    assert not (data / "out").exists()
