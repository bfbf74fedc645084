"""What is said of sets that are there, cut off, of another size, or missing."""

import dataclasses
import gzip
import io
import tarfile
from pathlib import Path

import pytest
from rich.console import Console
from test_cards_parquet import DIGITS, picture, write

from diptych.data.shards import write_shards
from diptych.errors import DataError, InputError
from diptych.evalsets.archive_registry import LAYOUTS, Layout
from diptych.evalsets.cards import CARDS
from diptych.evalsets.checking import check_data, check_set, missing_lines, states_table
from diptych.evalsets.set_sources import Entry, ListedSource
from diptych.records import Sample

SMALL = dataclasses.replace(CARDS["MNIST"], splits={"train": 20, "test": 10})


def wds(folder: Path, sizes: dict[str, int], names: list[str] = DIGITS) -> None:
    for split, size in sizes.items():
        samples = [Sample(f"s{number}", picture(number), (), number % 10) for number in range(size)]
        write_shards(samples, folder / split, shard_size=6)
    (folder / "classnames.txt").write_text("\n".join(names))
    (folder / "zeroshot_classification_templates.txt").write_text("{c}\n")


def test_each_set_has_a_state_and_a_missing_one_says_where_to_get_it(tmp_path):
    states = check_data(tmp_path)
    assert [state.card.name for state in states] == list(CARDS)
    assert not any(state.present or state.equal for state in states)
    assert "put it into a folder Food101 or food-101" in states[0].where
    assert "https://data.vision.ee.ethz.ch" in states[0].where and "ethz/food101" in states[0].where
    assert [state.card.name for state in check_data(tmp_path, ["mnist", "wds_food101"])] == ["MNIST", "Food101"]
    with pytest.raises(InputError, match="no card for 'MNISTY'"):
        check_data(tmp_path, ["MNISTY"])
    with pytest.raises(DataError, match="there is no folder"):
        check_data(tmp_path / "nowhere")


def test_a_set_as_in_the_paper(tmp_path):
    wds(tmp_path / "mnist", {"train": 20, "test": 10})
    state = check_set(SMALL, tmp_path)
    assert state.equal and state.problems == () and state.notes == ()
    assert (state.form, state.sizes, state.num_classes) == ("wds", {"train": 20, "test": 10}, 10)


def test_other_sizes_and_a_missing_split(tmp_path):
    wds(tmp_path / "mnist", {"test": 11})
    state = check_set(SMALL, tmp_path)
    assert state.present and not state.equal and state.sizes == {"test": 11}
    assert "its splits are: test" in state.problems[0]
    assert state.problems[1] == "test has 11 samples, the paper's set 10"


def test_validation_pictures_among_the_training_pictures(tmp_path):
    card = dataclasses.replace(SMALL, splits={"train": 15, "val": 5, "test": 10})
    wds(tmp_path / "mnist", {"train": 20, "test": 10})
    state = check_set(card, tmp_path)
    assert state.equal and state.notes == ("its training images contain the validation images",)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("cut", ["a member", "the end mark"])
def test_a_shard_that_is_cut_off(tmp_path, packed, cut):
    wds(tmp_path / "mnist", {"train": 20, "test": 10})
    shard = tmp_path / "mnist" / "test" / "1.tar"
    with tarfile.open(shard) as archive:
        end = archive.getmembers()[-1].offset_data + 512
    data = shard.read_bytes()[: 700 if cut == "a member" else end]
    shard.unlink()
    shard.with_name("1.tar.gz" if packed else "1.tar").write_bytes(gzip.compress(data) if packed else data)
    state = check_set(SMALL, tmp_path)
    assert any("breaks off" in problem and "1.tar" in problem for problem in state.problems)
    assert state.sizes["test"] in ([10] if cut == "the end mark" else [6, 7])


def test_plain_and_packed_shards_count_the_same(tmp_path):
    wds(tmp_path / "mnist", {"train": 20, "test": 10})
    for shard in (tmp_path / "mnist").rglob("*.tar"):
        shard.with_name(shard.name + ".gz").write_bytes(gzip.compress(shard.read_bytes()))
        shard.unlink()
    assert check_set(SMALL, tmp_path).equal


def test_another_number_of_classes_and_other_names(tmp_path):
    wds(tmp_path / "mnist", {"train": 20, "test": 10}, DIGITS[:9])
    assert "it has 9 classes, the paper's set 10" in check_set(SMALL, tmp_path).problems
    (tmp_path / "mnist" / "classnames.txt").write_text("\n".join(["zero", "one", *DIGITS[2:]]))
    assert check_set(SMALL, tmp_path).equal and check_set(SMALL, tmp_path).notes == ()
    words = ["naught", "unit", *DIGITS[2:]]
    (tmp_path / "mnist" / "classnames.txt").write_text("\n".join(words))
    state = check_set(SMALL, tmp_path)
    assert state.equal and state.notes == ("2 of its class names are its own, not the paper's",)


def test_parquet_sets_are_counted_with_their_labels(tmp_path):
    write(tmp_path / "mnist" / "train.parquet", [*range(10), *range(10)], DIGITS)
    write(tmp_path / "mnist" / "test.parquet", list(range(10)), DIGITS)
    state = check_set(SMALL, tmp_path)
    assert state.equal and state.form == "parquet"
    write(tmp_path / "mnist" / "test.parquet", [0] * 8 + [12, -1], DIGITS)
    found = check_set(SMALL, tmp_path).problems
    assert found == ("test: labels go up to 12, but the classes from 0 to 9", "test: all samples are of one class")
    write(tmp_path / "mnist" / "test.parquet", [*range(8), 0, None], DIGITS)
    found = check_set(SMALL, tmp_path).problems
    assert found == ("test: some samples have no label", "test: 2 of 10 classes have no samples")
    (tmp_path / "mnist" / "test.parquet").write_bytes(b"PAR1")
    assert "cannot read the parquet file" in check_set(SMALL, tmp_path).problems[0]


def test_class_folders_and_empty_files(tmp_path):
    for split, count in (("train", 2), ("test", 1)):
        for digit in DIGITS:
            for number in range(count):
                path = tmp_path / "mnist" / split / digit / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture(number))
    state = check_set(SMALL, tmp_path)
    assert state.equal and state.form == "class folders"
    path.write_bytes(b"")
    assert check_set(SMALL, tmp_path).problems == (f"test: 1 files are empty, such as {path}",)
    path.unlink()
    found = check_set(SMALL, tmp_path).problems
    assert found == ("test: 1 of 10 classes have no samples", "test has 9 samples, the paper's set 10")


def test_an_archives_missing_files(tmp_path, monkeypatch):
    def archive(folder: Path, split: str) -> ListedSource:
        return ListedSource(folder, [Entry(f"{number}.png", number % 10) for number in range(SMALL.splits[split])])

    monkeypatch.setitem(LAYOUTS, "MNIST", (Layout(archive, ("list.txt",)),))
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "list.txt").touch()
    for number in range(12):
        (tmp_path / "mnist" / f"{number}.png").write_bytes(picture(number))
    state = check_set(SMALL, tmp_path)
    assert state.form == "archive" and state.sizes == {"train": 20, "test": 10}
    assert state.problems == (f"train: 8 files are missing, such as {tmp_path / 'mnist' / '12.png'}",)


def test_a_reader_that_fails_is_a_problem_of_its_set_alone(tmp_path, monkeypatch):
    def archive(folder: Path, split: str) -> ListedSource:
        raise KeyError(split)

    monkeypatch.setitem(LAYOUTS, "MNIST", (Layout(archive, ("list.txt",)),))
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "list.txt").touch()
    broken, other = check_data(tmp_path, ["MNIST", "CIFAR10"])
    assert broken.present and not broken.equal and not other.present
    said = "its reader failed: KeyError: 'test' (test_cards_checking.py:"
    assert any(problem.startswith(f"test: {said}") and "report it" in problem for problem in broken.problems)


def test_the_table(tmp_path):
    wds(tmp_path / "mnist", {"train": 20, "test": 11})
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(states_table([check_set(SMALL, tmp_path), *check_data(tmp_path, ["Food101"])]))
    text = console.export_text()
    assert "1 of 2 sets are there, 0 as in the paper" in text
    assert "11 of 10" in text and "test has 11 samples, the paper's set 10" in text
    assert "Food101" not in text
    (line,) = missing_lines(check_data(tmp_path, ["Food101"]), tmp_path)
    assert line.split() == [
        *("Food101", "diptych", "data", "fetch", "Food101", str(tmp_path / "Food101"), "#", "or", "by", "hand:"),
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    ]
    assert missing_lines(check_data(tmp_path, ["Birdsnap"]), tmp_path)[0].split() == [
        "Birdsnap",
        "https://thomasberg.org/",
    ]
