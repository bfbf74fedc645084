"""One's own sets in the suite."""

import io
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import noise
from PIL import Image

from diptych.errors import DataError
from diptych.evalsets import opening
from diptych.evalsets import user_sets as own
from diptych.evalsets.benchmark import open_benchmark
from diptych.evalsets.cards import CARDS
from diptych.evalsets.checking import check_data
from diptych.evalsets.embedded import write_embedded
from diptych.evalsets.opening import find_folder, open_card
from diptych.evalsets.user_sets import own_card, own_cards
from diptych.evaluate.shown_classes import note
from diptych.records import Sample


def write(folder, *splits):
    for split in splits or (".",):
        for name in ("apple", "pear"):
            (folder / split / name).mkdir(parents=True)
            noise(8, 8).save(folder / split / name / "1.png")


def test_folders_of_no_card_become_cards(tmp_path):
    write(tmp_path / "CIFAR10", "test")
    write(tmp_path / "fruit", "train", "test")
    (tmp_path / "notes").mkdir()
    [card] = own_cards(tmp_path)
    assert (card.name, card.num_classes, set(card.splits)) == ("fruit", 2, {"train", "test"})
    benchmark = open_card(card, tmp_path, "train")
    assert (benchmark.name, benchmark.class_names, benchmark.card) == ("fruit", ("apple", "pear"), card)


def test_loose_files_in_the_root_cost_one_listing(tmp_path, monkeypatch):
    write(tmp_path / "CIFAR10", "test")
    write(tmp_path / "fruit", "test")
    for number in range(50):
        (tmp_path / f"{number}.jpg").touch()
    old = tmp_path.stat().st_mtime_ns - 10**10
    os.utime(tmp_path, ns=(old, old))
    monkeypatch.setattr(opening, "_SETTLED", 0)
    listings, asked = [], []
    scan, is_dir = os.scandir, Path.is_dir
    monkeypatch.setattr(os, "scandir", lambda path: [listings.append(Path(path)), scan(path)][1])
    monkeypatch.setattr(Path, "is_dir", lambda path: [asked.append(path), is_dir(path)][1])
    assert [card.name for card in own_cards(tmp_path)] == ["fruit"]
    assert check_data(tmp_path, ["CIFAR10", "MNIST"])[0].present
    assert listings.count(tmp_path) == 1
    assert not [path for path in asked if path.suffix == ".jpg"]


def test_the_folder_that_stands_for_a_set(tmp_path):
    card = CARDS["Food101"]
    assert find_folder(card, tmp_path) is None
    (tmp_path / "Food101").touch()  # a file is no set
    assert find_folder(card, tmp_path) is None
    (tmp_path / "food-101").mkdir()
    assert find_folder(card, tmp_path) == tmp_path / "food-101"
    for name in ("FOOD101", "food101"):  # the name before other names, small letters before capitals
        (tmp_path / name).mkdir(exist_ok=True)
        assert find_folder(card, tmp_path) == tmp_path / name
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "cifar-10").symlink_to(tmp_path / "later")
    assert find_folder(CARDS["CIFAR10"], tmp_path) is None
    (tmp_path / "elsewhere").rename(tmp_path / "later")
    assert find_folder(CARDS["CIFAR10"], tmp_path) == tmp_path / "cifar-10"


def test_what_a_link_leads_to_may_come_and_go_without_a_trace_in_the_root(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "_SETTLED", 0)
    root = tmp_path / "root"
    root.mkdir()
    (root / "CIFAR10").symlink_to(tmp_path / "later")
    assert find_folder(CARDS["CIFAR10"], root) is None
    (tmp_path / "later").mkdir()
    assert find_folder(CARDS["CIFAR10"], root) == root / "CIFAR10"


def test_class_folders_without_splits_have_no_training_split(tmp_path):
    write(tmp_path / "fruit")
    assert set(own_card(tmp_path / "fruit").splits) == {"test"}


def write_wds(folder, split):
    (folder / split).mkdir(parents=True)
    for name, text in (("classnames.txt", "apple\npear"), (f"{split}/nshards.txt", "1")):
        (folder / name).write_text(text)
    (folder / "zeroshot_classification_templates.txt").write_text("a {c}")
    with tarfile.open(folder / split / "0.tar", "w") as tar:
        for label in (0, 1):
            for suffix, content in (("cls", str(label).encode()), ("png", encoded("red"))):
                member = tarfile.TarInfo(f"s{label}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def encoded(colour):
    Image.new("RGB", (8, 8), colour).save(stream := io.BytesIO(), "PNG")
    return stream.getvalue()


def write_rows(path, count=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"image": [encoded(("red", "blue")[place % 2]) for place in range(count)]}
    pq.write_table(pa.table({**rows, "label": [place % 2 for place in range(count)]}), path)


FORMS = {
    "class folders": write,
    "wds": write_wds,
    "hub": lambda folder, split: write_rows(folder / "data" / f"{split}-00000-of-00001.parquet"),
    "files": lambda folder, split: write_rows(folder / f"{split}.parquet"),
    "parquet folders": lambda folder, split: write_rows(folder / split / "0000.parquet"),
}


@pytest.mark.parametrize(
    "words", ["train val test", "training validation testing", "Train valid Test", "train dev test"]
)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_its_splits_by_every_word(tmp_path, form, words, caplog):
    for word in words.split():
        FORMS[form](tmp_path / "fruit", word)
    if "classnames.txt" not in (path.name for path in (tmp_path / "fruit").iterdir()) and form != "class folders":
        (tmp_path / "fruit/classnames.txt").write_text("apple\npear")
    [card] = own_cards(tmp_path)
    assert list(card.splits) == ["train", "val", "test"] and card.num_classes == 2 and not caplog.text
    for split in card.splits:
        found = open_card(card, tmp_path, split)
        assert found.split == split
        samples = [sample for index in range(len(found.source.shards)) for sample in found.source.read(index)]
        assert [sample.label for sample in samples] == [0, 1]


def test_what_is_no_split_or_cannot_be_opened_is_named(tmp_path, caplog):
    write(tmp_path / "fruit", "test", "holdout", "valid", "validation")
    (tmp_path / "fruit/train/apple").mkdir(parents=True)
    for split in ("test", "train", "extra"):
        write_rows(tmp_path / f"rows/data/{split}-00000-of-00001.parquet")
    (tmp_path / "rows/classnames.txt").write_text("apple\npear")
    write(tmp_path / "rows", "val")
    fruit, rows = own_cards(tmp_path)
    assert (set(fruit.splits), set(rows.splits)) == ({"test"}, {"train", "test"})
    ignored = "ignored, not a split in the same form"
    for line in (
        "fruit has several folders for its split val (valid, validation): rename one of them to val",
        "fruit: its split train is ignored: ",
        f"fruit: {ignored}: holdout, valid, validation",
        f"rows: {ignored}: extra, val",
    ):
        assert line in caplog.text
    assert len(caplog.records) == 4 and own_cards(tmp_path) == [fruit, rows] and len(caplog.records) == 4


def test_a_class_may_be_called_like_a_split(tmp_path):
    for name in ("testing", "training", "dev"):
        (tmp_path / "work" / name).mkdir(parents=True)
        noise(8, 8).save(tmp_path / "work" / name / "1.png")
    [card] = own_cards(tmp_path)
    assert (card.num_classes, set(card.splits)) == (3, {"test"})


def test_what_is_no_set_is_an_error(tmp_path):
    with pytest.raises(DataError):
        own_card(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        own_cards(tmp_path / "absent")


def test_folders_of_pairs_are_for_retrieval(tmp_path):
    (tmp_path / "pairs" / "test").mkdir(parents=True)
    for name in ("a", "b"):
        noise(8, 8).save(tmp_path / "pairs/test" / f"{name}.png")
        (tmp_path / "pairs/test" / f"{name}.txt").write_text(f"picture {name}")
    [card] = own_cards(tmp_path)
    assert (card.task, card.num_classes) == ("retrieval", 0)
    [first, _] = open_card(card, tmp_path).source.read(0)
    assert isinstance(first, Sample) and (first.texts, first.label) == (("picture a",), None)


def test_sets_without_download_are_the_same_each_time_and_have_both_splits(tmp_path):
    for root in ("one", "two"):
        write_embedded(tmp_path / root, num_train=30, num_test=20)
    cards = [card for card in own_cards(tmp_path / "one") if card.task != "retrieval"]
    assert len(cards) == 10 and all(set(card.splits) == {"train", "test"} for card in cards)
    [pairs] = [card for card in own_cards(tmp_path / "one") if card.task == "retrieval"]
    texts = [sample.texts[0] for sample in open_card(pairs, tmp_path / "one").source.read(0)]
    assert pairs.name == "playground-captions" and len(set(texts)) == len(texts) == 10
    for card in cards:
        for split, count in (("train", 30), ("test", 20)):
            first, second = (open_card(card, tmp_path / root, split) for root in ("one", "two"))
            keys = [sample.key for index in range(len(first.source.shards)) for sample in first.source.read(index)]
            assert len(set(keys)) == {"digits": {"train": 1297, "test": 500}[split]}.get(card.name, count)
            assert [(one.key, one.label, bytes(one.image)) for one in first.source.read(0)] == [
                (one.key, one.label, bytes(one.image)) for one in second.source.read(0)
            ]
    task = "playground-held_out_colour_shape"  # shows 8 of the 64 classes that it lets choose from, by design
    [card] = [card for card in cards if card.name == task]
    for split in ("train", "test"):
        found = open_card(card, tmp_path / "one", split)
        labels = {sample.label for sample in found.source.read(0)}
        assert len(labels) <= 8 < len(found.class_names) == 64
        assert note(found, "tested", labels, 20, partial=False) == {}
    assert note(open_benchmark(tmp_path / "one" / task), "tested", {0}, 20, partial=False) == {}
    (tmp_path / "one" / task / "whole.txt").unlink()
    collected = open_card(card, tmp_path / "one")
    assert note(collected, "tested", {0, 1}, 20, partial=False) == {"classes": {"tested": [2, 64]}}
    assert not (tmp_path / "one/digits/whole.txt").exists()
    kept = (tmp_path / "one/digits/classnames.txt").stat().st_mtime_ns
    write_embedded(tmp_path / "one", seed=5, num_train=1, num_test=1)
    assert (tmp_path / "one/digits/classnames.txt").stat().st_mtime_ns == kept


def test_a_folder_whose_reader_fails_is_refused_and_the_others_are_found(tmp_path, monkeypatch):
    for name in ("bad", "good"):
        (tmp_path / name / "test" / "cat").mkdir(parents=True)
        for number, shade in enumerate((10, 200)):
            Image.new("RGB", (8, 8), (shade,) * 3).save(tmp_path / name / "test" / "cat" / f"{number}.png")
            (tmp_path / name / "test" / "dog").mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (shade,) * 3).save(tmp_path / name / "test" / "dog" / f"{number}.png")
    whole = own.own_card
    monkeypatch.setattr(own, "own_card", lambda folder: {}["x"] if folder.name == "bad" else whole(folder))
    found, refused = own.own_sets(tmp_path)
    assert [card.name for card in found] == ["good"] and "its reader failed: KeyError: 'x'" in refused["bad"]
