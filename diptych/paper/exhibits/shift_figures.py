"""Tables and charts of made shifts: accuracy against severity for each shift, with intervals.

The paper has no made shifts, only natural ones. These numbers are only comparable with each other.
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
_NUM_COLORS = 5
_MADE_NOTE = (
    "The shifts are made by this project from the set's own pictures, the same to the bit each time; they are not "
    "natural, and their strengths are its own. The numbers compare with each other, not with those of published suites."
)


def _shifts(results: Sequence[Result]) -> Shown:
    summaries = summarise_shifts(results)
    if not summaries:
        return Shown(
            "No made shifts were measured: diptych suite MODEL --task shifts measures them", notes=[_MADE_NOTE]
        )
    title = "; ".join(
        f"{summary.model} on {summary.dataset}: {100 * summary.clean.value:.1f} % as it is, {100 * mean:.1f} % on the "
        f"mean of {len(summary.by_shift)} shifts"
        for summary in summaries
        if (mean := summary.mean()) is not None
    )
    return Shown(
        title,
        "Zero-shot accuracy with the same classifier; severity 0 is the set as it is. Whiskers are 99.5 % intervals of "
        "each number alone: all severities share their pictures, so differences are surer than they look.",
        [_means(summaries), *(_table(summary) for summary in summaries)],
        [chart for summary in summaries for chart in _charts(summary)],
        [
            _MADE_NOTE,
            "What each does: " + "; ".join(f"{name}: {SHIFTS[name].about}" for name in summaries[0].by_shift) + ".",
        ],
    )


def _means(summaries: Sequence[ShiftSummary]) -> NumberTable:
    columns = ["model and set", "as it is", "all shifts", "corruptions", "renditions", "lost, % of the first"]
    rows: list[tuple[str, list[Cell | str]]] = []
    for summary in summaries:
        means = [summary.mean(), summary.mean(CORRUPTIONS), summary.mean(RENDITIONS), summary.relative_drop()]
        cells = [measured_cell(summary.clean), *(Cell(None if mean is None else 100 * mean) for mean in means)]
        rows.append((f"{summary.model}, {summary.dataset}", [*cells]))
    note = "A mean is over shifts of their means over severities."
    return NumberTable("Accuracy under made shifts, %", columns, rows, [note])


def _table(summary: ShiftSummary) -> NumberTable:
    severities = sorted({severity for results in summary.by_shift.values() for severity in results})
    rows: list[tuple[str, list[Cell | str]]] = [
        (
            name,
            [
                *(measured_cell(by_severity.get(severity)) for severity in severities),
                Cell(100 * summary.shift_mean(name)),
            ],
        )
        for name, by_severity in summary.by_shift.items()
    ]
    columns = ["shift", *(f"severity {severity}" for severity in severities), "mean"]
    as_it_is = f"As it is: {100 * summary.clean.value:.1f} %."
    return NumberTable(f"{summary.model} on {summary.dataset}, shift by shift, %", columns, rows, [as_it_is])


def _charts(summary: ShiftSummary) -> list[Chart | BarChart]:
    """A chart for each family of corruptions, and bars of the renditions."""
    charts: list[Chart | BarChart] = []
    where = f"{summary.model} on {summary.dataset}"
    for family in CORRUPTIONS:
        names = [name for name in summary.by_shift if SHIFTS[name].family == family]
        series = [_curve(name, summary, place % _NUM_COLORS) for place, name in enumerate(names)]
        if series:
            charts.append(Chart(f"{where}: {family}", "severity", "accuracy, %", series, legend="bottom left"))
    bars = [
        (name, 100 * results[1].value)
        for name, results in summary.by_shift.items()
        if SHIFTS[name].family in RENDITIONS and 1 in results
    ]
    if bars:
        rows = [("as it is", 100 * summary.clean.value), *bars]
        charts.append(BarChart(f"{where}: renditions", "accuracy, %", rows))
    return charts


def _curve(name: str, summary: ShiftSummary, colour: int) -> Series:
    points = [(0, summary.clean), *summary.by_shift[name].items()]
    x, y = [float(severity) for severity, _ in points], [100 * result.value for _, result in points]
    bounds = [(result.low, result.high) for _, result in points]
    if any(low is None or high is None for low, high in bounds):
        return Series(name, x, y, colour=colour)
    low, high = ([100 * (pair[side] or 0.0) for pair in bounds] for side in (0, 1))
    return Series(name, x, y, low, high, colour)


SHIFTS_MADE = Exhibit("shifts", "Accuracy under corruptions and renditions made from a set's pictures.", (), _shifts)
