"""diptych classify --out, once more: which image a row is of, and whether it still is what the row says."""

import csv
import errno
import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from colours import ColourEncoder, picture
from test_classify_file import LABELS, SUFFIXES, images, rows, run, stopped  # noqa: F401  (images is a fixture)

from diptych.data.content import file_mark
from diptych.errors import DataError
from diptych.evaluate.classify.classified import Classified
from diptych.evaluate.classify.classify_images import classify_to_file
from diptych.evaluate.classify.label_file import LabelFile
from diptych.evaluate.classify.open_scorer import scorer_of
from diptych.evaluate.classify.question import Question, find_images


def classify(out: Path, *given: str | Path) -> int:
    """How many images were classified."""
    file = LabelFile(out, Question(LABELS))
    return sum(map(len, classify_to_file(scorer_of(ColourEncoder(), file.question), find_images(given), file)))


def folder_of(path: Path, *colours: str) -> Path:
    path.mkdir(parents=True)
    for name, colour in zip("abcdefg", colours, strict=False):
        picture(colour, seed=1).save(path / f"{name}.png")
    return path


def columns(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines()]


def make_old(path: Path) -> None:
    """As versions wrote it that did not know of files and contents."""
    if path.suffix == ".parquet":
        pq.write_table(pq.read_table(path).drop_columns(["file", "content"]), path)
    elif path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file))
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(line[:-2] for line in lines)
    else:
        lines = [{name: row[name] for name in row if name not in ("file", "content")} for row in columns(path)]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_images_of_equal_names_in_other_folders_have_rows_of_their_own(tmp_path, monkeypatch, suffix):
    out = tmp_path / f"labels.{suffix}"
    folder_of(tmp_path / "mon", "red", "green")
    folder_of(tmp_path / "tue", "blue", "blue")
    for day, number in (("mon", 2), ("tue", 2), ("mon", 0), ("tue", 0)):
        monkeypatch.chdir(tmp_path / day)
        assert classify(out, ".") == number
    assert [row[:2] for row in rows(out)] == [
        ("a.png", "red"),
        ("b.png", "green"),
        ("a.png", "blue"),
        ("b.png", "blue"),
    ]
    if suffix != "csv":
        named = [row["file"] for row in columns(out)]
        assert named == [str(tmp_path / day / name) for day in ("mon", "tue") for name in ("a.png", "b.png")]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_however_an_image_is_spelled_it_has_one_row(tmp_path, monkeypatch, suffix):
    monkeypatch.chdir(tmp_path)
    out, folder = tmp_path / f"labels.{suffix}", folder_of(tmp_path / "deep/p", "red", "green")
    (tmp_path / "link").symlink_to(folder)
    assert classify(out, "deep/p", "deep/../deep/p", folder) == 2  # in one command
    for spelled in (folder, "./deep/p", "deep/../deep/p", "link", "link/a.png", "link/../p"):
        assert classify(out, spelled) == 0, spelled
    assert [row[0] for row in rows(out)] == ["deep/p/a.png", "deep/p/b.png"]
    (folder / "c.png").symlink_to("a.png")  # a name of its own: a folder of links has a row for each
    assert classify(out, "link") == 1 and rows(out)[-1][:2] == ("link/c.png", "red")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_image_that_has_changed_is_classified_again(tmp_path, suffix):
    out, folder = tmp_path / f"labels.{suffix}", folder_of(tmp_path / "p", "red", "green", "red")
    other = folder_of(tmp_path / "other", "red")
    (folder / "b.png").write_bytes(b"")
    assert classify(out, folder, other) == 4
    assert [row[1:] for row in rows(out)] == [("red", False), ("", True), ("red", False), ("red", False)]
    assert classify(out, folder) == 0
    (folder / "a.png").touch()  # a time is no content
    assert classify(out, folder) == 0

    shutil.copy(tmp_path / "p/c.png", folder / "b.png")
    picture("blue", seed=2).save(folder / "a.png")
    assert classify(out, folder) == 2
    shown = {row[0]: row[1:] for row in rows(out)}
    assert len(rows(out)) == 4 and shown[str(other / "a.png")] == ("red", False)  # of another folder
    assert [shown[str(folder / name)][0] for name in ("a.png", "b.png", "c.png")] == ["blue", "red", "red"]
    assert LabelFile(out, Question(LABELS)).num_broken == 0

    (folder / "c.png").unlink()
    assert classify(out, folder) == 0  # it is not asked about
    assert classify(out, folder / "c.png") == 1 and len(rows(out)) == 4
    assert [row[2] for row in rows(out) if row[0] == str(folder / "c.png")] == [True]
    assert not list(tmp_path.glob(".labels*"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_still_broken_keeps_its_row_and_what_can_be_read_now_does_not(images, tmp_path, suffix):  # noqa: F811
    """A plugin that was missing is installed: the file is the same."""
    out, paths = tmp_path / f"labels.{suffix}", find_images([images])
    file = LabelFile(out, Question(LABELS))
    with file.writing(scorer_of(ColourEncoder(), Question(LABELS)).identity, paths) as missing:
        assert missing == paths
        file.append([Classified(Path(path), (), "no plugin reads it") for path in paths], file.origins(paths))
    assert file.num_broken == len(paths)
    assert run(out, images) == len(paths) - 1 and len(rows(out)) == len(paths)
    assert [Path(path).name for path, _, is_broken in rows(out) if is_broken] == ["broken.png"]
    before = out.read_bytes()
    assert run(out, images) == 0 and out.read_bytes() == before


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_stopped_run_goes_on_over_images_that_changed_meanwhile(images, tmp_path, suffix):  # noqa: F811
    out = tmp_path / f"labels.{suffix}"
    stopped(out, images, 2)  # of 4 each
    shutil.copy(images / "2.png", images / "0.png")
    stopped(out, images, 1)
    shutil.copy(images / "3.png", images / "1.png")
    run(out, images)
    shown = {Path(path).name: label for path, label, _ in rows(out)}
    assert len(rows(out)) == len(shown) == len(find_images([images]))
    assert (shown["0.png"], shown["1.png"], shown["2.png"]) == ("blue", "red", "blue")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("whole", [True, False])
def test_files_of_older_versions_are_gone_on_with(images, tmp_path, monkeypatch, suffix, whole):  # noqa: F811
    """Of a row that says neither file nor content the path decides, and the row holds, unless the image was broken."""
    monkeypatch.chdir(tmp_path)
    out = tmp_path / f"labels.{suffix}"
    (run if whole else stopped)(out, "images", **({} if whole else {"batches": 2}))
    written = out if whole or suffix != "parquet" else Path(f"{out}.unfinished.jsonl")
    make_old(written)
    expected = rows(written)
    content = written.read_bytes()
    if whole:
        assert run(out, images) == 0 and written.read_bytes() == content  # spelled otherwise, too
    picture("blue", seed=9).save(images / "new.png")
    (images / "broken.png").write_bytes((images / "0.png").read_bytes())
    assert run(out, "images") == len(find_images([images])) - len(expected) + whole
    kept = [row for row in expected if not row[0].endswith("broken.png")]
    assert rows(out)[: len(kept)] == kept and len(rows(out)) == len(find_images([images]))
    assert run(out, "images") == 0
    picture("red", seed=9).save(images / "new.png")  # whose row is new
    assert run(out, "images") == 1 and len(rows(out)) == len(find_images([images]))


def test_a_link_to_the_file_stays_one(images, tmp_path):  # noqa: F811
    (tmp_path / "shared").mkdir()
    out, target = tmp_path / "labels.csv", tmp_path / "shared/labels.csv"
    out.symlink_to(target)
    run(out, images)
    picture("blue", seed=3).save(images / "0.png")
    assert run(out, images) == 1 and out.is_symlink()
    assert len(rows(target)) == len(find_images([images])) and list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_full_disk_while_rows_are_taken_out_loses_none(images, tmp_path, monkeypatch, suffix):  # noqa: F811
    out = tmp_path / f"labels.{suffix}"
    run(out, images)
    out.chmod(0o640)
    before = out.read_bytes()
    picture("blue", seed=3).save(images / "0.png")
    with monkeypatch.context() as full:

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        full.setattr("diptych.evaluate.classify.label_file.shutil.copymode", refuse)
        with pytest.raises(DataError, match=r"No space left.*the same command resumes"):
            run(out, images)
    assert out.read_bytes() == before and sorted(tmp_path.glob("*labels*")) == [out]
    assert run(out, images) == 1 and len(rows(out)) == len(find_images([images]))
    assert out.stat().st_mode & 0o777 == 0o640


def test_killed_after_rows_were_taken_out_the_same_command_makes_them(images, tmp_path):  # noqa: F811
    out = tmp_path / "labels.csv"
    run(out, images)
    picture("blue", seed=3).save(images / "0.png")
    file, model = LabelFile(out, Question(LABELS)), scorer_of(ColourEncoder(), Question(LABELS)).identity
    with pytest.raises(KeyboardInterrupt), file.writing(model, find_images([images])):
        raise KeyboardInterrupt
    assert len(rows(out)) == len(find_images([images])) - 1
    assert run(out, images) == 1 and rows(out)[-1][1] == "blue"


def test_the_mark_of_a_large_file_needs_little_of_it(tmp_path):
    path = tmp_path / "large.bmp"
    path.write_bytes(bytes(1 << 20))
    before = file_mark(path)
    copy = shutil.copy2(path, tmp_path / "copy.bmp")
    assert file_mark(copy) == before and before.startswith("1048576-")
    content = bytearray(1 << 20)
    for place in (0, (1 << 20) - 1):
        path.write_bytes(bytes([*content[:place], 1, *content[place + 1 :]]))
        os.utime(path, ns=(0, copy.stat().st_mtime_ns))
        assert file_mark(path) != before
    path.write_bytes(bytes([*content[: 1 << 19], 1, *content[(1 << 19) + 1 :]]))  # its time tells
    assert file_mark(path) != before
    assert file_mark(tmp_path / "none") != file_mark(tmp_path) and file_mark(tmp_path / "none").startswith("0-")
