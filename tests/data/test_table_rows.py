"""Tables as people write them: no row is lost without being counted, and quotes mean what they mean to pandas."""

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tables import PNG, read, write

from diptych.data import table_rows
from diptych.data.columns import ColumnNames
from diptych.data.open_source import open_source
from diptych.data.table_rows import Lines, Row, csv_rows
from diptych.errors import DataError
from diptych.records import Broken, Sample


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(30):
        write(tmp_path / "images" / f"{number}.png", PNG)
    return tmp_path


def rows_of(number: int, delimiter: str = ",") -> list[str]:
    return [f"images/{n}.png{delimiter}a dog {n}" for n in range(number)]


def table(folder: Path, lines: list[str], name: str = "captions.csv") -> list[Sample | Broken]:
    header = "filepath\tcaption" if name.endswith(".tsv") else "filepath,caption"
    return read(write(folder / name, "\n".join([header, *lines]) + "\n"))


@pytest.mark.parametrize("later", ["", '"a dog, in quotes"'], ids=["to the end", "to the next quote"])
def test_a_stray_quote_costs_its_own_row_alone(images, later):
    lines = rows_of(30)
    lines[5] = 'images/5.png,"a dog'
    if later:
        lines[20] = f"images/20.png,{later}"
    items = table(images, lines)
    broken = [item for item in items if isinstance(item, Broken)]
    assert len(items) == 30 and [item.key for item in broken] == ["captions.csv/5"]
    assert broken[0].reason == "a quotation mark in line 7 is never closed" and broken[0].by_layout
    assert items[20].texts == (("a dog, in quotes" if later else "a dog 20"),)
    assert [item.texts[0] for item in items[6:20]] == [f"a dog {n}" for n in range(6, 20)]


def test_a_quote_is_known_to_be_stray_without_image_suffixes(tmp_path):
    for number in range(9):
        write(tmp_path / "img" / f"{number}", PNG)
    lines = [f"img/{n},a dog {n}" for n in range(9)]
    lines[2], lines[7] = 'img/2,"a dog', 'img/7,"a dog, too"'
    items = table(tmp_path, lines)
    assert [item.key for item in items if isinstance(item, Broken)] == ["captions.csv/2"] and len(items) == 9


def test_a_quote_is_known_to_be_stray_by_the_files_that_are_there(tmp_path):
    """Names without folder and suffix: nothing but the files tells a row from the line of a caption."""
    for number in range(200):
        write(tmp_path / f"{number:012x}", PNG)
    lines = [f"{n:012x},a dog {n}" for n in range(200)]
    lines[2], lines[150] = f'{2:012x},"a dog', f'{150:012x},"a dog,\nand 1, 2, 3\n\0, or x"'
    items = table(tmp_path, lines)
    assert [item.key for item in items if isinstance(item, Broken)] == ["captions.csv/2"] and len(items) == 200
    assert items[150].texts == ("a dog,\nand 1, 2, 3\n\0, or x",)


def test_captions_first_and_many_stray_quotes(images):
    lines = [f'"a dog {n},images/{n}.png' if n % 3 == 0 else f"a dog {n},images/{n}.png" for n in range(30)]
    items = read(write(images / "a.csv", "\n".join(["caption,image", *lines])))
    assert [isinstance(item, Broken) for item in items] == [n % 3 == 0 for n in range(30)]


def test_captions_of_several_lines_are_whole(images):
    lines = rows_of(3)
    lines[1] = 'images/1.png,"a dog,\nand ""a cat""\n\nand a bird"'
    items = table(images, lines)
    assert [item.texts[0] for item in items] == ["a dog 0", 'a dog,\nand "a cat"\n\nand a bird', "a dog 2"]


@pytest.mark.parametrize("last", ["Source, IMG_{n}.jpg", "IMG_{n}.jpg, by me", "a photo\nSource, IMG_{n}.jpg"])
@pytest.mark.parametrize("first", ["path", "caption"])
def test_captions_of_several_lines_may_name_files(images, first, last):
    captions = ["Harbour at dawn.\n" + last.format(n=n) for n in range(30)]
    lines = [
        f'images/{n}.png,"{text}"' if first == "path" else f'"{text}",images/{n}.png' for n, text in enumerate(captions)
    ]
    header = "filepath,caption" if first == "path" else "caption,filepath"
    items = read(write(images / "a.csv", "\n".join([header, *lines]) + "\n"))
    assert [item.texts[0] for item in items] == captions


def test_a_stray_quote_among_several_captions_of_one_image_costs_its_own_row_alone(images):
    lines = [f"images/3.png,a dog {n}" for n in range(12)]
    lines[2], lines[9] = 'images/3.png,"a dog', 'images/3.png,"a dog, too"'
    items = table(images, lines)
    assert [item.key for item in items if isinstance(item, Broken)] == ["captions.csv/2"] and len(items) == 12


def test_tsv_without_quoting_is_literal(images):
    """CC3M's convention; a well-formed quoted field is unquoted, as pandas writes it."""
    captions = ['"the view" from here', 'a 5" nail', '"unclosed', '"he said ""no"""', "'single'", 'ends with "']
    items = table(images, [f"images/{n}.png\t{caption}" for n, caption in enumerate(captions)], "a.tsv")
    expected = ['"the view" from here', 'a 5" nail', '"unclosed', 'he said "no"', "'single'", 'ends with "']
    assert [item.texts[0] for item in items] == expected


def test_a_row_of_too_many_fields_names_its_line(images):
    lines = rows_of(3)
    lines[1] += ", and a cat"
    assert table(images, lines)[1].reason == "line 3: the row has 3 fields, the header 2"


def test_line_numbers_count_from_the_start_of_the_file_in_every_part(images, monkeypatch):
    monkeypatch.setattr("diptych.data.tables.ROWS_PER_SHARD", 4)
    lines = rows_of(12)
    lines[1], lines[10] = 'images/1.png,"two\nlines"', "images/10.png"
    items = table(images, lines)
    assert len(items) == 12 and items[10].reason == "line 13: the row has 1 fields, the header 2"


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_marks(images, ending, mark):
    content = ending.join(["filepath,caption", *rows_of(3), ""]).encode()
    assert [item.texts[0] for item in read(write(images / "a.csv", mark + content))] == [f"a dog {n}" for n in range(3)]
    lines = ending.join(json.dumps({"file_name": f"images/{n}.png", "text": f"a dog {n}"}) for n in range(3)).encode()
    items = read(write(images / "a.jsonl", mark + lines + b"\nnot JSON"))
    assert [item.texts[0] for item in items[:3]] == [f"a dog {n}" for n in range(3)]
    assert len(items) == 4 and items[3].reason.startswith("line 4 is not JSON")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("filepath,caption\n0.png,a\n".encode("utf-16"), "UTF-16"),
        (b"filepath,caption\r0.png,a\r", "carriage returns"),
        (b"0.png,a dog\n1.png,a cat\n", "begins with a row, not a header"),
        (b"file,sentence\n0.png,a\n", r"--image-column 'file'.*--caption-column 'sentence'"),
        (b"url,caption\nhttp://a/b.jpg,a\n", "img2dataset"),
        (b"", "is empty: its first line should name the columns"),
        (b"filepath,caption\n0.png," + b"x" * (1 << 20), "line of more than 1024 KiB"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, content, says):
    with pytest.raises(DataError, match=f"(?s){says}"):
        open_source(write(tmp_path / "a.csv", content))


def test_odd_bytes_cost_their_row_alone(images):
    lines = [
        b"images/0.png,caf\xe9",
        b"images/1.png,a\x00b",
        b"images/\x002.png,a",
        b"images/3.png,a dog",
        b"images\\4.png,c",
    ]
    items = read(write(images / "a.csv", b"filepath,caption\n" + b"\n".join(lines)))
    assert [isinstance(item, Sample) for item in items] == [False, True, False, True, True]
    assert "not UTF-8" in items[0].reason and "cannot read" in items[2].reason


def test_a_long_field_is_broken_and_nothing_behind_it(images):
    lines = rows_of(3)
    lines[1] = "images/1.png," + '"' + "x" * 200_000 + '"'
    items = table(images, lines)
    assert [isinstance(item, Sample) for item in items] == [True, False, True] and "field larger" in items[1].reason


def test_quotes_open_all_over_end_soon(tmp_path, monkeypatch):
    """Each line leaves a quotation mark open, whatever came before: reading again must not take quadratic time."""
    monkeypatch.setattr(table_rows, "MAX_REREAD", 1 << 20)
    path = write(tmp_path / "a.csv", "filepath,caption\n" + '",x"y,"\n' * 30_000)
    with pytest.raises(DataError, match="many unclosed quotation marks"):
        open_source(path)


def test_the_columns_can_be_named(images):
    content = "where,Sentence,caption\nimages/0.png,a dog,no\n"
    source = open_source(write(images / "a.csv", content), ColumnNames("where", "sentence"))
    assert [item.texts for item in source.read(0)] == [("a dog",)]
    with pytest.raises(DataError, match=r"no column 'sentense' \(--caption-column\).*did you mean Sentence\?"):
        open_source(images / "a.csv", ColumnNames("where", "sentense"))


text = st.text(st.sampled_from('ab ,"\t;\n'), max_size=6)


@given(st.lists(st.tuples(text, text), min_size=1, max_size=6), st.sampled_from([",", ";", "\t"]))
@settings(max_examples=300, deadline=None)
def test_what_a_writer_quotes_is_read_as_pandas_reads_it(pairs, delimiter):
    pandas = pytest.importorskip("pandas", reason="pandas, the oracle, is not installed")
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows(pairs)
    data = stream.getvalue().encode()
    rows = list(csv_rows(Lines(io.BytesIO(data), Path("a"), 0, 1), ["image", "caption"], delimiter, "image"))
    theirs = pandas.read_csv(
        io.BytesIO(data), sep=delimiter, header=None, names=["image", "caption"], keep_default_na=False, dtype=str
    )
    assert [dict(row.fields or {}) for row in rows] == theirs.to_dict("records")


@given(st.text(st.sampled_from('ab,"\n'), max_size=60))
@settings(max_examples=300, deadline=None)
def test_every_line_is_in_a_row_or_counted(content):
    """Rows of any text begin at different lines, in order, and none is passed over but blank ones."""
    data = content.encode()
    rows: list[Row] = list(csv_rows(Lines(io.BytesIO(data), Path("a"), 0, 1), ["image", "caption"], ",", "image"))
    starts = [row.line for row in rows]
    assert starts == sorted(set(starts))
    lines = content.split("\n")
    first = next((number for number, line in enumerate(lines, 1) if line), None)
    assert (starts[0] if starts else None) == first
    for row, following in zip(rows, [*starts[1:], len(lines) + 1], strict=False):
        held = "".join(row.fields.values()) if row.fields else ""
        # A row reaches over several lines only with the line breaks that its fields hold.
        later = [line for line in lines[row.line : following - 1] if line]
        assert not later or held.count("\n") >= len(later) or "fields" in row.reason
