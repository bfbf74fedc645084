"""Made shifts as tables and charts: accuracy against severity, shift by shift, with intervals.

Nothing of this is in the paper: its shifts are natural ones. The numbers compare with each other alone.
"""

from collections.abc import Sequence

from diptych.data.shifts import FAMILIES, SHIFTS
from diptych.evaluate.tasks.shifted import ShiftSummary, summarise_shifts
from diptych.paper.exhibit import Exhibit
from diptych.paper.numbers.measured import measured_cell
from diptych.records import Result
from diptych.report.bars import BarChart
from diptych.report.curves import Chart, Series
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

CORRUPTIONS, RENDITIONS = FAMILIES[:-1], FAMILIES[-1:]
_COLOURS = 5
_MADE = (
    "The shifts are made by this project from the set's own pictures, the same to the bit each time; they are not "
    "natural, and their strengths are its own. The numbers compare with each other, not with those of published suites."
)


def _shifts(results: Sequence[Result]) -> Shown:
    summaries = summarise_shifts(results)
    if not summaries:
        return Shown("No made shifts were measured: diptych suite MODEL --task shifts measures them", notes=[_MADE])
    words = "; ".join(
        f"{one.model} on {one.dataset}: {100 * one.clean.value:.1f} % as it is, {100 * mean:.1f} % on the mean of "
        f"{len(one.by_shift)} shifts"
        for one in summaries
        if (mean := one.mean()) is not None
    )
    return Shown(
        words,
        "Zero-shot accuracy with the same classifier; severity 0 is the set as it is. Whiskers are 99.5 % intervals of "
        "each number alone: all severities share their pictures, so differences are surer than they look.",
        [_means(summaries), *(_table(one) for one in summaries)],
        [chart for one in summaries for chart in _charts(one)],
        [
            _MADE,
            "What each does: " + "; ".join(f"{name}: {SHIFTS[name].about}" for name in summaries[0].by_shift) + ".",
        ],
    )


def _means(summaries: Sequence[ShiftSummary]) -> NumberTable:
    columns = ["model and set", "as it is", "all shifts", "corruptions", "renditions", "lost, % of the first"]
    rows: list[tuple[str, list[Cell | str]]] = []
    for one in summaries:
        means = [one.mean(), one.mean(CORRUPTIONS), one.mean(RENDITIONS), one.relative_drop()]
        cells = [measured_cell(one.clean), *(Cell(None if mean is None else 100 * mean) for mean in means)]
        rows.append((f"{one.model}, {one.dataset}", [*cells]))
    note = "A mean is over shifts of their means over severities."
    return NumberTable("Accuracy under made shifts, %", columns, rows, [note])


def _table(one: ShiftSummary) -> NumberTable:
    severities = sorted({severity for found in one.by_shift.values() for severity in found})
    rows: list[tuple[str, list[Cell | str]]] = [
        (name, [*(measured_cell(found.get(severity)) for severity in severities), Cell(100 * one.shift_mean(name))])
        for name, found in one.by_shift.items()
    ]
    columns = ["shift", *(f"severity {severity}" for severity in severities), "mean"]
    as_it_is = f"As it is: {100 * one.clean.value:.1f} %."
    return NumberTable(f"{one.model} on {one.dataset}, shift by shift, %", columns, rows, [as_it_is])


def _charts(one: ShiftSummary) -> list[Chart | BarChart]:
    """A chart per family of corruptions, and bars of the renditions."""
    charts: list[Chart | BarChart] = []
    where = f"{one.model} on {one.dataset}"
    for family in CORRUPTIONS:
        names = [name for name in one.by_shift if SHIFTS[name].family == family]
        series = [_curve(name, one, place % _COLOURS) for place, name in enumerate(names)]
        if series:
            charts.append(Chart(f"{where}: {family}", "severity", "accuracy, %", series, legend="bottom left"))
    bars = [
        (name, 100 * found[1].value)
        for name, found in one.by_shift.items()
        if SHIFTS[name].family in RENDITIONS and 1 in found
    ]
    if bars:
        rows = [("as it is", 100 * one.clean.value), *bars]
        charts.append(BarChart(f"{where}: renditions", "accuracy, %", rows))
    return charts


def _curve(name: str, one: ShiftSummary, colour: int) -> Series:
    spots = [(0, one.clean), *one.by_shift[name].items()]
    x, y = [float(severity) for severity, _ in spots], [100 * result.value for _, result in spots]
    bounds = [(result.low, result.high) for _, result in spots]
    if any(low is None or high is None for low, high in bounds):
        return Series(name, x, y, colour=colour)
    low, high = ([100 * (pair[side] or 0.0) for pair in bounds] for side in (0, 1))
    return Series(name, x, y, low, high, colour)


SHIFTS_MADE = Exhibit("shifts", "Accuracy under corruptions and renditions made from a set's pictures.", (), _shifts)
