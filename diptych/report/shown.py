"""The contents of a table or figure of the paper, as plain data: tables, charts, examples and text."""

import dataclasses
from collections.abc import Sequence

from diptych.report.bars import BarChart
from diptych.report.curves import Chart
from diptych.report.example_images import Example, ImagePair
from diptych.report.table import NumberTable


@dataclasses.dataclass(frozen=True)
class Shown:
    """The contents of an exhibit. The page omits empty parts.

    Attributes:
        title: the main finding, one sentence.
        summary: a few sentences under the title.
        tables: tables, with the paper's values marked.
        charts: charts, in drawing order.
        notes: how the numbers were measured, and differences from the paper.
        examples: single images, shown under the charts.
        pairs: pairs of images, shown under the tables.
    """

    title: str
    summary: str = ""
    tables: Sequence[NumberTable] = ()
    charts: Sequence[Chart | BarChart] = ()
    notes: Sequence[str] = ()
    examples: Sequence[Example] = ()
    pairs: Sequence[ImagePair] = ()
