"""diptych classify --out: rows are written as they are found, and the same command resumes."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest
from colours import ColourEncoder, picture

from diptych.errors import DataError, InputError
from diptych.evaluate.classify.classify_images import classify_to_file
from diptych.evaluate.classify.label_file import LabelFile
from diptych.evaluate.classify.open_scorer import scorer_of
from diptych.evaluate.classify.question import Question, find_images

LABELS = ("red", "green", "blue")
SUFFIXES = ("csv", "jsonl", "parquet")
STRANGE = 'line\nbreak, "quoted"\r.png'


@pytest.fixture
def images(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("diptych.evaluate.classify.classify_images._PICTURES_PER_BATCH", 4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(10):
        picture(LABELS[index % 3], seed=index).save(folder / f"{index}.png")
    if os.name == "posix":
        shutil.copy(folder / "0.png", folder / STRANGE)
        shutil.copy(os.fsencode(folder / "1.png"), os.fsencode(folder) + b"/\xff.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def rows(path: Path) -> list[tuple[str, str, bool]]:
    """Of each row: image, best label, whether it is broken."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return [(row["path"], row["label"], bool(row["error"])) for row in csv.DictReader(file)]
    if path.suffix == ".parquet":
        found = pyarrow.parquet.read_table(path).to_pylist()
    else:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row["path"], row["classes"][0]["label"] if row["classes"] else "", bool(row["error"])) for row in found]


def run(out: Path, images: Path, *, batches: int = 1000, **other) -> int:
    """Classify into a file, stopped after so many batches; returns how many pictures were computed."""
    encoder = other.pop("encoder", None) or ColourEncoder()
    file = LabelFile(out, Question(**{"labels": LABELS, **other}))
    work = classify_to_file(scorer_of(encoder, file.question), find_images([images]), file)
    computed = 0
    for number, found in enumerate(work, start=1):
        computed += len(found)
        if number == batches:
            work.throw(KeyboardInterrupt)
    return computed


def stopped(out: Path, images: Path, batches: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(out, images, batches=batches)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_stopped_run_resumes_without_a_row_more_or_less(images, tmp_path, suffix):
    whole, parts = tmp_path / f"whole.{suffix}", tmp_path / f"parts.{suffix}"
    assert run(whole, images) == len(find_images([images]))
    expected = rows(whole)
    assert len(expected) == len(find_images([images])) and sum(broken for *_, broken in expected) == 1
    for index in range(10):
        label = next(label for path, label, _ in expected if Path(path).name == f"{index}.png")
        assert label == LABELS[index % 3]

    stopped(parts, images, 1)
    stopped(parts, images, 2)  # more than once
    assert run(parts, images) == len(expected) - 12
    assert rows(parts) == expected
    assert run(parts, images) == 0 and rows(parts) == expected

    picture("red", seed=99).save(images / "new.png")
    assert run(parts, images) == 1
    assert len(rows(parts)) == len(expected) + 1
    assert sorted(path.name for path in tmp_path.glob(f"*.{suffix}*")) == [parts.name, whole.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_wherever_the_file_is_cut_off_nothing_is_doubled_or_lost(images, tmp_path, suffix):
    whole, parts = tmp_path / f"whole.{suffix}", tmp_path / f"parts.{suffix}"
    run(whole, images)
    stopped(parts, images, 3)
    written = parts.with_name(f"{parts.name}.unfinished.jsonl") if suffix == "parquet" else parts
    content = written.read_bytes()
    cuts = [*range(0, 60), *range(60, len(content), 97), len(content) - 1]
    for cut in cuts:
        parts.unlink(missing_ok=True)
        written.write_bytes(content[:cut])
        run(parts, images)
        assert sorted(rows(parts)) == sorted(rows(whole)), f"cut at byte {cut}"


def test_killed_between_the_table_and_the_end_of_its_rows(images, tmp_path):
    out = tmp_path / "labels.parquet"
    stopped(out, images, 3)
    left = Path(f"{out}.unfinished.jsonl").read_bytes()
    run(out, images)
    expected = rows(out)
    Path(f"{out}.unfinished.jsonl").write_bytes(left)  # the kill came before they were deleted
    run(out, images)
    assert rows(out) == expected and not Path(f"{out}.unfinished.jsonl").exists()


class OtherEncoder(ColourEncoder):
    name = "another/7"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"labels": ("red", "green")}, "other labels and another top_k"),
        ({"labels": ("red", "green", "pink")}, "with other labels:"),
        ({"templates": ("a {c}",)}, "with other templates:"),
        ({"top_k": 1}, "with another top_k:"),
        ({"encoder": OtherEncoder()}, "with another model:"),
    ],
)
def test_rows_of_something_else_are_not_mixed_in(images, tmp_path, suffix, other, said):
    out = tmp_path / f"labels.{suffix}"
    run(out, images)
    before = out.read_bytes()
    with pytest.raises(DataError, match=said):
        run(out, images, **other)
    assert out.read_bytes() == before


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "content", [b"my,own,table\n1,2,3\n", b'{"my": "own"}\n', b"my own text", b'{"my": "own"}', b"PAR1 not", b"\0" * 50]
)
def test_a_file_of_somebody_elses_stays_as_it_is(images, tmp_path, suffix, content):
    out = tmp_path / f"labels.{suffix}"
    out.write_bytes(content)
    with pytest.raises(DataError, match="classify"):
        run(out, images)
    assert out.read_bytes() == content


def test_damage_in_the_middle_is_named(images, tmp_path):
    for suffix, damage in (("csv", b"a,b\r\n"), ("jsonl", b'{"path": 3}\n')):
        out = tmp_path / f"labels.{suffix}"
        run(out, images)
        lines = out.read_bytes().splitlines(keepends=True)
        out.write_bytes(b"".join([*lines[:2], damage, *lines[2:]]))
        with pytest.raises(DataError, match="line 3 is no row"):
            run(out, images)


def test_where_it_cannot_be_written(images, tmp_path):
    for out, said in (
        (tmp_path / "labels.txt", ".parquet"),
        (tmp_path, "must end in"),
        (images / "0.png" / "a.csv", "cannot write"),
    ):
        with pytest.raises(InputError, match=said):
            run(out, images)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        run(tmp_path / "folder.csv", images)


# ---- in a process of its own

SLOW = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests themselves run in the background
import diptych.embed.model as model
encode = model.Model.encode_images
def slow(*arguments, **options):
    time.sleep(float(os.environ.get("PAUSE", "0.05")))
    return encode(*arguments, **options)
model.Model.encode_images = slow
import diptych.evaluate.classify.classify_images as pictures
pictures._PICTURES_PER_BATCH = 2
from diptych.cli import main
main()
"""


def start(folder: Path, *words: object, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, "classify", *map(str, words)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(folder / "cache"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_and_kill_keep_what_is_done(images, tmp_path):
    words = ("images", "--labels", "red,green,blue", "--out", "labels.csv")
    out, seen = tmp_path / "labels.csv", 0
    for sent in (signal.SIGKILL, signal.SIGINT):
        process = start(tmp_path, *words, PAUSE="0.5")  # on a busy machine the signal comes late
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if out.exists() and len(rows_so_far := out.read_bytes().splitlines()) > seen + 3:
                break
            time.sleep(0.005)
        process.send_signal(sent)
        _, err = process.communicate(timeout=60)
        seen = len(rows_so_far)
        if sent == signal.SIGINT:
            assert process.returncode == 130, err
            assert (
                err.decode()
                .splitlines()[-1]
                .endswith("rows are kept in labels.csv; run the same command again to resume")
            )
            assert b"Traceback" not in err
    process = start(tmp_path, *words)
    told, err = process.communicate(timeout=120)
    paths = [path for path, *_ in rows(out)]
    assert len(paths) == len(set(paths)) == len(find_images([images]))
    assert process.returncode == 1 and b"1 of them broken" in told and b"broken.png" in err


@pytest.mark.skipif(os.name != "posix", reason="names that are no text")
def test_rows_appear_at_once_and_ascii_terminals_and_closed_pipes_are_no_trouble(images, tmp_path):
    (images / "é猫.png").write_bytes((images / "0.png").read_bytes())
    process = start(tmp_path, "images", "--labels", "red,grün", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert process.stdout is not None
    assert process.stdout.readline().startswith(b"images/0.png: ") and process.poll() is None  # it still works
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and b"Traceback" not in err, err
    assert rb"images/\xe9\u732b.png: " in out and rb"gr\xfcn" in out and out.isascii()

    process = start(tmp_path, "images", "--labels", "red,green")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()  # as head does
    err = process.stderr.read()
    assert process.wait(timeout=120) == 141 and err == b""


WRONG = {
    "error": 7,
    "classes": [{"label": "red"}],
    "made_by": None,
    "path": ["a"],
    "file": 7,
    "content": None,
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_row_of_wrong_types_is_named_and_nothing_is_lost(images, tmp_path, suffix, name):
    out = tmp_path / f"labels.{suffix}"
    stopped(out, images, 2)
    written = out.with_name(f"{out.name}.unfinished.jsonl") if suffix == "parquet" else out
    lines = written.read_text().splitlines()
    lines[3] = json.dumps({**json.loads(lines[3]), name: WRONG[name]})
    written.write_text("\n".join(lines) + "\n")
    before = written.read_bytes()
    with pytest.raises(DataError, match=rf"{written.name}, line 4"):
        run(out, images)
    assert written.read_bytes() == before


@pytest.mark.parametrize("damage", ["cut", "byte", "text"])
def test_a_damaged_table_of_rows_is_one_error_and_stays(images, tmp_path, damage):
    """Also one over which PyArrow would end the process: it is read in another one."""
    out = tmp_path / "labels.parquet"
    run(out, images)
    whole = out.read_bytes()
    ends = {"cut": whole[:-9], "byte": whole[:-30] + b"\xff" * 9 + whole[-21:]}
    ends["text"] = whole.replace(b"no picture", b"no \xff\xfecture") if b"no picture" in whole else whole[:50]
    out.write_bytes(ends[damage])
    with pytest.raises(DataError, match=r"(?s)labels\.parquet is no file of diptych classify.*choose another --out"):
        run(out, images)
    assert out.read_bytes() == ends[damage]
