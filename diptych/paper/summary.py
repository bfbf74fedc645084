"""All that was measured, in one table per task: the first section of the suite's report."""

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
    """A table per kind of task: a row per set and split, a column per model and protocol; intervals beside."""
    results = [one for one in results if _belongs(one)]
    kinds = sorted(set(map(kind_of, results)), key=lambda kind: (kind not in _TITLES, [*_TITLES, kind].index(kind)))
    tables = [_table(kind, [one for one in results if kind_of(one) == kind]) for kind in kinds]
    models, sets = {one.model for one in results}, {one.dataset for one in results}
    if not results:
        return Shown("Nothing was measured")
    return Shown(
        title=_found(results)
        or f"{counted(len(results), 'number')} of {counted(len(models), 'model')} on {counted(len(sets), 'set')}",
        summary="One table for each task, one row for each set; where the metric is not accuracy, the row names it.",
        tables=tables,
    )


def _table(kind: str, results: Sequence[Result]) -> NumberTable:
    """The metric of each set's card, or all metrics where the task has several of one rank."""
    columns = list(dict.fromkeys((one.model, protocol_in_words(one)) for one in results))
    if len(columns) > _MOST_COLUMNS:
        return _long_table(kind, results)
    rows: dict[str, dict[tuple[str, str], Result]] = {}
    for one in results:
        rows.setdefault(_row(one), {})[one.model, protocol_in_words(one)] = one
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
    """The other way round: a row for each model and protocol, a column for each set."""
    results = sorted(results, key=_by_shots)
    columns = list(dict.fromkeys(_row(one) for one in results))
    rows: dict[str, dict[str, Result]] = {}
    single = len({one.model for one in results}) == 1
    for one in results:
        words = protocol_in_words(one)
        rows.setdefault(words if single else f"{one.model}, {words}", {})[_row(one)] = one
    title = _TITLES.get(kind, kind.replace("_", " ")) + (f": {results[0].model}" if single else "")
    cells = [(row, [measured_cell(found.get(column)) for column in columns]) for row, found in rows.items()]
    return NumberTable(title=title, columns=["protocol", *columns], rows=cells, notes=_intervals(results))


def _by_shots(one: Result) -> tuple[str, str, int]:
    """Model, classifier and examples per class: curves stand together, in their order."""
    classifier, shots = one.condition.get("classifier"), one.condition.get("shots")
    if isinstance(classifier, str) and isinstance(shots, int) and "subset" not in one.condition:
        return one.model, classifier, shots
    return one.model, protocol_in_words(one), 0


def _intervals(results: Sequence[Result]) -> list[str]:
    """What the two ends beside each number are."""
    kinds = list(dict.fromkeys(one.interval for one in results if one.interval))
    draws = {kind: found for kind in kinds if (found := _DRAWS.fullmatch(kind))}
    if intervals := [_INTERVALS.get(kind, kind) for kind in kinds if kind not in draws]:
        notes = [f"Confidence intervals: {'; '.join(intervals)}."]
    else:
        notes = []
    what = {"seeds": "draws of the training images", "folds": "folds"}
    return notes + [f"Ranges: the lowest and the highest of {one[1]} {what[one[2]]}." for one in draws.values()]


def _found(results: Sequence[Result]) -> str:
    """Where each model is best and worst at zero-shot, and how often at chance; "" where nobody measured that."""
    sentences = []
    by_model: dict[str, dict[str, Result]] = {}
    for one in results:
        if (kind_of(one), one.protocol, one.split) == ("zero_shot", "ensemble", "test") and not one.condition:
            by_model.setdefault(one.model, {})[one.dataset] = one
    for model, own in by_model.items():
        ordered = sorted(own.values(), key=lambda one: -one.value)
        ends = [ordered[0], *ordered[1:][-1:]]
        words = f"{model} zero-shot: {' and '.join(f'{100 * one.value:.1f} % on {one.dataset}' for one in ends)}"
        words += f", the best and the worst of {len(own)} sets" if len(own) > 2 else ""
        guessed = sum(map(is_at_chance, own.values()))
        sentences.append(words + (f"; at chance on {counted(guessed, 'set')}" if guessed else ""))
    return headline(sentences)


def _belongs(one: Result) -> bool:
    if "shift" in one.condition:
        return False  # made shifts have an exhibit of their own
    if kind_of(one) in ("zero_shot", "linear_probe", "few_shot") and one.metric.startswith(
        ("accuracy", "mean_per_class")
    ):
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


SUMMARY = Exhibit("summary", "All that was measured, one table per task.", (), summary)
