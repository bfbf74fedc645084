"""What a table or figure shows, as plain data: tables, charts, examples and the words around them."""

import dataclasses
from collections.abc import Sequence

from diptych.report.bars import BarChart
from diptych.report.curves import Chart
from diptych.report.examples import Example
from diptych.report.table import NumberTable


@dataclasses.dataclass(frozen=True)
class Shown:
    """What an exhibit shows; parts that are empty are left out of the page.

    Attributes:
        title: what was found, one sentence.
        summary: a few sentences under it.
        tables: with the paper's values marked.
        charts: drawn one after another.
        notes: how it was measured, and where it differs from the paper.
        examples: single images, under the charts.
    """

    title: str
    summary: str = ""
    tables: Sequence[NumberTable] = ()
    charts: Sequence[Chart | BarChart] = ()
    notes: Sequence[str] = ()
    examples: Sequence[Example] = ()
