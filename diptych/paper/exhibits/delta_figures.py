"""Figure 5, zero-shot minus a probe on ResNet-50, and figure 11, a probe on CLIP minus one on EfficientNet, as bars.

Source: CLIP paper, sections 3.1.5 and 3.2. Notes list printed differences that do not agree with tables 10 and 11.
"""

from collections.abc import Mapping, Sequence

from diptych.paper.exhibit import Exhibit
from diptych.paper.numbers.measured import (
    BEST,
    PAPER_27,
    Scores,
    common_mean,
    headline,
    measured,
    missing_notes,
    percents,
    published_cell,
)
from diptych.records import Result
from diptych.report.bars import BarChart
from diptych.report.display import counted, points
from diptych.report.paper_numbers import published
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

_RIVAL = "EfficientNet Noisy Student L2-800"
_EQUAL = 1e-6  # smaller differences count as equal
_ROUNDING = 0.15  # points by which a printed difference can differ from that of two printed scores


def differences(first: Scores, second: Scores) -> dict[str, float]:
    """First minus second on the sets that both have, in points, largest first."""
    deltas = {name: first[name] - second[name] for name in PAPER_27 if name in first and name in second}
    return dict(sorted(deltas.items(), key=lambda pair: -pair[1]))


def wins(deltas: Mapping[str, float]) -> int:
    """The number of sets on which the first model is better."""
    return sum(delta > _EQUAL for delta in deltas.values())


def in_words(deltas: Mapping[str, float]) -> str:
    """Text such as "wins 20 of 27 sets, and is level on 1"."""
    num_equal = sum(abs(delta) <= _EQUAL for delta in deltas.values())
    return f"wins {wins(deltas)} of {counted(len(deltas), 'set')}" + (
        f", and is level on {num_equal}" if num_equal else ""
    )


def paper_differences(place: str) -> tuple[dict[str, float], dict[str, float]]:
    """Differences of figure 5 or 11: computed from tables 10 and 11, largest first, and as printed in the figure."""
    first = published("table 11" if place == "figure 5" else "table 10")[BEST]
    second = published("table 10")["ResNet-50" if place == "figure 5" else _RIVAL]
    printed = {name: value for cells in published(place).values() for name, value in cells.items()}
    return differences(first, second), printed


def _chart(title: str, deltas: Mapping[str, float], printed: Mapping[str, float]) -> BarChart:
    return BarChart(title, "points", list(deltas.items()), [printed.get(name) for name in deltas])


def _shown(place: str, own: Mapping[str, Scores], second: Scores, description: str, notes: Sequence[str]) -> Shown:
    """The figure: bars of the paper's two models, and of each measured model against the paper's rival.

    Args:
        place: "figure 5" or "figure 11".
        own: scores by model.
        second: scores of the paper's rival.
        description: the comparison, "zero-shot, less a probe on ResNet-50's features".
        notes: notes of the figure.
    """
    from_tables, printed = paper_differences(place)
    deltas_by_model = {model: differences(scores, second) for model, scores in own.items()}
    charts = [_chart(f"{model} {in_words(deltas)}", deltas, printed) for model, deltas in deltas_by_model.items()]
    charts.append(_chart(f"The paper's {BEST} {in_words(printed)}", from_tables, printed))
    columns = ["set", *deltas_by_model, "the paper's tables", "the paper's figure"]
    rows: list[tuple[str, list[Cell | str]]] = [
        (
            name,
            [
                *(Cell(deltas.get(name)) for deltas in deltas_by_model.values()),
                published_cell(from_tables[name]),
                published_cell(printed[name]),
            ],
        )
        for name in printed
    ]
    disagreements = [
        f"{name} ({points(printed[name] / 100)}, not {points(from_tables[name] / 100)})"
        for name in printed
        if abs(printed[name] - from_tables[name]) > _ROUNDING
    ]
    measured_title = headline(
        f"{model} {in_words(deltas)}, on the mean by {points(common_mean(deltas, deltas) / 100)} points"
        for model, deltas in deltas_by_model.items()
        if deltas
    )
    return Shown(
        measured_title or f"The paper's best model {in_words(printed)}",
        f"Bars: {description}, in points. The diamonds are the differences that the paper's figure prints.",
        [NumberTable(f"{description[0].upper()}{description[1:]}, points", columns, rows)],
        charts,
        [
            *notes,
            *(
                [f"The figure prints other differences than the tables give for {', '.join(disagreements)}."]
                if disagreements
                else []
            ),
        ],
    )


def _figure_5(results: Sequence[Result]) -> Shown:
    zero_shot = measured(results, "zero_shot", "ensemble")
    own = {model: percents(scores) for model, scores in zero_shot.items()}
    note = "The probe on ResNet-50 is the paper's, table 10, for measured models, too."
    description = "zero-shot, less a probe on ResNet-50's features"
    return _shown("figure 5", own, published("table 10")["ResNet-50"], description, [note, *missing_notes(zero_shot)])


def _figure_11(results: Sequence[Result]) -> Shown:
    probes = measured(results, "linear_probe", "features")
    own = {model: percents(scores) for model, scores in probes.items()}
    note = (
        f"The rival is the paper's {_RIVAL}, table 10, for measured models, too. The paper counts 21 wins, the level "
        "set among them."
    )
    description = f"a probe, less one on {_RIVAL}"
    return _shown("figure 11", own, published("table 10")[_RIVAL], description, [note, *missing_notes(probes)])


FIGURE_5 = Exhibit(
    "figure5",
    "Zero-shot scores less those of a linear probe on ResNet-50, set by set.",
    (("zero_shot", PAPER_27),),
    _figure_5,
)
FIGURE_11 = Exhibit(
    "figure11",
    "Linear probes less those of the best EfficientNet, set by set.",
    (("linear_probe", PAPER_27),),
    _figure_11,
)
