"""Data without a usable pair: the error says what is wrong with its samples, and what else lies there."""

import json
import re
from pathlib import Path

import pytest
from test_grouping import pairs
from test_shards import write_tar
from test_tables import PNG, write

from diptych.data.open_source import open_source
from diptych.errors import DataError
from diptych.recipes import configure
from diptych.train.inputs import count_pairs
from diptych.train.plan import make_plan

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 123456\n"


def all_paths_wrong(folder: Path) -> str:
    return str(write(folder / "a.csv", "path,text\nnowhere/a.png,a\nnowhere/b.png,b\n"))


def images_before_texts(folder: Path) -> str:
    members = pairs(["0", "1", "2"])
    return str(write_tar(folder / "0.tar", members[::2] + members[1::2]))


def duplicates(folder: Path) -> str:
    return str(write_tar(folder / "0.tar", pairs(["a"] * 7)))


def dots(folder: Path) -> str:
    return str(write_tar(folder / "0.tar", pairs(["dog.1", "dog.2"])))


def nothing_in_it(folder: Path) -> str:
    return str(write_tar(folder / "0.tar", []))


def empty_captions(folder: Path) -> str:
    write(folder / "0.png", PNG)
    write(folder / "0.txt", " \n")
    return str(folder)


def not_utf8(folder: Path) -> str:
    return str(write(folder / "a.csv", b"path,text\n0.png,caf\xe9\n"))


def labels_alone(folder: Path) -> str:
    return str(write_tar(folder / "0.tar", pairs(["0", "1"], text="cls")))


def a_table_of_another_name(folder: Path) -> str:
    write(folder / "images" / "0.png", PNG)
    write(folder / "images" / "captions.csv", "path,sentence\n0.png,a dog\n")
    return str(folder / "images")


def a_table_further_down(folder: Path) -> str:
    write(folder / "0.png", PNG)
    write(folder / "train" / "0.png", PNG)
    write(folder / "train" / "metadata.jsonl", json.dumps({"file_name": "0.png", "text": "a dog"}))
    return str(folder)


def texts_in_a_folder_of_their_own(folder: Path) -> str:
    write(folder / "images" / "0.png", PNG)
    write(folder / "texts" / "0.txt", "a dog")
    return str(folder)


def texts_called_like_the_image_and_its_suffix(folder: Path) -> str:
    write(folder / "0.png", PNG)
    write(folder / "0.png.txt", "a dog")
    return str(folder)


def flickr8k_as_kaggle_has_it(folder: Path) -> str:
    write(folder / "Images" / "0.png", PNG)
    write(folder / "captions.txt", "image,caption\n" + "".join(f"0.png,a dog of kind {n}\n" for n in range(5)))
    return str(folder)


def other_keys_in_json(folder: Path) -> str:
    write(folder / "0.png", PNG)
    write(folder / "0.json", json.dumps({"alt": "a dog", "license": 1}))
    return str(folder)


def captions_by_language(folder: Path) -> str:
    rows = [{"image": "0.png", "caption": {"en": "a dog", "de": "ein Hund"}}, {"image": "0.png", "caption": [1, 2]}]
    return str(write(folder / "a.jsonl", "\n".join(map(json.dumps, rows))))


def a_pointer_of_git_lfs(folder: Path) -> str:
    return str(write(folder / "0.tar", POINTER))


CASES = {
    texts_in_a_folder_of_their_own: r"1 \.txt files belong to no image \(e\.g\. texts/0\.txt\).*\(images/0\.txt\)",
    texts_called_like_the_image_and_its_suffix: r"belong to no image \(e\.g\. 0\.png\.txt\).*\(0\.txt\)",
    flickr8k_as_kaggle_has_it: r"captions\.txt looks like a table \(image,caption\): rename it to \.csv",
    other_keys_in_json: r"no caption \(found \.png, \.json; its \.json has alt, license, not caption or text\)",
    captions_by_language: r"1 x no caption: it is an object with en, de, not text(?s:.*)it is a list with a number",
    a_pointer_of_git_lfs: r"it is a Git LFS pointer of N bytes, not the shard.* of 123,456 bytes: run git lfs pull",
    all_paths_wrong: r"2 x cannot read its file: No such file or directory \(e\.g\. a\.csv/0: .*nowhere/a\.png",
    images_before_texts: r"3 x no image .*repack it with tar --sort=name[^\n]*$",
    duplicates: r"7 x N images share a key: two members are named a\.jpg",
    dots: r"2 x N images share the key dog: a key ends at the first dot",
    nothing_in_it: r"1 x empty shard",
    empty_captions: r"1 x empty caption \(e\.g\. 0\.png",
    not_utf8: r"1 x its caption is not UTF-8 \(byte N\)",
    labels_alone: r"2 x it has a label and no caption",
    a_table_of_another_name: r"no caption \(found \.png\)(?s:.*)captions\.csv has .*--caption-column 'sentence'",
    a_table_further_down: r"2 x no caption(?s:.*)name one of these tables:\n  .*train/metadata\.jsonl",
}


@pytest.mark.parametrize("make", CASES, ids=lambda make: make.__name__)
def test_no_pairs(tmp_path, make):
    data = make(tmp_path)
    with pytest.raises(DataError, match=r"no captions in") as caught:
        make_plan(configure("tiny-rn", (data,), str(tmp_path / "run"), num_pairs=256, settings=[], top={}))
    assert re.search(CASES[make], str(caught.value)), caught.value
    with pytest.raises(DataError, match=r"no captions in"):
        configure("tiny-rn", (data,), str(tmp_path / "run"), epochs=1, settings=[], top={})


FILES = {
    "a.csv": (
        "0.png,a dog\n0.png,a cat\n",
        "begins with a row, not a header: 0.png,a dog; .* such as image,caption",
    ),
    "b.tsv": ("0.png\ta dog\n", "such as image\tcaption"),
    "c.csv": ("", "is empty: its first line should name the columns"),
    "d.csv": ("<!DOCTYPE html><html>\n", r"it is a web page \(HTML\) of 22 bytes, not the table"),
    "e.csv": (POINTER, "a Git LFS pointer.* of 123,456 bytes: run git lfs pull"),
    "f.parquet": (POINTER, "a Git LFS pointer.* of 123,456 bytes"),
    "g.json": ("[]", r"has an unknown format: write one object per line.*rename it to \.jsonl"),
    "h.zip": ("PK", "has an unknown format: unpack it"),
    "i.png": ("", "has an unknown format: it is one image; name its folder"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_named_for_what_it_is(tmp_path, name):
    content, says = FILES[name]
    with pytest.raises(DataError, match=says):
        open_source(write(tmp_path / name, content))


def test_names_that_are_nearly_right(tmp_path):
    write(tmp_path / "captions.csv", "image,caption\n")
    with pytest.raises(DataError, match=r"there is no .*captions\.cvs; did you mean .*captions\.csv\? Accepted"):
        open_source(tmp_path / "captions.cvs")
    with pytest.raises(DataError, match=r"there is no .*nowhere\. Accepted"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"there is no .*Accepted"):
        open_source(f"{tmp_path}/a\0/b")
    with pytest.raises(DataError, match=r"cannot look for .*: File name too long"):
        open_source(tmp_path / ("a" * 300))


def test_bars_between_columns(tmp_path):
    """As in Flickr30k's own table."""
    write(tmp_path / "0.png", PNG)
    path = write(tmp_path / "a.csv", 'image| caption_number| caption\n0.png| 0| Two dogs, a cat ; and "a" man\n' * 1)
    (sample,) = open_source(path).read(0)
    assert sample.texts == ('Two dogs, a cat ; and "a" man',)


def test_the_command_prints_a_tally_as_lines(command, tmp_path):
    """A name with a line break in it begins no line of its own."""
    write(tmp_path / "images" / "0.png", PNG)
    write(tmp_path / "images" / "1\nerror: forged.png", PNG)
    write(tmp_path / "images" / "1\nerror: forged.txt", " ")
    outcome = command("train", "images", "--pairs", 256, "--recipe", "quickstart", "--out", "run")
    outcome.is_error("no captions in images", "\n  1 x no caption (found .png) (e.g. 0.png", "\n  1 x empty caption")
    assert "\nerror" not in outcome.err


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_of_an_image_folder_with_splits_train_alone_is_trained_on(tmp_path, caplog, ending):
    """As Hugging Face's imagefolder lays them: a folder for each split, and a table in each."""
    header = "file_name,text\n" if ending == "csv" else ""
    for split, number in (("train", 3), ("test", 2)):
        names = [f"{split}{n}.png" for n in range(number)]
        rows = [
            f"{name},a dog" if ending == "csv" else json.dumps({"file_name": name, "text": "a dog"}) for name in names
        ]
        write(tmp_path / "set" / split / f"metadata.{ending}", header + "\n".join(rows))
        for name in names:
            write(tmp_path / "set" / split / name, PNG)
    write(tmp_path / "set" / "README.md", "a card")
    source = open_source(tmp_path / "set")
    assert count_pairs(source) == 3 and "training on train, not on test" in caplog.text
    assert count_pairs(open_source(tmp_path / "set" / "test")) == 2
    # Without such a table it is a folder of images, as before.
    (tmp_path / "set" / "train" / f"metadata.{ending}").unlink()
    assert count_pairs(open_source(tmp_path / "set")) == 0


def test_columns_are_part_of_the_configuration(tmp_path):
    write(tmp_path / "0.png", PNG)
    write(tmp_path / "a.csv", "where,sentence\n" + "0.png,a dog\n" * 300)
    config = configure(
        "tiny-rn",
        (str(tmp_path / "a.csv"),),
        str(tmp_path / "run"),
        epochs=1,
        columns={"image": "where", "caption": None},
        settings=["columns.caption=sentence"],
        top={},
    )
    assert config.num_pairs == 300 and config.to_dict()["columns"] == {"image": "where", "caption": "sentence"}
