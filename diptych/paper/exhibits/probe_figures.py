"""Figures 8, 10, 12 and 20: linear probes against zero-shot scores, compute and ImageNet, over sets and per set.

Source: CLIP paper, sections 3.1.5, 3.2 and appendix A.
"""

from collections.abc import Mapping, Sequence

from diptych.paper.exhibit import Exhibit
from diptych.paper.numbers.compute import SOURCES, measured_gflops, paper_gflops
from diptych.paper.numbers.line_fit import LineFit, fit_line
from diptych.paper.numbers.measured import (
    BEST,
    PAPER_27,
    SUITES,
    Scores,
    headline,
    mean,
    measured,
    missing_notes,
    percents,
    published_cell,
)
from diptych.paper.numbers.model_series import MEASURED, compute_series, family_series, measured_points, set_charts
from diptych.records import Result
from diptych.report.curves import Chart, Series
from diptych.report.paper_numbers import published
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

_COMPUTE = "GFLOPs of the image tower, per picture"


def kitti_as_plotted() -> float:
    """KITTI's zero-shot score in figures 5 and 8, percent; table 11 has 21.9."""
    (printed,) = published("figure 5").values()
    return published("table 10")["ResNet-50"]["KITTI"] + printed["KITTI"]


def probe_against_zero_shot(probes: Scores, zero_shot: Scores) -> LineFit:
    """A line fitted to zero-shot scores against probe scores, over the sets that both have."""
    names = [name for name in PAPER_27 if name in probes and name in zero_shot]
    return fit_line([probes[name] for name in names], [zero_shot[name] for name in names])


def _correlation_chart(title: str, probes: Scores, zero_shot: Scores, fit: LineFit | None) -> Chart:
    names = [name for name in PAPER_27 if name in probes and name in zero_shot]
    x, y = [probes[name] for name in names], [zero_shot[name] for name in names]
    series = [Series("", x, y, colour=0, form="markers", names=names)]
    if fit is not None:
        ends = [min(x), max(x)]
        series.append(Series(fit.in_words(), ends, [fit(end) for end in ends], colour=1, form="line"))
    label = "linear probe on the same features, %"
    return Chart(
        title, label, "zero-shot, %", series, x_from_zero=False, y_from_zero=False, diagonal=True, legend="bottom right"
    )


def _fit_row(fit: LineFit | None, sets: int, of_paper: bool) -> list[Cell | str]:
    values = (fit.r, fit.slope, fit.low, fit.high, fit.intercept) if fit else (None,) * 5
    digits = (2, 2, 2, 2, 1)
    cells = [Cell(value, published=of_paper, digits=places) for value, places in zip(values, digits, strict=True)]
    return [str(sets), *cells, f"{fit.p:.1g}" if fit else ""]


def _figure_8(results: Sequence[Result]) -> Shown:
    zero_shot, probes = measured(results, "zero_shot", "ensemble"), measured(results, "linear_probe", "features")
    theirs, printed = published("table 10")[BEST], published("table 11")[BEST]
    plotted = {**printed, "KITTI": kitti_as_plotted()}
    own = {model: (percents(probes[model]), percents(zero_shot[model])) for model in zero_shot if model in probes}
    papers = {"the paper, KITTI as plotted": (theirs, plotted), "the paper, KITTI of table 11": (theirs, printed)}
    both = {**own, **papers}
    fits = {name: _fit_or_none(*pair) for name, pair in both.items()}
    rows = [(name, _fit_row(fits[name], len(set(x) & set(y)), name in papers)) for name, (x, y) in both.items()]
    columns = ["model", "sets", "r", "slope", "from", "to", "intercept", "p of r"]
    paper_fit = probe_against_zero_shot(theirs, plotted)
    charts = [_correlation_chart(name, *pair, fits[name]) for name, pair in own.items()]
    charts.append(_correlation_chart(f"The paper's {BEST}", theirs, plotted, paper_fit))
    gaps: list[tuple[str, list[Cell | str]]] = [
        (name, [Cell(_gap(pair, name), published=model in papers) for model, pair in both.items()]) for name in PAPER_27
    ]
    sentences = [f"{name}: {fit.in_words()}" for name, fit in fits.items() if fit and name in own]
    return Shown(
        headline(sentences) or f"Zero-shot scores follow those of probes on the same features: {paper_fit.in_words()}",
        "Each point is a set; on the dashed line both scores are equal. In brackets the 95 % interval of the slope if "
        "sets are drawn again with replacement.",
        [
            NumberTable("Lines through the sets", columns, rows),
            NumberTable("The probe's lead over zero-shot, points", ["set", *both], gaps),
        ],
        charts,
        [
            "The paper states r = 0.82 and a slope of 1.28 (0.93 to 1.79). Its figures 5 and 8 show KITTI at "
            f"{kitti_as_plotted():.0f} %, table 11 prints {printed['KITTI']:.1f} %.",
            *missing_notes({model: zero_shot[model] for model in own}),
            *missing_notes({f"{model}, probe": probes[model] for model in own}),
        ],
    )


def _fit_or_none(probes: Scores, zero_shot: Scores) -> LineFit | None:
    """The line; None if fewer than three sets have both scores."""
    return probe_against_zero_shot(probes, zero_shot) if len(set(probes) & set(zero_shot)) >= 3 else None


def _gap(both: tuple[Scores, Scores], name: str) -> float | None:
    probes, zero_shot = both
    return probes[name] - zero_shot[name] if name in probes and name in zero_shot else None


def _figure_10(results: Sequence[Result]) -> Shown:
    own, paper = measured(results, "linear_probe", "features"), published("table 10")
    compute, paper_compute, printed = measured_gflops(results), paper_gflops(), published("figure 4")
    charts = []
    for label in ("mean of 12", "mean of 27"):
        sets = SUITES[label]
        means = {model: mean(percents(model_results), sets) for model, model_results in own.items()}
        series = compute_series({row: mean(paper[row], sets) for row in paper_compute if row in paper})
        series += measured_points(means, compute)
        y_label = f"linear probe, {label} sets, %"
        charts.append(Chart(label, _COMPUTE, y_label, series, 10, y_from_zero=False))
    rows: list[tuple[str, list[Cell | str]]] = [
        (
            model,
            [
                Cell(compute.get(model), digits=2),
                *(Cell(mean(percents(model_results), SUITES[label])) for label in _MEANS),
            ],
        )
        for model, model_results in own.items()
    ]
    rows += [
        (
            row,
            [
                Cell(value, published=row in printed, digits=2),
                *(published_cell(mean(paper[row], SUITES[label])) for label in _MEANS),
            ],
        )
        for row, value in paper_compute.items()
        if row in paper
    ]
    return Shown(
        "Linear probes against compute: at equal compute CLIP's Vision Transformers lead",
        "Means over the suite of 12 sets and over all 27. A measured model is drawn where no set of a mean is missing.",
        [NumberTable("Compute and mean scores, %", ["model", "GFLOPs", *_MEANS], rows)],
        charts,
        [SOURCES + " Families of table 10 for which the paper gives none are left out.", *missing_notes(own)],
    )


_MEANS = ("mean of 12", "mean of 27")


def _figure_12(results: Sequence[Result]) -> Shown:
    own = measured(results, "linear_probe", "features")
    paper, mine = published("table 10"), {model: percents(model_results) for model, model_results in own.items()}
    lines = {label: _line_of_others(paper, SUITES[label]) for label in _TRANSFER}
    charts = []
    for label in _TRANSFER:
        sets = SUITES[label]
        series = family_series({row: (cells["ImageNet"], mean(cells, sets)) for row, cells in paper.items()})
        points = [
            (model, *point) for model, cells in mine.items() if (point := _transfer_point(cells, sets)) is not None
        ]
        if points:
            models, across, up = zip(*points, strict=True)
            series.append(Series("measured", across, up, colour=MEASURED, form="markers", names=models))
        x_label, y_label = "linear probe on ImageNet, %", f"{label} sets, %"
        axes = {"x_from_zero": False, "y_from_zero": False, "diagonal": True}
        charts.append(Chart(f"Transfer: {label}", x_label, y_label, series, **axes))  # type: ignore[arg-type]
    rows = [(model, _transfer_cells(cells, lines, of_paper=False)) for model, cells in mine.items()]
    rows += [(row, _transfer_cells(cells, lines, of_paper=True)) for row, cells in paper.items()]
    leads = [_height_above_line(cells, SUITES["mean of 26"], lines["mean of 26"]) or 0.0 for cells in _clip(paper)]
    columns = ["model", "ImageNet", *(name for label in _TRANSFER for name in (label, "above the line"))]
    return Shown(
        f"At equal scores on ImageNet CLIP's models score {sum(leads) / len(leads):.1f} points more on 26 other sets",
        "Each point is a model of table 10: the mean over sets against the score on ImageNet. The lead is the mean "
        "height of CLIP's models above the line through all others.",
        [NumberTable("Transfer, %, and points above the line through models other than CLIP", columns, rows)],
        charts,
        ["The 26 sets are those of table 10 without ImageNet.", *missing_notes(own)],
    )


_TRANSFER = ("mean of 12", "mean of 26")


def _clip(paper: Mapping[str, Scores]) -> list[Scores]:
    return [cells for row, cells in paper.items() if row.startswith("CLIP")]


def _line_of_others(paper: Mapping[str, Scores], sets: Sequence[str]) -> LineFit:
    """A line fitted to means over sets against ImageNet scores, of all models of table 10 except CLIP's."""
    points = [_transfer_point(cells, sets) for row, cells in paper.items() if not row.startswith("CLIP")]
    return fit_line(*zip(*(point for point in points if point is not None), strict=True))


def _transfer_point(cells: Scores, sets: Sequence[str]) -> tuple[float, float] | None:
    """The score on ImageNet and the mean over sets; None if one is unknown."""
    height = mean(cells, sets)
    return (cells["ImageNet"], height) if height is not None and "ImageNet" in cells else None


def _height_above_line(cells: Scores, sets: Sequence[str], line: LineFit) -> float | None:
    point = _transfer_point(cells, sets)
    return point[1] - line(point[0]) if point is not None else None


def _transfer_cells(scores: Scores, lines: Mapping[str, LineFit], *, of_paper: bool) -> list[Cell | str]:
    values = [scores.get("ImageNet")]
    for label, line in lines.items():
        values += [mean(scores, SUITES[label]), _height_above_line(scores, SUITES[label], line)]
    return [Cell(value, published=of_paper) for value in values]


def _figure_20(results: Sequence[Result]) -> Shown:
    own, paper = measured(results, "linear_probe", "features"), published("table 10")
    paper_rows = {row: paper[row] for row in paper_gflops() if row in paper}
    charts = set_charts(
        "linear probe, %", paper_rows, {m: percents(r) for m, r in own.items()}, measured_gflops(results)
    )
    return Shown(
        "Linear probes against compute, set by set",
        f"{_COMPUTE}, on a logarithmic axis; first the mean over the 27 sets.",
        charts=charts,
        notes=[SOURCES, *missing_notes(own)],
    )


_PROBES = (("linear_probe", PAPER_27),)
FIGURE_8 = Exhibit(
    "figure8",
    "Zero-shot scores against linear probes on the same features, with a line and its interval.",
    (("zero_shot", PAPER_27), ("linear_probe", PAPER_27)),
    _figure_8,
)
FIGURE_10 = Exhibit("figure10", "Mean linear probe scores against compute.", _PROBES, _figure_10)
FIGURE_12 = Exhibit("figure12", "Transfer scores against ImageNet scores of linear probes.", _PROBES, _figure_12)
FIGURE_20 = Exhibit("figure20", "Linear probe scores against compute, per set.", _PROBES, _figure_20)
