"""The overlap analysis on a full disk: one error that names the folder, and a run with room goes on to the same end."""

import re
import shutil

import pytest
from disks import fill, limited_file_size, small_disk
from known_images import Knows, config

from diptych.errors import DataError
from diptych.overlap.detector import Detector
from diptych.overlap.duplicates_file import read_duplicates
from diptych.overlap.overlap_analysis import run_overlap

PAGE = 4096


def verdicts(data, out):
    """What duplicates.parquet holds after a run."""
    run = run_overlap(config(data, out=str(out)), threshold=0.9, detector=Detector(Knows()))
    read = read_duplicates(run.duplicates)
    return [
        (one.dataset, one.keys, one.nearest_keys, one.scores.tolist(), read.overlaps[one.dataset].tolist())
        for one in read.sets
    ]


def leave_free(disk, pages):
    with fill(disk).open("r+b") as filler:
        filler.truncate(filler.seek(0, 2) - pages * PAGE)


def place(error, out):
    """Which part of the folder an error names: train, sets, search, or a file."""
    [named] = re.findall(rf"cannot write {re.escape(str(out))}/?([^/:]*).*(?:No space left|File too large)", str(error))
    return named


def test_a_full_disk_is_one_error_and_a_run_with_room_goes_on(data, tmp_path):
    """From no space at all to enough: the index, the sets' embeddings and the search each run out of it once."""
    undisturbed, named = verdicts(data, data / "whole"), []
    with small_disk(tmp_path / "disk", 200 * PAGE) as disk:
        out, free = disk / "out", 0
        while True:
            leave_free(disk, free)
            try:
                ended = verdicts(data, out)
            except DataError as error:
                named.append(place(error, out))
                assert not [path for path in out.rglob(".*") if path.is_file()], "something half written"
            else:
                (disk / "filler").unlink()
                break
            (disk / "filler").unlink()
            assert verdicts(data, out) == undisturbed
            shutil.rmtree(out)
            free += 3 if named[-1] in ("train", "sets") else 1  # the search takes four pages
    assert ended == undisturbed
    assert {"train", "sets", "search", "report.html"} <= set(named), named


def test_a_file_that_does_not_fit_is_named(data):
    """As above where no disk can be mounted; every second size of a file is too large by one byte."""
    whole = data / "whole"
    undisturbed, named = verdicts(data, whole), set()
    for limit in sorted({path.stat().st_size - 1 for path in whole.rglob("*") if path.is_file()})[::2]:
        out = data / str(limit)
        try:
            with limited_file_size(limit):
                assert verdicts(data, out) == undisturbed
        except DataError as error:
            named.add(place(error, out))
        assert verdicts(data, out) == undisturbed
    assert "train" in named, named  # its files are the largest


@pytest.mark.parametrize("part", ["train", "search"])
def test_what_was_finished_before_the_disk_was_full_is_not_done_again(data, tmp_path, part):
    """The index stays when the search finds no room; a part of the search that is written stays, too."""
    undisturbed = verdicts(data, data / "whole")
    with small_disk(tmp_path / "disk", 200 * PAGE) as disk:
        out = disk / "out"
        shutil.copytree(data / "whole", out)
        [missing] = (out / "search" / "new").rglob("part-*") if part == "search" else (out / "train").glob("000/0*03*")
        shutil.rmtree(missing)
        before = {path: path.stat().st_mtime_ns for path in (out / part).rglob("*") if path.is_file()}
        leave_free(disk, 1)  # for overlap.json, which each run writes
        with pytest.raises(DataError, match=rf"cannot write {out}/{part}.*No space left"):
            verdicts(data, out)
        (disk / "filler").unlink()
        assert verdicts(data, out) == undisturbed
        assert {path: path.stat().st_mtime_ns for path in before} == before
