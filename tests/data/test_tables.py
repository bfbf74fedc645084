"""CSV and TSV with picture paths, and folders of pictures with captions beside them."""

import csv
import io
import os
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from diptych.data import tables
from diptych.data.open_source import open_source
from diptych.data.tables import FolderSource
from diptych.errors import DataError
from diptych.records import Broken, Sample


def picture(colour: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


PNG = picture()


def read(path: Path) -> list[Sample | Broken]:
    source = open_source(path)
    return [item for index in range(len(source.shards)) for item in source.read(index)]


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "pictures" / "0.png", PNG)
    return tmp_path


# ------------------------------------------------------------------ CSV


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'filepath,title\npictures/0.png,"a cat, asleep"\n'),
        ("a.csv", 'id,Image,Caption\r\n7,pictures/0.png,"a cat, asleep"\r\n'),
        ("a.csv", "filepath\ttitle\npictures/0.png\ta cat, asleep\n"),  # open_clip's default
        ("a.tsv", "\ufefffile_name\ttext\npictures/0.png\ta cat, asleep"),
        ("a.csv", "path;caption\n\n\npictures/0.png;a cat, asleep\n\n"),
    ],
)
def test_a_row_is_a_pair(folder, name, content):
    (sample,) = read(write(folder / name, content))
    assert (sample.key, sample.image, sample.texts) == (f"{name}/0", PNG, ("a cat, asleep",))
    assert "pictures/0.png" in sample.metadata.values()


def test_quotes_and_line_breaks(folder):
    content = 'path,text\npictures/0.png,"two\nlines, ""quoted"""\npictures/0.png,5" nails\n'
    assert [item.texts for item in read(write(folder / "a.csv", content))] == [('two\nlines, "quoted"',), ('5" nails',)]


def test_absolute_paths(folder):
    assert read(write(folder / "b" / "a.csv", f"path,text\n{folder}/pictures/0.png,a\n"))[0].image == PNG


def test_shards_are_the_rows_of_one_reading(folder, monkeypatch):
    """Records of several lines, blank lines and broken rows do not move the shards' borders."""
    monkeypatch.setattr(tables, "ROWS_PER_SHARD", 7)
    rows = [f'pictures/0.png,"caption {n}{chr(10) * (n % 3)}ü"' + "\n" * (1 + n % 2) for n in range(100)]
    rows[50] = "one field\n"
    source = open_source(write(folder / "a.csv", "path,text\n" + "".join(rows)))
    assert len(source.shards) == 15 and source.shards[1] == f"{folder}/a.csv:7"
    items = [list(source.read(index)) for index in range(15)]
    assert [len(shard) for shard in items] == [7] * 14 + [2]
    flat = [item for shard in items for item in shard]
    assert [item.key for item in flat] == [f"a.csv/{n}" for n in range(100)]
    assert flat[50].reason.endswith(": the row has 1 fields, the header 2")
    assert all(flat[n].texts[0].startswith(f"caption {n}") for n in range(100) if n != 50)
    assert list(source.read(3)) == items[3]


def test_rows_that_cannot_be_used(folder):
    os.mkfifo(folder / "pipe.png")
    rows = [
        b"pictures/0.png,caf\xe9",
        b"pictures/0.png, ",
        b"pictures/none.png,a",
        b",a",
        b"pictures,a",
        b"pipe.png,a",
        b"/dev/zero,a",
        b"a\0b.png,a",
        b"pictures/0.png,a,b",
        b'pictures/0.png,"' + b"x" * 140_000 + b'"',
        b"pictures/0.png,good",
    ]
    *broken, last = read(write(folder / "a.csv", b"path,text\n" + b"\n".join(rows)))
    reasons = [
        "its caption is not UTF-8 (byte 3)",
        "empty caption",
        "cannot read " + str(folder / "pictures" / "none.png") + ": No such file or directory",
        "no image: the path is empty",
        "not a regular file",
        "not a regular file",
        "not a regular file",
        "null byte",
        "the row has 3 fields, the header 2",
        "the row cannot be parsed: field larger than field limit",
    ]
    for item, reason in zip(broken, reasons, strict=True):
        assert reason in item.reason
    assert isinstance(last, Sample)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty: its first line should name the columns"),
        ("filepath,words\n", "no column of captions .*--caption-column NAME"),
        ("url,caption\n", "img2dataset"),
        ("path,text\n".encode("utf-16"), "is UTF-16"),
        ("path,text\n" + "x" * (2 << 20), "a line of more than 1024 KiB at byte 10"),
    ],
)
def test_files_that_are_no_tables(folder, content, reason):
    with pytest.raises(DataError, match=reason):
        open_source(write(folder / "a.csv", content))


@pytest.mark.parametrize(
    "line", ['[[3, {"file_name": "a.png"}]]', '[["file_name", 1], ["text", 2]]', "[]", "7", "null", "{"]
)
def test_a_first_line_that_is_no_object_is_named(folder, line):
    """Pairs in a list are none, though Python makes a dict of them."""
    with pytest.raises(DataError, match=r"the first line of .*a\.jsonl is not a JSON object"):
        open_source(write(folder / "a.jsonl", f"{line}\n"))


def test_memory_does_not_grow_with_the_table(folder):
    path = folder / "a.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "text"])
        writer.writerows(["pictures/0.png", "a caption of some thirty letters"] for _ in range(100_000))
    tracemalloc.start()
    source = open_source(path)
    assert len(list(source.read(50))) == 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(source.shards) == 100 and peak < 2 << 20 < path.stat().st_size


def test_several_tables_and_their_fingerprint(folder):
    paths = [write(folder / name, "path,text\npictures/0.png,a\n") for name in ("a.csv", "b.csv")]
    source = open_source(paths)
    assert [item.key for index in range(2) for item in source.read(index)] == ["a.csv/0", "b.csv/0"]
    assert source.fingerprint != open_source(paths[0]).fingerprint


# ------------------------------------------------------------------ folders


def test_a_folder_of_pictures(tmp_path):
    write(tmp_path / "b" / "1.x.png", PNG)
    write(tmp_path / "b" / "1.x.txt", "one\ntwo")
    write(tmp_path / "a.JPG", PNG)
    write(tmp_path / "a.txt", "caption")
    write(tmp_path / "a.json", '{"width": 8}')
    write(tmp_path / "c" / "c.png", PNG)
    write(tmp_path / "d.png", PNG)
    write(tmp_path / "d.txt", b"\xff")
    write(tmp_path / "b" / ".hidden.png", PNG)
    write(tmp_path / ".hidden" / "x.png", PNG)
    write(tmp_path / "notes.txt", "no picture beside it")
    assert read(tmp_path) == [
        Sample("a.JPG", PNG, ("caption",), None, {"width": 8}),
        Sample("b/1.x.png", PNG, ("one", "two"), None, {}),
        Broken("c/c.png", f"{tmp_path}:0", "no caption (found .png)"),
        Broken("d.png", f"{tmp_path}:0", "its caption is not UTF-8 (byte 0)"),
    ]


def test_img2dataset_files_layout(tmp_path):
    """Tables without pictures lie beside the folders; the pictures count."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number in range(3):
        write(tmp_path / "00000" / f"{number:09d}.jpg", picture(number))
        write(tmp_path / "00000" / f"{number:09d}.txt", f"caption {number}\nof two lines")
        write(
            tmp_path / "00000" / f"{number:09d}.json",
            f'{{"caption": "caption {number}\\nof two lines", "status": "success"}}',
        )
    write(tmp_path / "00000_stats.json", "{}")
    pq.write_table(pa.table({"url": ["http://x"], "caption": ["a"], "key": ["000000000"]}), tmp_path / "00000.parquet")
    items = read(tmp_path)
    assert [item.key for item in items] == [f"00000/{number:09d}.jpg" for number in range(3)]
    assert items[1].texts == ("caption 1\nof two lines",) and items[1].metadata["status"] == "success"


def test_folders_are_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_PER_SHARD", 4)
    for number in range(10):
        write(tmp_path / f"{number}.png", PNG)
        write(tmp_path / f"{number}.txt", "a")
    source = open_source(tmp_path)
    assert source.shards == tuple(f"{tmp_path}:{first}" for first in (0, 4, 8))
    assert [len(list(source.read(index))) for index in range(3)] == [4, 4, 2]
    before = source.fingerprint
    write(tmp_path / "3.png", PNG + b"more")
    assert open_source(tmp_path).fingerprint != before
    (tmp_path / "3.png").unlink()
    assert "cannot read" in next(item for item in source.read(0) if isinstance(item, Broken)).reason


def test_two_folders(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name / "0.png", PNG)
        write(tmp_path / name / "0.txt", "a")
    source = open_source([tmp_path / "a", tmp_path / "b"])
    assert [item.key for item in source.read(0)] == ["a/0.png", "b/0.png"]


def test_links_to_folders_are_not_followed_and_devices_not_read(tmp_path):
    write(tmp_path / "set" / "0.png", PNG)
    write(tmp_path / "set" / "0.txt", "a")
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "zero.png").symlink_to("/dev/zero")
    first, second = read(tmp_path / "set")
    assert isinstance(first, Sample) and "not a regular file" in second.reason


def test_a_picture_too_large_to_be_one(tmp_path):
    with (tmp_path / "0.png").open("wb") as file:
        file.truncate((64 << 20) + 1)
    write(tmp_path / "0.txt", "a")
    assert "is larger than 65536 KiB" in read(tmp_path)[0].reason


def test_labels_from_folders(tmp_path):
    write(tmp_path / "cat" / "0.png", PNG)
    write(tmp_path / "dog" / "more" / "0.png", PNG)
    source = FolderSource(tmp_path, ("cat/0.png", "dog/more/0.png"), {"cat": 0, "dog": 1})
    assert [(item.key, item.label) for item in source.read(0)] == [("cat/0.png", 0), ("dog/more/0.png", 1)]
