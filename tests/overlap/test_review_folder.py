"""A review of an analysis: its pairs and images, and the thresholds that follow from the decisions."""

import csv
import json
import threading

import pytest
from known_images import Knows, config, find, pixels

from diptych.errors import ConfigError, DataError
from diptych.overlap.detector import Detector
from diptych.overlap.judgements import open_judgements
from diptych.overlap.overlap_analysis import run_overlap
from diptych.overlap.review_folder import ReviewFolder
from diptych.overlap.review_plan import next_pairs
from diptych.serve.review_server import serve_review


def analyse(data, exact_check=False, **options):
    return run_overlap(config(data, exact_check=exact_check), detector=Detector(Knows()), **options)


def number(key):
    return int(key.split("/")[-1])


def judge(data, reviewer="ada", count=30):
    """Answers as a person who sees whether the numbers are equal."""
    folder = ReviewFolder(data / "out")
    with open_judgements(folder.folder, reviewer) as judgements:
        for dataset in folder.datasets:
            for _ in range(count):
                chosen = next_pairs(folder.pairs(dataset), judgements.decisions, num_judgements=count)
                for pair in chosen:
                    same = number(pair.key) == number(pair.nearest_key)
                    judgements.decide(pair, "duplicate" if same else "different")


def test_a_folder_gives_pairs_and_images(data):
    analyse(data, threshold=0.9)
    folder = ReviewFolder(data / "out")
    assert folder.datasets == ("shared", "new")
    pairs = folder.pairs("shared")
    assert len(pairs) == 20 and pairs[0].score == pytest.approx(1, abs=1e-6)
    shown = folder.image("evaluation", "shared", pairs[0].key), folder.image("training", "shared", pairs[0].nearest_key)
    from diptych.data.decoding import decode_image

    assert all((pixels(number(pairs[0].key)) == decode_image(image)).all() for image in shown)
    assert folder.image("training", "shared", "0/none") is None


def test_without_an_analysis_it_is_said(tmp_path):
    with pytest.raises(DataError, match="run diptych overlap first"):
        ReviewFolder(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "has the format 2"),
        ({"options": []}, "is damaged"),
        ({"options": {"split": 3}}, "is damaged"),
        ({"train": "train"}, "is damaged"),
        ({"sets": {"shared": None}}, "is damaged"),
        ({"sets": {}}, "names no folder of the set shared"),
        ({"sets": {"shared": "a" * 5000}}, "cannot look for"),
    ],
)
def test_options_that_were_changed_are_refused(data, change, words):
    analyse(data, threshold=0.9)
    path = data / "out" / "overlap.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=words):
        ReviewFolder(data / "out").image("evaluation", "shared", "0")
    if "sets" not in change:
        with pytest.raises((ConfigError, DataError), match=words):
            find(data)


def test_judged_thresholds_are_taken(data):
    analyse(data, threshold=-1.0)
    judge(data)
    outcome = analyse(data)
    assert {name: one.origin for name, one in outcome.thresholds.items()} == {"shared": "judged", "new": "judged"}
    shared, new = outcome.found.sets
    assert shared.nearest.overlaps(outcome.thresholds["shared"].value).sum() == 20
    assert not new.nearest.overlaps(outcome.thresholds["new"].value).any()
    assert outcome.thresholds["shared"].precision.value == 1.0
    assert "PROVISIONAL" not in outcome.report.read_text()


def test_few_judgements_leave_the_provisional_threshold(data, caplog):
    analyse(data, threshold=-1.0)
    judge(data, count=19)
    outcome = analyse(data)
    assert {one.origin for one in outcome.thresholds.values()} == {"provisional"}
    assert "shared: 19 pairs were judged; a threshold needs 20" in caplog.text
    assert "PROVISIONAL" in outcome.report.read_text()


def test_judgements_of_cosines_choose_no_threshold_of_the_check(data):
    pytest.importorskip("cv2")
    analyse(data, threshold=-1.0)
    judge(data)
    outcome = analyse(data, exact_check=True)
    assert {(one.origin, one.value) for one in outcome.thresholds.values()} == {("provisional", 0.15)}
    judge(data)  # now of the check's scores
    assert (data / "out" / "checks" / "judgements").is_dir()
    assert {one.origin for one in analyse(data, exact_check=True).thresholds.values()} == {"judged"}
    assert {one.origin for one in analyse(data).thresholds.values()} == {
        "judged"
    }  # those of the cosines are there, too


def test_choices_about_nothing_are_named(data, caplog):
    analyse(data, threshold=0.0)
    with (data / "choices.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["dataset", "threshold"], ["other", 0.5]])
    analyse(data, choices=data / "choices.csv", threshold=0.9)
    assert "a threshold is for other, which is none of the sets ['new', 'shared']" in caplog.text


def test_a_file_of_choices_replaces_the_review(data):
    analyse(data, threshold=0.0)
    with (data / "choices.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["dataset", "threshold"], ["shared", 0.5], ["new", 0.9]])
    outcome = analyse(data, choices=data / "choices.csv")
    assert {name: one.value for name, one in outcome.thresholds.items()} == {"shared": 0.5, "new": 0.9}


def test_the_command_serves_until_it_is_ended(data, command, monkeypatch):
    analyse(data, threshold=0.9)
    addresses = []

    def serve(folder, reviewer, **options):
        def ready(url, stop):
            options["on_ready"](url, stop)
            addresses.append(url)
            threading.Timer(0.1, stop).start()

        serve_review(folder, reviewer, **{**options, "on_ready": ready, "open_browser": False})

    monkeypatch.setattr("diptych.serve.review_server.serve_review", serve)
    done = command("overlap", "review", data / "out", "--reviewer", "ada", "--no-browser")
    assert done.status == 0 and addresses[0] in done.out and addresses[0].startswith("http://127.0.0.1:")
