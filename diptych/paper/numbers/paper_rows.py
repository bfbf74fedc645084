"""Tables with rows of measured Results above the paper's own rows."""

from collections.abc import Iterable, Mapping, Sequence

from diptych.paper.numbers.measured import measured_cell
from diptych.records import Result, kind_of
from diptych.report.paper_numbers import published
from diptych.report.table import Cell, NumberTable

Wanted = Sequence[tuple[str, str, str, str]]
"""(kind of task, dataset, metric, protocol), the preferred one first."""
Row = tuple[str, Mapping[str, Result]]
"""The name of a row, and its Results by column."""


def pick(results: Iterable[Result], columns: Mapping[str, Wanted]) -> dict[str, dict[str, Result]]:
    """The preferred Result for each model and column. Later Results replace earlier ones of the same number.

    Models without Results are omitted. Results of a training split or with a condition are not used.

    Args:
        results: all measured Results.
        columns: by column name, the measurements that it may show.
    """
    results_by_model: dict[str, dict[tuple[str, str, str, str], Result]] = {}
    for result in results:
        if result.split != "train" and not result.condition:
            key = (kind_of(result), result.dataset, result.metric, result.protocol)
            results_by_model.setdefault(result.model, {})[key] = result
    picked = {}
    for model, own in results_by_model.items():
        row = {column: next((own[key] for key in keys if key in own), None) for column, keys in columns.items()}
        picked[model] = {column: result for column, result in row.items() if result is not None}
    return {model: row for model, row in picked.items() if row}


def beside_paper(
    title: str, place: str, columns: Sequence[str], rows: Sequence[Row], notes: Sequence[str] = ()
) -> NumberTable:
    """A table of the paper with measured rows above the paper's rows, in percent.

    Args:
        title: title of the table.
        place: "table 13", ...
        columns: columns of `published(place)` to show.
        rows: the measured rows.
        notes: notes under the table.
    """
    shown: list[tuple[str, Sequence[Cell | str]]] = [
        (name, [measured_cell(row_results.get(column)) for column in columns]) for name, row_results in rows
    ]
    for name, values in published(place).items():
        shown.append((name, [Cell(values.get(column), published=True) for column in columns]))
    return NumberTable(title, ["model", *columns], shown, notes)


def compared(rows: Sequence[Row], place: str, paper_row: str, relation: str) -> str:
    """A sentence that compares the first measured number with the paper's; without measured number, the paper's alone.

    Args:
        rows: the measured rows.
        place: "table 13", ...
        paper_row: the row to compare with. A row named "MODEL (linear)" is compared with the paper's "CLIP (linear)".
        relation: text between the number and the column, "of photographs placed within".
    """
    paper = published(place)
    for name, row_results in rows:
        kind = name[name.rfind("(") :] if name.endswith(")") else ""
        counterpart = f"CLIP {kind}" if f"CLIP {kind}" in paper else paper_row
        for column, value in paper[counterpart].items():
            if column in row_results:
                ours = 100 * row_results[column].value
                return f"{name}: {ours:.1f} % {relation} {column}; the paper's {counterpart}: {value:.1f} %"
    column, value = next(iter(paper[paper_row].items()))
    return f"The paper's {paper_row}: {value:.1f} % {relation} {column}"
