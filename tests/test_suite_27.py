"""The suite on miniatures of all 27 sets of table 9, each in its original archive's layout."""

import pytest
from colours import ColourEncoder
from miniatures import build
from miniatures_other import MINIATURES as OTHERS

from diptych.data.cards.opening import open_card
from diptych.data.cards.table import CARDS
from diptych.evaluate.suite import run_suite
from diptych.evaluate.task import Setting
from diptych.evaluate.tasks import TASKS
from diptych.paper.tables_10_11 import TABLE_10, TABLE_11

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


@pytest.mark.parametrize("card", PAPER, ids=lambda card: card.name)
def test_every_archive_is_probed(card, data, tmp_path):
    found = run_suite(ColourEncoder(), [TASKS["linear_probe"]], [card], Setting(data), tmp_path)
    assert found.skipped == []
    first = found.results[0]
    assert (first.dataset, first.metric) == (card.name, card.metric) and 0 <= first.value <= 1


def test_tables_10_and_11_show_them_all(data, tmp_path):
    tasks = [TASKS["zero_shot"], TASKS["linear_probe"]]
    results = run_suite(ColourEncoder(), tasks, PAPER, Setting(data), tmp_path).results
    for exhibit in (TABLE_10, TABLE_11):
        [row] = [cells for table in exhibit.build(results).tables for name, cells in table.rows if "colours" in name][:1]
        assert sum(cell.value is not None for cell in row if not isinstance(cell, str)) == 30  # 27 and three means
