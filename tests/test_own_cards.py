"""One's own sets in the suite."""

import pytest

from diptych.data.cards.embedded import write_embedded
from diptych.data.cards.opening import open_card
from diptych.data.cards.own import own_card, own_cards
from diptych.errors import DataError
from diptych.records import Sample
from tests.pictures import noise


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


def test_class_folders_without_splits_have_no_training_split(tmp_path):
    write(tmp_path / "fruit")
    assert set(own_card(tmp_path / "fruit").splits) == {"test"}


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
    assert isinstance(first, Sample) and (first.texts, first.label) == (("picture a",), 0)


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
    kept = (tmp_path / "one/digits/classnames.txt").stat().st_mtime_ns
    write_embedded(tmp_path / "one", seed=5, num_train=1, num_test=1)
    assert (tmp_path / "one/digits/classnames.txt").stat().st_mtime_ns == kept
