"""Texts for embedding: lines, and columns of tables, beside what the csv module, json and pyarrow read."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diptych.data import texts as texts_module
from diptych.data.texts import open_texts
from diptych.errors import DataError
from diptych.records import Broken

TEXTS = ["a cat", "zwei Hunde, ein Ball", 'she said "no"', "", "two\nlines", "käse"]


def write(folder, suffix):
    path = folder / f"captions{suffix}"
    if suffix == ".txt":
        path.write_text("\n".join(text.replace("\n", " ") for text in TEXTS) + "\n")
    elif suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as file:
            writer = csv.writer(file, delimiter="," if suffix == ".csv" else "\t")
            writer.writerows([["id", "caption"], *([number, text] for number, text in enumerate(TEXTS))])
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({"caption": text, "n": 1}) + "\n" for text in TEXTS))
    else:
        pq.write_table(pa.table({"caption": TEXTS, "n": list(range(len(TEXTS)))}), path, row_group_size=4)
    return path


@pytest.mark.parametrize("rows", [2, 1000])
@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_texts(tmp_path, monkeypatch, suffix, rows):
    monkeypatch.setattr(texts_module, "ROWS_PER_SHARD", rows)
    source = open_texts(write(tmp_path, suffix))
    items = [item for index in range(len(source.shards)) for item in source.read(index)]
    first = 1 if suffix == ".txt" else 0
    assert [item.key for item in items] == [str(number) for number in range(first, first + len(TEXTS))]
    assert source.num_samples == len(TEXTS)
    expected = [text.replace("\n", " ") if suffix == ".txt" else text for text in TEXTS]
    assert [None if isinstance(item, Broken) else item.texts[0] for item in items] == [
        text or None for text in expected
    ]
    assert [item.reason for item in items if isinstance(item, Broken)] == ["empty text"]


def test_broken_rows_do_not_move_the_others(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"text,n\nfirst,1\nshort\n\xff\xfe,2\nlast,4\n")
    items = list(open_texts(tmp_path / "a.csv").read(0))
    assert [item.reason if isinstance(item, Broken) else item.texts for item in items] == [
        ("first",),
        "the row has 1 fields, the header 2",
        "it is not UTF-8",
        ("last",),
    ]
    (tmp_path / "a.jsonl").write_text('{"text": "first"}\nnot json\n{"text": 3}\n{"text": "last"}\n')
    items = list(open_texts(tmp_path / "a.jsonl").read(0))
    assert [isinstance(item, Broken) for item in items] == [False, True, True, False]


def test_the_column_is_named_or_usual(tmp_path):
    (tmp_path / "a.csv").write_text("satz,caption\neins,one\n")
    assert next(open_texts(tmp_path / "a.csv").read(0)).texts == ("one",)
    assert next(open_texts(tmp_path / "a.csv", "satz").read(0)).texts == ("eins",)
    with pytest.raises(DataError, match=r"no column 'saz' \(--text-column\).*did you mean satz"):
        open_texts(tmp_path / "a.csv", "saz")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "", "has no texts"),
        ("a.docx", "x", "texts come from .txt"),
        ("a.csv", "n,m\n1,2\n", "name one with --text-column"),
        ("a.parquet", "x", "cannot read the parquet file"),
    ],
)
def test_files_without_texts(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words):
        open_texts(tmp_path / name)
    with pytest.raises(DataError, match="No such file"):
        open_texts(tmp_path / "nowhere.txt")
