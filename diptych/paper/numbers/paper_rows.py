"""Rows of measured Results above the paper's own rows."""

from collections.abc import Iterable, Mapping, Sequence

from diptych.paper.numbers.measured import measured_cell
from diptych.paper.numbers.paper_numbers import published
from diptych.records import Result, kind_of
from diptych.report.table import Cell, NumberTable

Wanted = Sequence[tuple[str, str, str, str]]
"""(kind of task, dataset, metric, protocol), the most wanted first."""
Row = tuple[str, Mapping[str, Result]]
"""The name of a row, and what was measured by column."""


def pick(results: Iterable[Result], columns: Mapping[str, Wanted]) -> dict[str, dict[str, Result]]:
    """By model and column the Result that is wanted most; of two measurements of one thing, the later one.

    Models without any are left out; numbers of a training split, and those with a condition, are passed over.

    Args:
        columns: name of a column -> what it may show.
    """
    found: dict[str, dict[tuple[str, str, str, str], Result]] = {}
    for result in results:
        if result.split != "train" and not result.condition:
            key = (kind_of(result), result.dataset, result.metric, result.protocol)
            found.setdefault(result.model, {})[key] = result
    picked = {}
    for model, own in found.items():
        row = {column: next((own[key] for key in wanted if key in own), None) for column, wanted in columns.items()}
        picked[model] = {column: result for column, result in row.items() if result is not None}
    return {model: row for model, row in picked.items() if row}


def beside_paper(
    title: str, place: str, columns: Sequence[str], rows: Sequence[Row], notes: Sequence[str] = ()
) -> NumberTable:
    """A table of the paper with measured rows above its own, in percent.

    Args:
        place: "table 13", ...
        columns: those of `published(place)` that are shown.
    """
    shown: list[tuple[str, Sequence[Cell | str]]] = [
        (name, [measured_cell(found.get(column)) for column in columns]) for name, found in rows
    ]
    for name, values in published(place).items():
        shown.append((name, [Cell(values.get(column), published=True) for column in columns]))
    return NumberTable(title, ["model", *columns], shown, notes)


def compared(rows: Sequence[Row], place: str, paper_row: str, words: str) -> str:
    """A sentence on the first number of the rows that the paper has, too; on the paper's alone, without one.

    Args:
        paper_row: the row to compare with; for a row called "MODEL (linear)" it is the paper's "CLIP (linear)".
        words: between the number and the column, "of photographs placed within".
    """
    paper = published(place)
    for name, found in rows:
        kind = name[name.rfind("(") :] if name.endswith(")") else ""
        beside = f"CLIP {kind}" if f"CLIP {kind}" in paper else paper_row
        for column, value in paper[beside].items():
            if column in found:
                ours = 100 * found[column].value
                return f"{name}: {ours:.1f} % {words} {column}; the paper's {beside}: {value:.1f} %"
    column, value = next(iter(paper[paper_row].items()))
    return f"The paper's {paper_row}: {value:.1f} % {words} {column}"
