"""One's own sets in the suite."""

import pytest

from diptych.data.cards.opening import open_card
from diptych.data.cards.own import own_card, own_cards
from diptych.errors import DataError
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
