"""All that was measured, in one table per task: the first section of the suite's report."""

from collections.abc import Mapping, Sequence

from diptych.data.cards.table import CARDS
from diptych.evaluate.shown_classes import classes_in_words
from diptych.paper.exhibit import Exhibit, Shown
from diptych.records import Result
from diptych.report.formats import counted
from diptych.report.table import Cell, NumberTable

_TITLES = {
    "zero_shot": "Zero-shot, %",
    "linear_probe": "Linear probe, %",
    "few_shot": "Few-shot, %",
    "retrieval": "Retrieval, %",
    "robustness": "Natural shifts, %",
}
_MOST_COLUMNS = 8
_NO_PERCENT = ("error_km",)  # ends of metrics that are no fractions


def summary(results: Sequence[Result]) -> Shown:
    """A table per task: one row for each set and split, one column for each model and protocol; intervals beside."""
    results = [one for one in results if _belongs(one)]
    tasks = sorted({one.task for one in results}, key=lambda task: (task not in _TITLES, [*_TITLES, task].index(task)))
    tables = [_table(task, [one for one in results if one.task == task]) for task in tasks]
    models, sets = {one.model for one in results}, {one.dataset for one in results}
    if not results:
        return Shown("Nothing was measured")
    return Shown(
        title=f"{counted(len(results), 'number')} of {counted(len(models), 'model')} on {counted(len(sets), 'set')}",
        summary="A set's own metric stands beside its name; under each table is what stands beside its numbers.",
        tables=tables,
    )


def _table(task: str, results: Sequence[Result]) -> NumberTable:
    """The metric of each set's card, or all metrics where the task has several of one rank."""
    if len({(one.model, one.protocol) for one in results}) > _MOST_COLUMNS:
        return _long_table(task, results)
    columns = list(dict.fromkeys((one.model, one.protocol) for one in results))
    rows: dict[str, dict[tuple[str, str], Result]] = {}
    for one in results:
        rows.setdefault(_row(one), {})[one.model, one.protocol] = one
    single = len({model for model, _ in columns}) == 1
    return NumberTable(
        title=_TITLES.get(task, task.replace("_", " ")) + (f": {columns[0][0]}" if single else ""),
        columns=["set", "n", *(protocol if single else f"{model}, {protocol}" for model, protocol in columns)],
        rows=[(row, [_count(cells), *(_cell(cells.get(column)) for column in columns)]) for row, cells in rows.items()],
        notes=_intervals(results),
    )


def _long_table(task: str, results: Sequence[Result]) -> NumberTable:
    """The other way round: a row for each model and protocol, a column for each set."""
    results = sorted(results, key=_by_shots)
    columns = list(dict.fromkeys(_row(one) for one in results))
    rows: dict[str, dict[str, Result]] = {}
    single = len({one.model for one in results}) == 1
    for one in results:
        rows.setdefault(one.protocol if single else f"{one.model}, {one.protocol}", {})[_row(one)] = one
    title = _TITLES.get(task, task.replace("_", " ")) + (f": {results[0].model}" if single else "")
    cells = [(row, [_cell(found.get(column)) for column in columns]) for row, found in rows.items()]
    return NumberTable(title=title, columns=["protocol", *columns], rows=cells, notes=_intervals(results))


def _by_shots(one: Result) -> tuple[str, str, int]:
    """Model, classifier and examples per class, of "probe 16-shot": curves stand together, in their order."""
    kind, _, shots = one.protocol.rpartition(" ")
    number = shots.removesuffix("-shot")
    return (one.model, kind, int(number)) if number.isdigit() and kind else (one.model, one.protocol, 0)


def _intervals(results: Sequence[Result]) -> list[str]:
    """What the ends beside the numbers are."""
    kinds = list(dict.fromkeys(one.interval for one in results if one.interval))
    return [f"Beside the numbers: {'; '.join(kinds)}."] if kinds else []


def _belongs(one: Result) -> bool:
    if one.setting("shift", str):
        return False  # made shifts have an exhibit of their own
    if one.task in ("zero_shot", "linear_probe", "few_shot") and one.metric.startswith(("accuracy", "mean_per_class")):
        card = CARDS.get(one.dataset)
        return one.metric == (card.metric if card else "accuracy")
    return True


def _row(one: Result) -> str:
    metric = "" if one.metric == "accuracy" else f", {one.metric.replace('_', ' ')}"
    split = "" if one.split == "test" else f"/{one.split}"
    shown = classes_in_words(one)
    return f"{one.dataset}{split}{metric}" + (f", {shown}" if shown else "")


def _count(cells: Mapping[tuple[str, str], Result]) -> str:
    return " / ".join(f"{n:,}" for n in dict.fromkeys(one.n for one in cells.values()))


def _cell(one: Result | None) -> Cell:
    if one is None:
        return Cell(None)
    scale = 1 if one.metric.endswith(_NO_PERCENT) else 100
    low, high = (None if bound is None else scale * bound for bound in (one.low, one.high))
    return Cell(scale * one.value, low, high)


SUMMARY = Exhibit("summary", "All that was measured, one table per task.", (), summary)
