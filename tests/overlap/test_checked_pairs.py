"""The exact check as the second step: it alone decides between images that a detector takes for copies."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from pictures import encoded, painting
from PIL import ImageOps

from diptych.data.shards import write_shards
from diptych.errors import DataError
from diptych.files import locked
from diptych.overlap import checked_pairs, inner_duplicates
from diptych.overlap.checked_pairs import UNCHECKED
from diptych.overlap.detector import Detector
from diptych.overlap.duplicates_file import read_duplicates
from diptych.overlap.find import OverlapConfig, find_overlap
from diptych.overlap.overlap_analysis import remove_overlap, run_overlap
from diptych.records import Sample

pytest.importorskip("cv2")
COPIED = (2, 7, 10)  # training images of which the evaluation images 0, 1 and 2 are copies
NUM_TRAIN = 12


class SeesFormat:
    """A detector to which all images of one width are equal: it proposes, and cannot decide."""

    name, image_fingerprint = "sees-format", "sees-format"

    def encode_images(self, images):
        return torch.tensor([[1.0, 0.0] if np.asarray(image).shape[1] > 60 else [0.0, 1.0] for image in images])


@pytest.fixture
def data(tmp_path):
    """Twelve training images in two shards; of six evaluation images three are copies, and one is of another width."""
    training = [painting(seed, (120, 90)) for seed in range(NUM_TRAIN)]
    write_shards(
        [Sample(f"{place:02d}", encoded(image, "PNG"), ("words",)) for place, image in enumerate(training)],
        tmp_path / "train",
        6,
    )
    copies = [
        training[2].resize((90, 80)),
        ImageOps.mirror(training[7]).crop((10, 5, 115, 88)),
        ImageOps.autocontrast(training[10].convert("L")),
    ]
    others = [painting(seed, (120, 90)) for seed in (100, 101)] + [painting(102, (50, 50))]
    samples = [Sample(f"{place}", encoded(image, "PNG"), ("words",)) for place, image in enumerate([*copies, *others])]
    write_shards(samples, tmp_path / "evaluation")
    return tmp_path


def config(data, **changes):
    values = {"train": (str(data / "train"),), "sets": (str(data / "evaluation"),), "out": str(data / "out")}
    return OverlapConfig(**{**values, "num_workers": 0, "neighbours": NUM_TRAIN, "exact_check": True, **changes})


def nearest(data, **changes):
    [searched] = find_overlap(config(data, **changes), Detector(SeesFormat())).sets
    return searched.nearest


def last(keys):
    return [key.split("/")[-1] for key in keys]


def test_the_check_decides_among_what_the_detector_proposes(data):
    alike = nearest(data, exact_check=False)
    assert (alike.scores[:5] == 1).all() and set(last(alike.nearest_keys)) == {"00"}  # the detector knows nothing
    found = nearest(data)
    assert last(found.nearest_keys[:3]) == [f"{place:02d}" for place in COPIED]
    assert found.overlaps(0.3).tolist() == [True, True, True, False, False, False]


def test_a_pair_below_the_least_cosine_is_not_checked(data, monkeypatch):
    monkeypatch.setitem(checked_pairs.LEAST_COSINES, "default", 0.5)
    found = nearest(data)
    assert found.scores[5] == UNCHECKED and last(found.nearest_keys)[5] == "00"
    lines = (data / "out" / "checks" / "evaluation.jsonl").read_text().splitlines()
    assert len(lines) == 5 * NUM_TRAIN and not any(json.loads(line)["key"].endswith("5") for line in lines)


def test_only_the_proposed_images_are_checked(data):
    found = nearest(data, neighbours=3)  # training images 0, 1 and 2
    assert found.overlaps(0.3).tolist() == [True, False, False, False, False, False]


def test_any_number_of_processes_gives_the_same(data):
    one = nearest(data)
    shutil.rmtree(data / "out")
    two = nearest(data, num_processes=2)
    assert (one.scores == two.scores).all() and one.nearest_keys == two.nearest_keys


def test_no_pair_is_checked_twice(data, monkeypatch):
    first = nearest(data)
    path = data / "out" / "checks" / "evaluation.jsonl"
    content = path.read_bytes()
    monkeypatch.setattr(checked_pairs, "check_gray", lambda query, reference: pytest.fail("checked again"))
    assert (nearest(data).scores == first.scores).all()
    monkeypatch.undo()
    path.write_bytes(content[: len(content) * 2 // 3])  # as a kill leaves it
    assert (nearest(data).scores == first.scores).all()
    assert sorted(path.read_bytes().splitlines()) == sorted(content.splitlines())


def test_rows_of_another_check_do_not_count(data):
    first = nearest(data)
    path = data / "out" / "checks" / "evaluation.jsonl"
    rows = [json.loads(line) | {"check": 0, "score": 0.9} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert (nearest(data).scores == first.scores).all()


def test_a_damaged_row_is_named(data):
    nearest(data)
    path = data / "out" / "checks" / "evaluation.jsonl"
    path.write_text("nothing\n" + path.read_text())
    with pytest.raises(DataError, match=r"evaluation\.jsonl, line 1 is no checked pair"):
        nearest(data)


def test_two_programs_do_not_check_one_set(data):
    nearest(data)
    with locked(data / "out" / "checks" / "evaluation.jsonl"), pytest.raises(DataError, match="locked"):
        nearest(data)


def test_a_run_says_that_its_threshold_is_the_check_s(data):
    run = run_overlap(config(data), detector=Detector(SeesFormat()))
    assert run.thresholds["evaluation"].value == 0.15 and run.thresholds["evaluation"].origin == "provisional"
    [read] = read_duplicates(run.duplicates).sets
    assert last(read.nearest_keys[:3]) == ["02", "07", "10"] and read.scores[0] > 0.5
    assert "pixels agree" in run.report.read_text()


def test_removal_by_the_check_takes_every_copy_and_nothing_else(data):
    sheet = remove_overlap(config(data, neighbours=1), data / "clean", threshold=0.3, detector=Detector(SeesFormat()))
    assert sheet.num_overlapping == {"evaluation": 1} and sheet.num_kept == NUM_TRAIN - 1  # one neighbour each way
    shutil.rmtree(data / "clean")
    sheet = remove_overlap(
        config(data, out=str(data / "more")), data / "clean", threshold=0.3, detector=Detector(SeesFormat())
    )
    assert sheet.num_overlapping == {"evaluation": 3} and sheet.detector.endswith("and exact check")
    assert [key for key in json.loads((data / "clean" / "datasheet.json").read_text())["thresholds"]] == ["evaluation"]


def test_inner_duplicates_are_those_that_the_check_confirms(data):
    again = [("a", painting(3, (120, 90)).resize((100, 80))), ("b", ImageOps.mirror(painting(3, (120, 90))))]
    again.append(("c", painting(5, (120, 90)).convert("L")))
    write_shards([Sample(key, encoded(image, "PNG"), ("words",)) for key, image in again], data / "again")
    (data / "again" / "0.tar").rename(data / "train" / "2.tar")
    alone = config(data, sets=())
    by_cosine = remove_overlap(
        config(data, sets=(), exact_check=False), data / "one", inner=0.9, detector=Detector(SeesFormat())
    )
    assert by_cosine.num_kept == 1  # the detector takes all for copies
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inner_duplicates, "NUM_NEIGHBOURS", NUM_TRAIN + 3)
        sheet = remove_overlap(alone, data / "once", inner=0.3, detector=Detector(SeesFormat()))
    assert (sheet.num_kept, sheet.num_duplicates) == (NUM_TRAIN, 3)
    removed = pq.read_table(data / "once" / "removed.parquet").to_pylist()
    assert [last([row["train_key"], row["key"]]) for row in removed] == [["a", "03"], ["b", "03"], ["c", "05"]]
    assert all(row["score"] > 0.3 and row["reason"] == "duplicate" for row in removed)


CHECK = """
import sys
sys.path[:0] = [{tests!r}, {folder!r}]
from pathlib import Path
import test_checked_pairs as t
from diptych.overlap import checked_pairs
checked_pairs._TASK = 4
append = checked_pairs._append
def told(file, rows):
    append(file, rows)
    print("rows", flush=True)
checked_pairs._append = told
t.nearest(Path({data!r}))
"""


def test_a_killed_check_goes_on(data):
    folder = Path(__file__).parent
    code = CHECK.format(tests=str(folder.parent), folder=str(folder), data=str(data))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    for _ in range(5):
        assert process.stdout.readline() == "rows\n"
    time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    lines = (data / "out" / "checks" / "evaluation.jsonl").read_text().count("\n")
    assert 20 <= lines < 6 * NUM_TRAIN
    killed = nearest(data)
    shutil.rmtree(data / "out")
    assert (nearest(data).scores == killed.scores).all()
