"""Tar shards as a source: grouping, captions, labels, bad input; and writing them."""

import gzip
import io
import json
import logging
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tars import tar_of

from diptych.data.grouping import MAX_SAMPLE_FILES
from diptych.data.open_source import open_source
from diptych.data.shards import TarSource, write_shards
from diptych.errors import DataError
from diptych.records import Broken, Sample

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.exists(), reason=f"no real data at {DATA}")


def picture(colour: int = 0, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (colour, 0, 0)).save(stream, kind)
    return stream.getvalue()


PNG = picture()


def write_tar(path: Path, members: dict[str, bytes | str] | list[tuple[str, bytes | str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = members.items() if isinstance(members, dict) else members
    content = tar_of((name, data.encode() if isinstance(data, str) else data) for name, data in pairs)
    path.write_bytes(gzip.compress(content) if path.suffix in (".gz", ".tgz") else content)
    return path


def read(path: Path) -> list[Sample | Broken]:
    return list(TarSource((path,)).read(0))


def read_one(folder: Path, files: dict[str, bytes | str], **more: bytes | str) -> Sample | Broken:
    """The sample of a shard with the members s.<extension>."""
    (item,) = read(write_tar(folder / "a.tar", {f"s.{extension}": data for extension, data in (files | more).items()}))
    return item


# ------------------------------------------------------------------ good shards


def test_samples_of_a_shard(tmp_path):
    path = write_tar(
        tmp_path / "a.tar.gz",
        {
            "0.jpg": PNG,
            "0.txt": "a cat\n",
            "0.json": '{"url": "x"}',
            "d.1/1.PNG": PNG,
            "d.1/1.cls": "3",
            "2.png": PNG,
            "2.json": '{"caption": "a dog", "width": 8}',
        },
    )
    assert read(path) == [
        Sample("a/0", PNG, ("a cat",), None, {"url": "x"}),
        Sample("a/d.1/1", PNG, (), 3, {}),
        Sample("a/2", PNG, ("a dog",), None, {"caption": "a dog", "width": 8}),
    ]


@pytest.mark.parametrize(
    ("files", "texts"),
    [
        ({"txt": "one\n\n  two \r\n"}, ("one", "two")),
        ({"txt": "one", "json": '{"captions": ["two", "three"]}'}, ("two", "three")),
        ({"json": '{"texts": ["two", " ", "three"]}'}, ("two", "three")),
        ({"txt": "one", "json": '{"captions": []}'}, ("one",)),
        ({"txt": "one", "json": '{"caption": "other"}'}, ("one",)),
        ({"txt": "one\ncaption", "json": '{"caption": "one\\ncaption"}'}, ("one\ncaption",)),
        ({"json": '{"text": "one"}'}, ("one",)),
        ({"txt": "\ufeffein Käse 🧀"}, ("ein Käse 🧀",)),
    ],
)
def test_where_captions_come_from(tmp_path, files, texts):
    assert read_one(tmp_path, files, png=PNG).texts == texts


def test_an_array_as_picture_and_as_label(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    streams = io.BytesIO(), io.BytesIO()
    np.save(streams[0], pixels)
    np.save(streams[1], np.array(7))
    sample = read_one(tmp_path, {"npy": streams[0].getvalue(), "txt": "noise"})
    np.testing.assert_array_equal(sample.image, pixels)
    assert read_one(tmp_path, {"npy": streams[1].getvalue(), "png": PNG}).label == 7


def test_members_that_are_no_samples_are_passed_over(tmp_path):
    members = {"s.png": PNG, "README": "x", "._s.png": "mac", "s.txt": "a"}
    members = {"__start__": "x", **members}
    assert read(write_tar(tmp_path / "a.tar", members)) == [Sample("a/s", PNG, ("a",), None, {})]


@needs_data
def test_real_shards_in_full():
    source = open_source(DATA / "tiny-imagenet" / "train" / "{0..11}.tar.gz")
    assert [Path(name).name for name in source.shards] == [f"{number}.tar.gz" for number in range(12)]
    first, again = list(source.read(1)), list(source.read(1))
    assert first == again and len(first) == 5000
    assert all(isinstance(item, Sample) and len(item.texts) == 1 and item.metadata["wnid"] for item in first)
    assert first[0].key == "1/s0005000" and first[0].label == first[0].metadata["label"]


@needs_data
def test_groups_as_webdataset_does():
    webdataset = pytest.importorskip("webdataset", reason="webdataset, the peer, is not installed")
    path = DATA / "photos" / "0.tar.gz"
    theirs = list(webdataset.WebDataset(str(path), shardshuffle=False))
    ours = read(path)
    assert [sample.key for sample in ours] == ["0/" + sample["__key__"] for sample in theirs]
    assert [sample.image for sample in ours] == [sample["jpg"] for sample in theirs]
    assert [sample.texts[0] for sample in ours] == [sample["txt"].decode().strip() for sample in theirs]


def test_groups_odd_names_as_webdataset_does(tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="webdataset, the peer, is not installed")
    names = [
        "a.jpg",
        "a.txt",
        "b.seg.jpg",
        "b.jpg",
        "b.txt",
        "x.y/c.jpg",
        "x.y/c.txt",
        "x/y/d.JPG",
        "x/y/d.txt",
        "e",
        "f.",
    ]
    path = write_tar(tmp_path / "a.tar", {name: PNG if name.lower().endswith("jpg") else "text" for name in names})
    theirs = [sample["__key__"] for sample in webdataset.WebDataset(str(path), shardshuffle=False) if "jpg" in sample]
    assert [item.key for item in read(path) if isinstance(item, Sample)] == ["a/" + key for key in theirs]


def test_a_source_travels_to_workers_and_has_a_fingerprint(tmp_path):
    for folder in ("one", "two"):
        write_tar(tmp_path / folder / "0.tar", {"s.png": PNG, "s.txt": "a"})
        write_tar(tmp_path / folder / "1.tar", {"t.png": PNG, "t.txt": "b"})
    source = open_source(tmp_path / "one")
    assert [item.key for item in pickle.loads(pickle.dumps(source)).read(1)] == ["1/t"]  # noqa: S301
    assert source.fingerprint == open_source(tmp_path / "two").fingerprint  # wherever it lies
    assert source.fingerprint != open_source(tmp_path / "one" / "0.tar").fingerprint
    with (tmp_path / "two" / "1.tar").open("ab") as file:
        file.write(b"\0")
    assert source.fingerprint != open_source(tmp_path / "two").fingerprint


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"txt": "a"}, "no image (found .txt)"),
        ({"png": PNG}, "no caption (found .png)"),
        ({"png": PNG, "txt": ""}, "empty caption"),
        ({"png": PNG, "txt": " \n\t\n"}, "empty caption"),
        ({"png": PNG, "json": '{"caption": null}'}, "no caption"),
        ({"png": PNG, "json": '{"caption": "  "}'}, "empty caption"),
        ({"png": b"", "txt": "a"}, "an empty image"),
        ({"png": PNG, "txt": b"caf\xe9"}, "its caption is not UTF-8 (byte 3)"),
        ({"png": PNG, "txt": "x" * (1 << 20) + "x"}, "its .txt is larger than 1024 KiB"),
        ({"png": PNG, "txt": "a", "json": b"\xff"}, "its .json is not UTF-8"),
        ({"png": PNG, "txt": "a", "json": "{"}, "its .json cannot be parsed"),
        ({"png": PNG, "txt": "a", "json": "[" * 100_000}, "its .json cannot be parsed"),
        ({"png": PNG, "txt": "a", "json": "[1]"}, "its .json is not an object"),
        ({"png": PNG, "cls": "cat"}, "its .cls is not a class index: b'cat'"),
        ({"png": PNG, "cls": "-1"}, "its .cls is not a class index"),
        ({"png": PNG, "cls": "9" * 5000}, "its .cls is not a class index"),
        ({"png": PNG, "cls": "3", "json": '{"label": 4}'}, "labels given twice: 3 in its .cls, 4 in its .json"),
        ({"npy": b"\x93NUMPY", "txt": "a"}, "its .npy cannot be read"),
    ],
)
def test_samples_that_cannot_be_used(tmp_path, files, reason):
    item = read_one(tmp_path, files)
    assert isinstance(item, Broken) and reason in item.reason
    assert item.key == "a/s" and item.shard == str(tmp_path / "a.tar")


@pytest.mark.parametrize("pickled", [False, True])
def test_arrays_that_lie(tmp_path, pickled):
    stream = io.BytesIO()
    np.save(stream, np.array([{}] if pickled else [1, 2, 3, 4]), allow_pickle=True)
    data = stream.getvalue().replace(b"(4,), ", b"(9,), ")
    assert "its .npy cannot be read" in read_one(tmp_path, {"npy": data, "txt": "a"}).reason


def test_one_key_twice_or_with_too_many_members(tmp_path):
    path = write_tar(
        tmp_path / "a.tar", [("s.png", PNG), ("s.png", PNG), ("s.txt", "a"), ("t.png", PNG), ("t.txt", "b")]
    )
    *lost, good = read(path)
    assert [item.reason for item in lost] == ["2 images share a key: two members are named s.png"] * 2
    assert good.texts == ("b",)
    (item,) = read(write_tar(tmp_path / "b.tar", {f"s.{number}": b"" for number in range(MAX_SAMPLE_FILES + 2)}))
    assert "64 members for one key" in item.reason


def test_hostile_members_break_their_sample_alone(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for key in ("0", "../../x", "/abs", "link", "device", "1"):
            info = tarfile.TarInfo(f"{key}.png")
            info.size = len(PNG)
            if key in ("link", "device"):
                info.type = tarfile.SYMTYPE if key == "link" else tarfile.CHRTYPE
                info.linkname, info.size = "/etc/passwd", 0
            archive.addfile(info, io.BytesIO(PNG))
            text = tarfile.TarInfo(f"{key}.txt")
            text.size = 1
            archive.addfile(text, io.BytesIO(b"a"))
    items = read(path)
    assert [item.key for item in items] == ["a/0", "a/../../x", "a//abs", "a/link", "a/device", "a/1"]
    assert [isinstance(item, Sample) for item in items] == [True, False, False, False, False, True]
    assert "leaves the archive" in items[1].reason and "leaves the archive" in items[2].reason
    assert "symbolic link" in items[3].reason and "device" in items[4].reason
    assert sorted(os.listdir(tmp_path)) == ["a.tar"]  # noqa: PTH208 (hidden files, too)


@pytest.mark.parametrize("content", [bytes(10240), gzip.compress(bytes(10240))], ids=["plain", "gzip"])
def test_an_empty_shard_is_one_broken(tmp_path, content):
    path = tmp_path / "7.tar"
    path.write_bytes(content)
    assert read(path) == [Broken("7", str(path), "empty shard: it has no samples")]


@pytest.mark.parametrize("content", [b"", gzip.compress(b"")], ids=["plain", "gzip"])
def test_a_file_without_content_has_lost_its_samples(tmp_path, content):
    path = tmp_path / "7.tar"
    path.write_bytes(content)
    assert read(path) == [Broken("7/", str(path), "the rest of the shard is lost: it has no content", rest_lost=True)]


def test_a_shard_cut_between_two_members_is_named_once(tmp_path, caplog):
    path = write_tar(tmp_path / "a.tar", {"s.png": PNG, "s.txt": "a", "t.png": PNG, "t.txt": "b"})
    whole = read(path)
    path.write_bytes(path.read_bytes()[:2048])  # a header and a block for each of the first two members
    source = TarSource((path,))
    with caplog.at_level(logging.WARNING, "diptych"):
        assert list(source.read(0)) == list(source.read(0)) == whole[:1]
    (record,) = caplog.records
    begin = f"{path} has no end-of-archive mark at byte 2048: the file is truncated, or its "
    assert record.getMessage().startswith(begin)
    good, broken = TarSource((path,), strict=True).read(0)
    assert good == whole[0] and broken.rest_lost
    assert broken.reason.startswith("the rest of the shard is lost: no end-of-archive mark at byte 2048")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_cut_shard_gives_what_lies_before_the_damage(tmp_path, suffix):
    noise = np.random.default_rng(0)
    members = {}
    for number in range(20):
        members |= {f"{number}.png": PNG + noise.bytes(2000), f"{number}.txt": "a"}
    path = write_tar(tmp_path / f"a{suffix}", members)
    whole = read(path)
    size = path.stat().st_size
    for share in (0.2, 0.5, 0.77):
        path.write_bytes(path.read_bytes()[: int(size * share)])
        *before, last = read(path)
        assert before == whole[: len(before)] and abs(len(before) - 20 * share) <= 3
        assert isinstance(last, Broken) and "the rest of the shard is lost" in last.reason and "byte" in last.reason
        assert last.rest_lost and not any(isinstance(item, Broken) for item in before)
        path.write_bytes(b"")
        path = write_tar(tmp_path / f"a{suffix}", members)


def test_a_shard_that_is_no_archive(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"<html>Not found</html>" * 100)
    (item,) = read(path)
    assert "it is a web page (HTML) of 2,200 bytes" in item.reason and item.rest_lost
    path.write_bytes(b"anything else" * 100)
    (item,) = read(path)
    assert "no tar header at byte 0" in item.reason and item.rest_lost


def test_a_shard_that_went_away_stops_the_run(tmp_path):
    source = open_source(write_tar(tmp_path / "a.tar", {"s.png": PNG, "s.txt": "a"}))
    (tmp_path / "a.tar").unlink()
    with pytest.raises(DataError, match=r"cannot read the shard .*a\.tar"):
        list(source.read(0))


# ------------------------------------------------------------------ writing


def samples() -> list[Sample]:
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    return [
        Sample("plain", PNG, ("a cat",)),
        Sample("d/two.captions", picture(1, "JPEG"), ("one", "two"), None, {"url": "x", "captions": ["old"]}),
        Sample("label", picture(2, "WEBP"), (), 3, {"label": 9}),
        Sample("../up", picture(3, "GIF"), ("two\nlines",), 0),
        Sample("/array ü", pixels, ("ein Käse 🧀",)),
    ]


def test_written_shards_are_read_back(tmp_path):
    paths = write_shards(samples(), tmp_path / "out", shard_size=2)
    assert [path.name for path in paths] == ["0.tar", "1.tar", "2.tar"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.tar", "1.tar", "2.tar", "nshards.txt"]
    assert (tmp_path / "out" / "nshards.txt").read_text() == "3\n"
    source = open_source(tmp_path / "out")
    found = [item for index in range(3) for item in source.read(index)]
    assert [item.key for item in found] == ["0/plain", "0/d/two%2Ecaptions", "1/label", "1/%2E%2E/up", "2/%2Farray%20ü"]
    for before, after in zip(samples()[:4], found, strict=False):
        assert (after.image, after.texts, after.label) == (before.image, before.texts, before.label)
    assert found[1].metadata == {"url": "x", "captions": ["one", "two"]}
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(found[4].image))), samples()[4].image)


def test_the_same_samples_give_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        write_shards(samples(), tmp_path / folder)
    assert (tmp_path / "a" / "0.tar").read_bytes() == (tmp_path / "b" / "0.tar").read_bytes()


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Sample("s", PNG), "neither a caption nor a label"),
        (Sample("s", PNG, ("  ",)), "empty caption"),
        (Sample("s", b"GARBAGE", ("a",)), "not a known format"),
        (Sample("s", np.zeros((4, 4), np.uint8), ("a",)), "not uint8 (height, width, 3)"),
        (Sample("s", PNG, ("\ud800",)), "cannot be stored"),
        (Sample("plain", PNG, ("a",)), "two samples are named plain"),
    ],
)
def test_samples_that_cannot_be_written(tmp_path, sample, reason):
    with pytest.raises(DataError) as error:
        write_shards([*samples(), sample], tmp_path)
    assert reason in str(error.value) and sample.key in str(error.value)
    assert not list(tmp_path.iterdir())


def test_existing_shards_are_not_overwritten(tmp_path):
    write_shards(samples(), tmp_path)
    with pytest.raises(DataError, match=r"already contains shards \(0.tar"):
        write_shards(samples(), tmp_path)


def test_written_shards_are_webdatasets(tmp_path):
    webdataset = pytest.importorskip("webdataset", reason="webdataset, the peer, is not installed")
    (path,) = write_shards(samples(), tmp_path)
    theirs = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [set(sample) - {"__key__", "__url__", "__local_path__"} for sample in theirs] == [
        {"png", "txt"},
        {"jpg", "json"},
        {"webp", "cls"},
        {"gif", "json", "cls"},
        {"png", "txt"},
    ]
    assert json.loads(theirs[1]["json"])["captions"] == ["one", "two"]
