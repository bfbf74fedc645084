"""All tables and figures that are made from Results, by the name of their command."""

from diptych.paper.exhibit import Exhibit
from diptych.paper.exhibits.delta_figures import FIGURE_5, FIGURE_11
from diptych.paper.exhibits.few_shot_figures import FIGURE_6, FIGURE_7
from diptych.paper.exhibits.few_shot_robustness import FIGURE_15
from diptych.paper.exhibits.figure17 import FIGURE_17
from diptych.paper.exhibits.human_tables import FIGURE_16, TABLE_2
from diptych.paper.exhibits.measured_examples import FIGURE_21
from diptych.paper.exhibits.other_tables import TABLE_1, TABLE_14, TABLE_15
from diptych.paper.exhibits.pairs import PAIRS
from diptych.paper.exhibits.probe_figures import FIGURE_8, FIGURE_10, FIGURE_12, FIGURE_20
from diptych.paper.exhibits.retrieval_tables import TABLE_13, TABLE_17
from diptych.paper.exhibits.robustness_figures import FIGURE_13, FIGURE_14, TABLE_16
from diptych.paper.exhibits.shift_figures import SHIFTS_MADE
from diptych.paper.exhibits.tables_10_11 import TABLE_10, TABLE_11
from diptych.paper.exhibits.zero_shot_figures import FIGURE_4, FIGURE_9_PAPER, FIGURE_22

_ALL: tuple[Exhibit, ...] = (
    PAIRS,
    TABLE_1,
    TABLE_2,
    FIGURE_4,
    FIGURE_5,
    FIGURE_6,
    FIGURE_7,
    FIGURE_8,
    FIGURE_9_PAPER,
    FIGURE_10,
    FIGURE_11,
    FIGURE_12,
    FIGURE_13,
    FIGURE_14,
    FIGURE_15,
    FIGURE_16,
    FIGURE_17,
    TABLE_10,
    FIGURE_20,
    FIGURE_21,
    TABLE_11,
    FIGURE_22,
    TABLE_13,
    TABLE_14,
    TABLE_15,
    TABLE_16,
    TABLE_17,
    SHIFTS_MADE,
)

EXHIBITS: dict[str, Exhibit] = {exhibit.name: exhibit for exhibit in _ALL}
"""In the order of the page that shows all of them."""
