"""How open_source finds out what it was given."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tars import tar_of

from diptych.data.open_source import open_source
from diptych.data.shards import write_shards
from diptych.data.source import Source
from diptych.errors import DataError
from diptych.records import Sample

PNG = b"\x89PNG and so on"


def tar(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = tar_of([("s.png", PNG), ("s.txt", path.name.encode())])
    path.write_bytes(gzip.compress(content) if path.name.endswith("gz") else content)
    return path


def captions(source: Source) -> list[str]:
    return [item.texts[0] for index in range(len(source.shards)) for item in source.read(index)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        tar(tmp_path / "set" / f"{number}.tar.gz")
    return tmp_path / "set"


def test_every_way_to_name_shards(folder):
    names = [f"{number}.tar.gz" for number in range(12)]
    assert captions(open_source(folder)) == names
    assert captions(open_source(str(folder / "*.tar.gz"))) == names
    assert captions(open_source(folder / "{0..11}.tar.gz")) == names
    assert captions(open_source(folder / "{3,10}.tar.gz")) == ["3.tar.gz", "10.tar.gz"]
    assert captions(open_source([folder / "5.tar.gz", folder / "2.tar.gz"])) == ["5.tar.gz", "2.tar.gz"]
    assert captions(open_source([folder / "{8..9}.tar.gz", folder / "1?.tar.gz"])) == names[8:]
    assert captions(open_source(tar(folder.parent / "odd {1..2} [x].TAR"))) == ["odd {1..2} [x].TAR"]
    assert captions(open_source(tar(folder.parent / "a.tgz"))) == ["a.tgz"]


def test_padded_ranges_and_several_folders(tmp_path):
    for part in ("a", "b"):
        for number in ("008", "009", "010"):
            tar(tmp_path / part / f"{number}.tar")
    source = open_source(tmp_path / "{a,b}" / "{008..010}.tar")
    assert captions(source) == ["008.tar", "009.tar", "010.tar"] * 2
    keys = [item.key for index in range(6) for item in source.read(index)]
    assert keys == ["a/008/s", "a/009/s", "a/010/s", "b/008/s", "b/009/s", "b/010/s"]  # unique in the source


def test_img2dataset_output_as_it_is(tmp_path):
    for number in range(2):
        write_shards([Sample(f"{number}", PNG, ("a", "b"), None, {"url": "x"})], tmp_path / "x")
        (tmp_path / "x" / "0.tar").rename(tmp_path / f"{number:05d}.tar")
        (tmp_path / f"{number:05d}_stats.json").write_text("{}")
        pq.write_table(pa.table({"url": ["x"], "caption": ["a"]}), tmp_path / f"{number:05d}.parquet")
    source = open_source(tmp_path)
    assert [Path(name).name for name in source.shards] == ["00000.tar", "00001.tar"]
    assert next(source.read(1)).texts == ("a", "b")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("none", r"there is no .*none\. Accepted are tar shards"),
        ("set/{10..13}.tar.gz", r"there is no .*12\.tar\.gz \(and 1 more of 4\)"),
        ("set/x*.tar", r"no file matches .*x\*\.tar\. Accepted"),
        ("set/{0..9999999}.tar", "more than 1000000 names"),
        ("set/{3..2}.tar", "expands to no names"),
        ("set/{0..9999}{0..9999}.tar", "more than 1000000 names"),
        (".", "nothing to train on in .* it has the folders set: name the one"),
        ("a.zip", r"a\.zip has an unknown format: unpack it\. Accepted"),
    ],
)
def test_nothing_found(folder, given, reason):
    (folder.parent / "a.zip").touch()
    with pytest.raises(DataError, match=reason):
        open_source(folder.parent / given)


def test_what_cannot_be_joined(folder):
    (folder.parent / "a.csv").write_text("path,text\nx.png,a\n")
    with pytest.raises(DataError, match=r"mixes formats \(table, tar\)"):
        open_source([folder, folder.parent / "a.csv"])
    with pytest.raises(DataError, match=r"names .*0\.tar\.gz more than once"):
        open_source([folder, folder / "0.tar.gz"])
    with pytest.raises(DataError, match="no paths given"):
        open_source([])


def test_a_broken_table_in_a_folder_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"cannot read the parquet file .*a\.parquet"):
        open_source(tmp_path)
    (tmp_path / "0.png").write_bytes(PNG)  # then the pictures count
    (tmp_path / "0.txt").write_text("a")
    assert captions(open_source(tmp_path)) == ["a"]
