"""Words chosen from a picture's own list."""

import numpy as np
import pytest
from colours import NAMES, ColourEncoder, encoded, picture

from diptych.errors import DataError, InputError, ShapeError
from diptych.evalsets.archive_registry import LAYOUTS, Layout
from diptych.evalsets.cards import get_card
from diptych.evalsets.set_sources import Entry, ListedSource
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.evaluate.tasks.lexicon import LEXICON, TEMPLATE, choose_words
from diptych.evaluate.tasks.task import Setting


def test_the_nearest_word_of_the_own_list_solved_by_hand():
    words = np.array([[1, 0], [0, 1], [0.6, 0.8], [0, 1]])
    pictures = np.array([[1, 0], [1, 0], [0, 1]])
    lists = [np.array([1, 2, 0]), np.array([1, 2]), np.array([3, 1])]  # 3 and 1 are equal: the first is taken
    assert choose_words(pictures, words, lists).tolist() == [2, 1, 0]


def test_the_prompt_has_the_word_in_quotes_as_the_papers_have():
    assert TEMPLATE == 'a photo of the word: "{c}".'


def test_lists_that_do_not_fit_are_an_error():
    with pytest.raises(InputError, match="lexicons of 1 images are empty, the first one is 1"):
        choose_words(np.eye(2), np.eye(2), [np.array([0]), np.array([], int)])
    with pytest.raises(ShapeError, match="do not fit"):
        choose_words(np.eye(2), np.eye(2), [np.array([0])])


def word_set(tmp_path, monkeypatch, entries):
    folder = tmp_path / "IIIT5K"
    folder.mkdir()
    for number in range(len(entries)):
        (folder / f"{number}.png").write_bytes(encoded(picture(NAMES[number % 7], number)))
    layout = Layout(lambda folder, split: ListedSource(folder, entries), ("0.png",))
    monkeypatch.setitem(LAYOUTS, "IIIT5K", (layout,))
    return Setting(tmp_path)


def test_a_set_with_lists_of_its_own_is_measured(tmp_path, monkeypatch):
    lists = [tuple(NAMES[(number + step) % 7] for step in (3, 0, 5)) for number in range(14)]
    entries = tuple(Entry(f"{number}.png", 1, metadata={"lexicon": own}) for number, own in enumerate(lists))
    setting = word_set(tmp_path, monkeypatch, entries)
    encoder, card = ColourEncoder(), get_card("IIIT5K")
    (result,) = LEXICON.measure(encoder, card, setting).results
    right = 0
    for number, own in enumerate(lists):
        image = encoder.encode_images([picture(NAMES[number % 7], number)])
        texts = encoder.encode_texts([TEMPLATE.replace("{c}", word) for word in own])
        right += int((texts @ image[0]).argmax()) == 1
    where = (result.task, result.dataset, result.split, result.metric, result.n)
    assert where == ("lexicon", "IIIT5K", "test", "accuracy", 14)
    assert result.value == right / 14 > 0.5 and (result.low, result.high) == clopper_pearson(right, 14)
    assert result.run["settings"] == {"template": TEMPLATE, "words": 7, "cut": 0}
    assert LEXICON.applies(card) and LEXICON.splits(card) == ("test",)


def test_the_word_counts_not_its_place(tmp_path, monkeypatch):
    entries = (Entry("0.png", 2, metadata={"lexicon": ("red", "blue", "red")}),)
    (result,) = LEXICON.measure(ColourEncoder(), get_card("IIIT5K"), word_set(tmp_path, monkeypatch, entries)).results
    assert result.value == 1


@pytest.mark.parametrize("known", [{}, {"lexicon": ()}, {"lexicon": ("red",)}])
def test_a_picture_without_its_word_is_an_error(tmp_path, monkeypatch, known):
    setting = word_set(tmp_path, monkeypatch, (Entry("0.png", 1, metadata=known),))
    with pytest.raises(DataError, match=r"IIIT5K/test: '0.png' has a lexicon of \d words, which has no word 1"):
        LEXICON.measure(ColourEncoder(), get_card("IIIT5K"), setting)
