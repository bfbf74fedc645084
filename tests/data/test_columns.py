"""Columns under other names and of other types, and Hugging Face's folders of images with metadata."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_tables import PNG, read, write

from diptych.data.columns import ColumnNames
from diptych.data.open_source import open_source
from diptych.errors import DataError
from diptych.records import Sample

CAPTIONS = ["a dog", "a cat é"]
TYPES = {
    "string": pa.array(CAPTIONS),
    "large string": pa.array(CAPTIONS, pa.large_string()),
    "string view": pa.array(CAPTIONS, pa.string_view()),
    "binary": pa.array([caption.encode() for caption in CAPTIONS]),
    "dictionary": pa.array(CAPTIONS).dictionary_encode(),
    "dictionary of large strings": pa.array(CAPTIONS, pa.large_string()).dictionary_encode(),
    "list": pa.array([[caption] for caption in CAPTIONS]),
    "list of large strings": pa.array([[caption] for caption in CAPTIONS], pa.large_list(pa.large_string())),
    "list of binary": pa.array([[caption.encode()] for caption in CAPTIONS]),
    "fixed-size list": pa.array([[caption] for caption in CAPTIONS], pa.list_(pa.string(), 1)),
}


def texts(source) -> list[tuple[str, ...]]:
    items = [item for index in range(len(source.shards)) for item in source.read(index)]
    assert all(isinstance(item, Sample) for item in items), items
    return [item.texts for item in items]


@pytest.mark.parametrize("name", TYPES)
def test_captions_of_any_text_type(tmp_path, name):
    pq.write_table(pa.table({"image": [PNG, PNG], "caption": TYPES[name]}), tmp_path / "a.parquet")
    assert texts(open_source(tmp_path / "a.parquet")) == [(caption,) for caption in CAPTIONS]


def test_columns_of_parquet_can_be_named(tmp_path):
    columns = {"photo": [PNG], "alt": ["a dog"], "caption": ["other words"], "n": [1]}
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path)
    assert texts(open_source(path, ColumnNames("photo", "alt"))) == [("a dog",)]
    with pytest.raises(DataError, match="--image-column 'photo'"):
        open_source(path)
    with pytest.raises(DataError, match=r"no column 'foto'.*did you mean photo"):
        open_source(path, ColumnNames("foto"))
    with pytest.raises(DataError, match="caption column n is of type int64"):
        open_source(path, ColumnNames("photo", "n"))
    with pytest.raises(DataError, match="image column n is of type int64"):
        open_source(path, ColumnNames("n"))


def test_where_there_are_no_columns_the_options_are_refused(tmp_path):
    write(tmp_path / "0.png", PNG)
    with pytest.raises(DataError, match="has no columns"):
        open_source(tmp_path, ColumnNames("image"))


def test_a_wrong_name_for_a_table_beside_its_images_gets_the_nearest_one(tmp_path):
    write(tmp_path / "0.png", PNG)
    write(tmp_path / "a.csv", "path,sentence\n0.png,a dog\n")
    assert texts(open_source(tmp_path, ColumnNames(caption="sentence"))) == [("a dog",)]
    with pytest.raises(DataError, match=r"no column 'sentense' .*did you mean sentence"):
        open_source(tmp_path, ColumnNames(caption="sentense"))


def image_folder(folder: Path, kind: str) -> Path:
    """The layout of datasets' imagefolder: images, and metadata with file_name beside them."""
    rows = [{"file_name": f"sub/{n}.png", "text": f"a dog {n}", "n": n} for n in range(3)]
    for row in rows:
        write(folder / str(row["file_name"]), PNG)
    path = folder / f"metadata.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif kind == "csv":
        write(path, "file_name,text,n\n" + "".join(f"{row['file_name']},{row['text']},{row['n']}\n" for row in rows))
    else:
        write(path, "".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_image_folders_of_hugging_face(tmp_path, kind):
    folder = image_folder(tmp_path / "set", kind)
    write(folder / "log.jsonl", '{"step": 1}\n')
    assert texts(open_source(folder)) == [(f"a dog {n}",) for n in range(3)]
    assert texts(open_source(folder / f"metadata.{kind}")) == [(f"a dog {n}",) for n in range(3)]


def test_json_lines_row_by_row(tmp_path):
    rows = [
        {"file_name": "0.png", "text": "a dog"},
        {"file_name": "0.png", "text": ["a cat", "one more"]},
        {"file_name": "none.png", "text": "a"},
        {"file_name": "0.png", "text": None},
        {"file_name": ["0.png"], "text": "a"},
        {"text": "a"},
        {"file_name": "0.png", "text": "\ud800"},
        {"file_name": "0.png"},
    ]
    write(tmp_path / "0.png", PNG)
    lines = [json.dumps(row) for row in rows]
    lines[3:3] = ["", "[1]", '{"file_name": "0.png", "te']
    items = read(write(tmp_path / "a.jsonl", "\n".join(lines)))
    reasons = [item.texts if isinstance(item, Sample) else item.reason for item in items]
    assert reasons[:2] == [("a dog",), ("a cat", "one more")] and "cannot read" in reasons[2]
    assert reasons[3] == "line 5 is not a JSON object" and reasons[4].startswith("line 6 is not JSON: ")
    assert reasons[5:] == [
        "no caption",
        "no image: the path is empty",
        "no image: the path is empty",
        "its caption contains half a surrogate pair",
        "no caption",
    ]


@pytest.mark.parametrize("suffix", ["TXT", "Txt"])
def test_captions_beside_images_in_capitals(tmp_path, suffix):
    write(tmp_path / "a.JPG", PNG)
    write(tmp_path / f"a.{suffix}", "a dog")
    assert texts(open_source(tmp_path)) == [("a dog",)]
