"""Figures 2 and 9 as the tables that their commands print."""

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from diptych.paper.training.figure2 import TRANSFORMER, Figure2, ratio_in_words
from diptych.paper.training.figure9 import Figure9
from diptych.paper.training.plotted_numbers import EFFICIENCY


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(str, row))
    return table


def figure2_tables(figure: Figure2) -> list[Table]:
    """A table of accuracy by number of pairs, and a table of the ratios with the paper's."""
    pairs = [f"{point.pairs:,}" for point in figure.curves[TRANSFORMER]]
    rows = [[name, *(f"{100 * point.accuracy:.1f}" for point in curve)] for name, curve in figure.curves.items()]
    rows.append(["chance", *[f"{100 * figure.chance:.1f}"] * len(pairs)])
    ratios = [
        [fast, slow, f"{100 * ratio.accuracy:.1f}", ratio_in_words(ratio), EFFICIENCY.get((fast, slow), "")]
        for (fast, slow), ratio in figure.ratios.items()
    ]
    return [
        _table("Zero-shot accuracy, %, after so many pairs", ["objective", *pairs], rows),
        _table("Times fewer pictures", ["this one", "than this one", "at, %", "here", "paper"], ratios),
    ]


def figure9_table(figure: Figure9) -> Table:
    """Error and compute of each model, with the power law in the title."""
    rows = [
        [name, f"{x:.4f}", f"{y:.1f}"] for name, x, y in zip(figure.names, figure.gflops, figure.errors, strict=True)
    ]
    return _table(f"Error, %, against compute: {figure.law.in_words()}", ["model", "GFLOPs", "mean error"], rows)
