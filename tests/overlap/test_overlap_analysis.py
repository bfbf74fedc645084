"""The analysis from end to end: verdicts, accuracies on Overlap, Clean and All, the report, and the command."""

import dataclasses
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


def test_the_exhibit_of_the_paper_draws_the_points_of_an_analysis(data, command):
    mixed(data)
    run(data, "mixed", model=Remembers())
    done = command("paper", "figure17", "--out", data / "out")
    assert done.status == 0 and "mixed" in (data / "out" / "exhibits" / "figure17.html").read_text()
    assert len(read_results(data / "out" / "results.jsonl")) == 4  # still the analysis's own


def test_results_of_an_earlier_run_do_not_stay(data):
    mixed(data)
    assert run(data, "mixed", model=Remembers()).results.is_file()
    again = run(data, "mixed")
    assert again.results is None and not (data / "out" / "results.jsonl").exists()


def test_without_overlap_nothing_is_called_insignificant(data):
    assert "Nothing to compare" in run(data, "new", model=Remembers()).report.read_text()


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


# ---- what else may explain a difference


ERRORS = "What the detector&#39;s errors leave possible"
EQUAL = "Accuracy with equal class frequencies"
CLASSES = "Classes, and training texts that name them"
LOOKS = "What the images look like"


def rows_of(outcome, title):
    """A table of the report: the text of each cell by row name, without intervals; {} if there is none."""
    _, _, rest = outcome.report.read_text().partition(f"<figcaption>{title}</figcaption>")
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', rest.partition("</table>")[0], re.DOTALL)
    cells = {name: re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL) for name, row in rows}
    return {
        re.sub("<.*?>", "", name): [re.sub("<small>.*?</small>|<.*?>", "", cell) for cell in row]
        for name, row in cells.items()
    }


def judge(data, outcome, is_duplicate):
    """A file of choices about all pairs of a set, by the rank of their score."""
    [searched] = outcome.found.sets
    nearest = searched.nearest
    lines = ["dataset,key,nearest_key,decision"]
    for rank, row in enumerate(np.argsort(-nearest.scores, kind="stable").tolist()):
        decision = "duplicate" if is_duplicate(rank) else "different"
        lines.append(f"{nearest.dataset},{nearest.keys[row]},{nearest.nearest_keys[row]},{decision}")
    (data / "choices.csv").write_text("\n".join(lines) + "\n")
    return data / "choices.csv"


def test_a_review_gives_what_the_detectors_errors_leave_possible(data):
    mixed(data)
    first = run(data, "mixed", model=Remembers())
    assert not rows_of(first, ERRORS) and "errors leave possible is unknown for mixed" in first.report.read_text()
    choices = judge(data, first, lambda rank: rank < 20)
    outcome = run(data, "mixed", model=Remembers(), threshold=None, choices=choices)
    # Precision and recall 1: f = 0.5, gap = 1 - 0.5, difference = f * gap. The level is 1 - 3 * 0.005 / 4.
    [(name, cells)] = rows_of(outcome, ERRORS).items()
    assert name == "mixed (zero_shot)" and cells[:4] == ["50.00", "50.00", "50.0", "25.00"]
    assert cells[4] in ("99.62", "99.63") and "is unknown for" not in outcome.report.read_text()


def test_copies_that_the_detector_missed_are_in_the_contamination(data):
    mixed(data)
    # The 10 lowest of the others are copies, too: recall r = 20 / 30, so that f / r = 0.75 of the images have a copy;
    # true gap = 0.5 * (1 - f) / (1 - 0.75), true difference = 0.25 * (1 - f) / (r - f).
    choices = judge(data, run(data, "mixed"), lambda rank: rank < 20 or rank >= 30)
    outcome = run(data, "mixed", model=Remembers(), threshold=None, choices=choices)
    [cells] = rows_of(outcome, ERRORS).values()
    assert cells[:4] == ["50.00", "75.00", "100.0", "75.00"]
    [(name, cells)] = rows_of(run(data, "mixed", threshold=None, choices=choices), ERRORS).items()
    assert name == "mixed" and cells[:4] == ["50.00", "75.00", "", ""]  # no model is measured


def test_after_few_judgements_the_report_says_why_the_effect_is_unknown(data):
    mixed(data)
    choices = judge(data, run(data, "mixed"), lambda rank: rank < 20)
    rows = choices.read_text().splitlines()
    choices.write_text("\n".join([*rows[:11], *rows[-10:]]) + "\n")
    outcome = run(data, "mixed", model=Remembers(), threshold=None, choices=choices)
    [cells] = rows_of(outcome, ERRORS).values()
    assert cells[2:4] == ["", ""]
    assert "Unknown for mixed (zero_shot): the recall may be as low as" in outcome.report.read_text()


def test_with_equal_class_frequencies_an_easy_class_explains_the_gap(data):
    """Overlap: 20 even numbers, all right. Clean: 10 even ones, all right, and 30 odd ones, all wrong."""
    write_set(data / "easy", [*range(0, 40, 2), *range(1000, 1020, 2), *range(1001, 1061, 2)])
    outcome = run(data, "easy", model=Remembers())
    [cells] = rows_of(outcome, EQUAL).values()
    assert cells == ["25.0", "100.0", "75.0", "0.0", "100.0"]
    [cells] = rows_of(outcome, CLASSES).values()
    assert cells[:3] == ["0.75", "1", "2"]  # (1, 0) against (1/4, 3/4)
    assert "With equal class frequencies, no set&#39;s accuracy differs" in outcome.report.read_text()
    outcome = run(data, "new", model=Remembers())
    [cells] = rows_of(outcome, EQUAL).values()
    assert cells[1] == cells[3] == "" and "Unknown for new (zero_shot): no image" in outcome.report.read_text()


def test_texts_of_copies_that_name_the_class_are_counted(data):
    """Of the 20 copies, the first 7 have a text that names the class, and the last 3 have no text."""
    mixed(data)
    texts = {number: ("seen today", f"an {('even', 'odd')[number % 2]} number") for number in range(40, 47)}
    texts |= {number: () for number in range(57, 60)}
    training = [dataclasses.replace(sample(n), texts=texts.get(n, ("a number",))) for n in range(30, 70)]
    write_shards(training, data / "named", 15)
    outcome = run_overlap(
        config(data, "mixed", train=(str(data / "named"),)), threshold=0.9, detector=Detector(Knows())
    )
    [cells] = rows_of(outcome, CLASSES).values()
    assert cells == ["0.00", "2", "2", "7 of 17", "41.2"]


def test_a_set_without_classes_has_blank_cells(data):
    mixed(data)
    write_shards([sample(number, label=None) for number in (7, 5000)], data / "loose")
    rows = rows_of(run(data, "mixed", "loose"), CLASSES)
    assert rows["loose"] == [""] * 5 and rows["mixed"][3] == "0 of 20"
    assert not rows_of(run(data, "loose"), CLASSES)


def test_blank_and_small_images_are_counted_by_subset(data, monkeypatch):
    """Overlap: 20 images of one colour, 8 pixels high. Clean: 20 of noise, 80 pixels wide and 96 high."""
    noise = np.random.default_rng(0).integers(256, size=(20, 96, 80, 3), dtype=np.uint8)
    noise[:, 4, 4] = [(0, 4, number) for number in range(20)]  # what the detector sees
    clean = [dataclasses.replace(sample(1024 + place), image=image) for place, image in enumerate(noise)]
    write_shards([*map(sample, range(40, 60)), *clean], data / "frames")
    rows = rows_of(run(data, "frames"), LOOKS)
    assert {name: [*cells[:3], cells[4]] for name, cells in rows.items()} == {
        "frames, Overlap": ["20", "8", "100.0", "100.0"],
        "frames, Clean": ["20", "80", "0.0", "0.0"],
        "frames, All": ["40", "44", "50.0", "50.0"],
    }
    monkeypatch.setattr("diptych.overlap.caveats.CLEAN_MEASURED", 5)
    [few] = run(data, "frames").caveats
    assert (few.appearance["overlap"].n, few.appearance["clean"].n, few.num_overlapping) == (20, 5, 20)
    whole = few.appearance["all"]
    assert 5 < whole.n < 25 and whole.n - round(whole.blank * whole.n) == 5  # of Overlap those drawn before the fifth
    assert [one.appearance for one in run(data, "frames").caveats] == [few.appearance]


def test_broken_images_are_named(data):
    damaged = [dataclasses.replace(sample(number), image=b"\x89PNG") for number in range(500, 525)]
    write_shards([*map(sample, range(100)), *damaged[:1]], data / "damaged")
    write_shards([sample(7), *damaged], data / "some")
    outcome = run_overlap(
        config(data, "some", train=(str(data / "damaged"),)), threshold=0.9, detector=Detector(Knows())
    )
    rows = re.findall(
        r'"row">(0/\d+)</th><td class="words">(.*?)</td><td class="words">(.+?)</td>', outcome.report.read_text()
    )
    assert [row[:2] for row in rows] == [
        ("0/000500", "training data"),
        *((f"0/{number:06d}", "some") for number in range(500, 520)),
    ]
    assert all("image" in reason for _, _, reason in rows)
    page = outcome.report.read_text()
    assert "26 broken images were not searched" in page and "some: 5 of 25 broken images are not named here" in page


def test_the_chart_shows_the_first_tasks_points_beside_the_papers(data):
    mixed(data)
    page = run(data, "mixed", model=Remembers()).report.read_text()
    assert "interval excludes 0, zero_shot" in page and "p &lt; 0.001, the paper&#39;s RN50x64" in page
    assert "<title>mixed</title>" in page and "<title>Country211</title>" in page
    assert "RN50x64" not in run(data, "mixed").report.read_text()


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


def test_the_command_says_how_much_an_approximate_search_misses(command, data):
    pytest.importorskip("faiss")
    done = overlap(command, data, "--approximate")
    words = "The search is approximate: an exact one confirms 100.0 % of 20 nearest images of shared, "
    words += "and 100.0 % of the 20 at the threshold."
    assert words in done.out and words in (data / "out" / "report.html").read_text()


def test_the_command_measures_a_model(command, data):
    mixed(data)
    done = overlap(command, data, "--model", "python:test_overlap_analysis:Remembers", sets=("mixed",))
    assert "results.jsonl" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "x"], "name the training data"),
        (["--train", "t", "--out", "x"], "at least one evaluation set"),
        (["--train", "t", "--eval", "e", "--out", "x", "--task", "linear_probe"], "add --model"),
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
