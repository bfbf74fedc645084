"""Values of the paper that were read off a plot: each exhibit that shows one says so."""

import pytest

from diptych.paper.exhibit_table import EXHIBITS
from diptych.report import paper_numbers
from diptych.report.paper_numbers import READ_OFF

SHOW_SUCH_VALUES = {"figure4", "figure6", "figure9-paper", "figure13", "figure14", "figure15", "figure16", "figure17"}


def text_of(shown) -> str:
    return " ".join(
        [shown.title, shown.summary, *shown.notes, *(note for table in shown.tables for note in table.notes)]
    )


@pytest.fixture
def other_values(monkeypatch):
    """Every value that was read off a plot, and none that is printed, is another one."""
    places = {
        place: {
            row: {column: (value + 0.3 * (how == READ_OFF), how) for column, (value, how) in cells.items()}
            for row, cells in rows.items()
        }
        for place, rows in paper_numbers._places().items()
    }
    monkeypatch.setattr(paper_numbers, "_places", lambda: places)


def test_an_exhibit_that_shows_a_value_read_off_a_plot_says_so(request):
    before = {name: exhibit.build([]) for name, exhibit in EXHIBITS.items()}
    request.getfixturevalue("other_values")
    changed = {name for name, exhibit in EXHIBITS.items() if repr(exhibit.build([])) != repr(before[name])}
    assert changed == SHOW_SUCH_VALUES
    assert {name for name, shown in before.items() if "read off" in text_of(shown)} == changed
