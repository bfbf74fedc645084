"""A page about one figure: charts, a table of their numbers, and how they were measured."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from diptych.report.curves import STYLE, Chart, charts_svg, line_chart
from diptych.report.display import readable
from diptych.report.page import render_template, write_page


@dataclasses.dataclass(frozen=True)
class FigurePage:
    """The contents of the page.

    Attributes:
        title: the main finding, one sentence.
        summary: a few sentences under the title.
        charts: drawn side by side in the SVG file, one below the other on the page.
        columns, rows: a table; its first column names the row.
        notes: how the numbers were measured, one or two sentences each.
        facts: command, commit, machine, ...
    """

    title: str
    summary: str
    charts: Sequence[Chart]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)


def render_figure_page(page: FigurePage) -> str:
    """The page as HTML text."""
    return render_template(
        "figure.html.j2",
        title=readable(page.title, 240),
        summary=readable(page.summary, 1000),
        charts=[(chart.title, line_chart(chart)) for chart in page.charts],
        columns=[readable(cell) for cell in page.columns],
        rows=[[readable(cell) for cell in row] for row in page.rows],
        notes=[readable(note, 600) for note in page.notes],
        facts={readable(name): readable(value, 400) for name, value in page.facts.items()},
        chart_style=STYLE,
        heat_levels=10,
    )


def write_figure(page: FigurePage, folder: Path, name: str) -> tuple[Path, Path]:
    """Write folder/name.svg and folder/name.html, each atomically, and return their paths."""
    svg_path, html_path = folder / f"{name}.svg", folder / f"{name}.html"
    return write_page(charts_svg(page.charts), svg_path), write_page(render_figure_page(page), html_path)
