"""All measured numbers, one table per task: the first section of the suite's report."""

import re
from collections.abc import Mapping, Sequence

from diptych.evalsets.cards import CARDS
from diptych.evaluate.class_coverage import classes_in_words
from diptych.paper.exhibit import Exhibit
from diptych.paper.numbers.chance import is_at_chance
from diptych.paper.numbers.measured import headline, measured_cell
from diptych.records import Result, kind_of, protocol_in_words
from diptych.report.display import counted
from diptych.report.shown import Shown
from diptych.report.table import NumberTable

_TITLES = {
    "zero_shot": "Zero-shot, %",
    "linear_probe": "Linear probe, %",
    "few_shot": "Few-shot, %",
    "retrieval": "Retrieval, %",
}
_MOST_COLUMNS = 8
_INTERVALS = {
    "clopper-pearson 99.5%": "99.5 % Clopper–Pearson, exact for a share of samples",
    "bootstrap 99.5%": "99.5 % bootstrap, which draws the samples again",
}
_DRAWS = re.compile(r"range of (\d+) (seeds|folds)")


def summary(results: Sequence[Result]) -> Shown:
    """A table per kind of task: a row per set and split, a column per model and protocol, with intervals."""
    results = [result for result in results if _is_in_summary(result)]
    # Kinds without a title keep the order of their results; a set's order would differ from run to run.
    kinds = sorted(dict.fromkeys(map(kind_of, results)), key=lambda kind: [*_TITLES, kind].index(kind))
    tables = [_table(kind, [result for result in results if kind_of(result) == kind]) for kind in kinds]
    models, sets = {result.model for result in results}, {result.dataset for result in results}
    if not results:
        return Shown("Nothing was measured")
    return Shown(
        title=_headline(results)
        or f"{counted(len(results), 'number')} of {counted(len(models), 'model')} on {counted(len(sets), 'set')}",
        summary="One table for each task, one row for each set; where the metric is not accuracy, the row names it.",
        tables=tables,
    )


def _table(kind: str, results: Sequence[Result]) -> NumberTable:
    """A table of one kind of task, or a transposed table if it would have too many columns."""
    columns = list(dict.fromkeys((result.model, protocol_in_words(result)) for result in results))
    if len(columns) > _MOST_COLUMNS:
        return _long_table(kind, results)
    rows: dict[str, dict[tuple[str, str], Result]] = {}
    for result in results:
        rows.setdefault(_row(result), {})[result.model, protocol_in_words(result)] = result
    single = len({model for model, _ in columns}) == 1
    return NumberTable(
        title=_TITLES.get(kind, kind.replace("_", " ")) + (f": {columns[0][0]}" if single else ""),
        columns=["set", "n", *(protocol if single else f"{model}, {protocol}" for model, protocol in columns)],
        rows=[
            (row, [_count(cells), *(measured_cell(cells.get(column)) for column in columns)])
            for row, cells in rows.items()
        ],
        notes=_intervals(results),
    )


def _long_table(kind: str, results: Sequence[Result]) -> NumberTable:
    """The transposed table: a row for each model and protocol, a column for each set."""
    results = sorted(results, key=_by_shots)
    columns = list(dict.fromkeys(_row(result) for result in results))
    rows: dict[str, dict[str, Result]] = {}
    single = len({result.model for result in results}) == 1
    for result in results:
        protocol = protocol_in_words(result)
        rows.setdefault(protocol if single else f"{result.model}, {protocol}", {})[_row(result)] = result
    title = _TITLES.get(kind, kind.replace("_", " ")) + (f": {results[0].model}" if single else "")
    cells = [(row, [measured_cell(row_results.get(column)) for column in columns]) for row, row_results in rows.items()]
    return NumberTable(title=title, columns=["protocol", *columns], rows=cells, notes=_intervals(results))


def _by_shots(result: Result) -> tuple[str, str, int]:
    """Sort key: model, classifier and examples per class, so that the points of a curve are together."""
    classifier, shots = result.condition.get("classifier"), result.condition.get("shots")
    if isinstance(classifier, str) and isinstance(shots, int) and "subset" not in result.condition:
        return result.model, classifier, shots
    return result.model, protocol_in_words(result), 0


def _intervals(results: Sequence[Result]) -> list[str]:
    """Notes that explain the intervals of the numbers."""
    kinds = list(dict.fromkeys(result.interval for result in results if result.interval))
    draws = {kind: match for kind in kinds if (match := _DRAWS.fullmatch(kind))}
    if intervals := [_INTERVALS.get(kind, kind) for kind in kinds if kind not in draws]:
        notes = [f"Confidence intervals: {'; '.join(intervals)}."]
    else:
        notes = []
    sources = {"seeds": "draws of the training images", "folds": "folds"}
    return notes + [
        f"Ranges: the lowest and the highest of {match[1]} {sources[match[2]]}." for match in draws.values()
    ]


def _headline(results: Sequence[Result]) -> str:
    """The best and worst zero-shot set of each model, and its number of sets at chance; "" without such Results."""
    sentences = []
    by_model: dict[str, dict[str, Result]] = {}
    for result in results:
        is_test = (kind_of(result), result.protocol, result.split) == ("zero_shot", "ensemble", "test")
        if is_test and not result.condition:
            by_model.setdefault(result.model, {})[result.dataset] = result
    for model, own in by_model.items():
        ordered = sorted(own.values(), key=lambda result: -result.value)
        ends = [ordered[0], *ordered[1:][-1:]]
        sentence = (
            f"{model} zero-shot: {' and '.join(f'{100 * result.value:.1f} % on {result.dataset}' for result in ends)}"
        )
        sentence += f", the best and the worst of {len(own)} sets" if len(own) > 2 else ""
        guessed = sum(map(is_at_chance, own.values()))
        sentences.append(sentence + (f"; at chance on {counted(guessed, 'set')}" if guessed else ""))
    return headline(sentences)


def _is_in_summary(result: Result) -> bool:
    if "shift" in result.condition:
        return False  # made shifts have a separate exhibit
    if kind_of(result) in ("zero_shot", "linear_probe", "few_shot") and result.metric.startswith(
        ("accuracy", "mean_per_class")
    ):
        card = CARDS.get(result.dataset)
        return result.metric == (card.metric if card else "accuracy")
    return True


def _row(result: Result) -> str:
    metric = "" if result.metric == "accuracy" else f", {result.metric.replace('_', ' ')}"
    split = "" if result.split == "test" else f"/{result.split}"
    classes = classes_in_words(result)
    return f"{result.dataset}{split}{metric}" + (f", {classes}" if classes else "")


def _count(cells: Mapping[tuple[str, str], Result]) -> str:
    return " / ".join(f"{n:,}" for n in dict.fromkeys(result.n for result in cells.values()))


SUMMARY = Exhibit("summary", "All measured numbers, one table per task.", (), summary)
