"""The suite on miniatures of all 27 sets of table 9, each in its original archive's layout."""

from collections import Counter

import pytest
from colours import ColourEncoder
from miniatures import build
from miniatures_other import MINIATURES as OTHERS

from diptych.data.cards.opening import open_card
from diptych.data.cards.table import CARDS
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks.table import TASKS
from diptych.evaluate.tasks.task import Setting
from diptych.paper.shown.tables_10_11 import TABLE_11

PAPER = [card for card in CARDS.values() if card.group == "paper27"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for card in PAPER:
        if card.name in OTHERS:
            OTHERS[card.name](root / card.name)
        else:
            build(card.name, root / card.name)
    return root


@pytest.mark.parametrize("card", PAPER, ids=lambda card: card.name)
def test_every_archive_is_measured_zero_shot(card, data, tmp_path):
    found = run_suite(ColourEncoder(), [TASKS["zero_shot"]], [card], Setting(data), tmp_path)
    assert found.skipped == []
    first = found.results[0]
    assert (first.dataset, first.metric) == (card.name, card.metric)
    benchmark = open_card(card, data, "test")
    assert first.n == sum(1 for index in range(len(benchmark.source.shards)) for _ in benchmark.source.read(index))
    assert 0 <= first.value <= 1


def labels_of(card, data, split):
    benchmark = open_card(card, data, split)
    return [one.label for index in range(len(benchmark.source.shards)) for one in benchmark.source.read(index)]


@pytest.mark.parametrize("card", PAPER, ids=lambda card: card.name)
def test_every_archive_is_probed_where_a_picture_can_be_held_out(card, data, tmp_path):
    found = run_suite(ColourEncoder(), [TASKS["linear_probe"]], [card], Setting(data), tmp_path)
    if card.name == "UCF101":  # the miniature's first list has one class to learn
        assert "all labels are of one class" in found.skipped[0].reason and not found.results
        return
    alone = min(Counter(labels_of(card, data, "train")).values()) == 1
    if alone and "val" not in card.splits and card.task != "multi_label":
        assert "has one row alone" in found.skipped[0].reason and not found.results
        return
    assert found.skipped == []
    assert (found.results[0].dataset, found.results[0].metric) == (card.name, card.metric)


@pytest.mark.parametrize("card", [card for card in PAPER if card.task != "multi_label"], ids=lambda card: card.name)
def test_every_archive_is_learned_from_one_picture_a_class(card, data, tmp_path):
    found = run_suite(ColourEncoder(), [TASKS["few_shot"]], [card], Setting(data), tmp_path)
    if card.name == "UCF101":
        assert "needs two or more" in found.skipped[0].reason and not found.results
        return
    assert found.skipped == []
    assert (found.results[0].protocol, found.results[0].metric) == ("probe 1-shot", card.metric)


def test_table_11_shows_them_all(data, tmp_path):
    results = run_suite(ColourEncoder(), [TASKS["zero_shot"]], PAPER, Setting(data), tmp_path).results
    rows = [cells for table in TABLE_11.build(results).tables for name, cells in table.rows if "colours" in name]
    assert sum(cell.value is not None for cell in rows[0] if not isinstance(cell, str)) == 30  # 27 and three means
