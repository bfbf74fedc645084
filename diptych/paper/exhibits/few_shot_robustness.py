"""Figure 15: few-shot classifiers of ImageNet under its natural shifts.

Source: CLIP paper, section 3.3.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from diptych.evaluate.metrics.logit_line import LogitLine, fit_logit_line, has_logit
from diptych.evaluate.probe.few_shot import CLASSIFIERS
from diptych.evaluate.tasks.testbed import SHIFT_NAMES, standard_line
from diptych.paper.exhibit import Exhibit
from diptych.paper.exhibits.few_shot_scores import FULL, PROBE, robustness_points
from diptych.paper.exhibits.robustness_scores import ADAPTED, STATIC, measured_scores
from diptych.paper.numbers.measured import headline
from diptych.records import Result, kind_of
from diptych.report.curves import Chart, Series
from diptych.report.display import points as signed
from diptych.report.paper_numbers import LAST_DIGIT, published
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

_Row = tuple[str, list[Cell | str]]
_SHIFTS = ("ImageNet", *SHIFT_NAMES)


def _figure_15(results: Sequence[Result]) -> Shown:
    paper = {
        name.rpartition(" ")[2]: (cells["subsampled ImageNet"], cells["seven shifts"])
        for name, cells in published("figure 15").items()
    }
    series, rows, line = [_standard_series()], [], standard_line()
    sentences, left_out = [], []
    measured = robustness_points(results)
    scores = measured_scores(results)
    models = list(dict.fromkeys(model for model, _ in measured))
    for place, model in enumerate(models):
        full_scores = {"0": scores.get((model, STATIC)), FULL: scores.get((model, ADAPTED))}
        coordinates = {shots: (result.x, result.y) for shots, result in full_scores.items() if result is not None}
        for classifier in (name for name in CLASSIFIERS if (model, name) in measured):
            own = dict(measured[model, classifier])
            if classifier == PROBE:
                own |= {shots: (x, y) for shots, (x, y) in coordinates.items() if x is not None and y is not None}
                sentences += _cost_of_learning(model, own)
            label = f"{model}, {classifier}"
            series += _robustness_series(label, own, 1 + place % 4)
            rows += [_robustness_row(label, shots, *point, line, False) for shots, point in own.items()]
            left_out += [f"{label} at {shots}" for shots in _without_logit(own)]
    series += _robustness_series("CLIP, the paper's", paper, 0)
    rows += [_robustness_row("CLIP, the paper's", shots, *point, line, True) for shots, point in paper.items()]
    chart = Chart(
        "Few-shot robustness",
        "mean over the matching parts of ImageNet, %",
        "mean over seven natural shifts, %",
        series,
        logit=True,
        diagonal=True,
        legend="bottom right",
    )
    columns = ["classifier", "examples per class", "on ImageNet", "under shift", "above standard models"]
    return Shown(
        headline(sentences) or _cost_of_learning("The paper's CLIP", paper)[0],
        "Classifiers of ImageNet learned from few of its examples, on ImageNet and on its natural shifts. On the "
        "dashed diagonal a shift would cost nothing.",
        [NumberTable("On ImageNet and under shift, % and points", columns, rows)],
        [chart],
        [
            f"Zero-shot at 0 examples is the static classifier of ImageNet's 1,000 classes. {LAST_DIGIT}",
            *_left_out_note(left_out),
            *_few_shot_missing(results, models),
        ],
    )


def _cost_of_learning(model: str, points: Mapping[str, tuple[float, float]]) -> list[str]:
    """A sentence that compares 16 examples per class with zero-shot, if both are known."""
    if "16" not in points or "0" not in points:
        return []
    (x, y), (zero_x, zero_y) = points["16"], points["0"]
    return [
        f"{model}: 16 shots change accuracy on ImageNet by {signed((x - zero_x) / 100)} points over zero-shot's and by "
        f"{signed((y - zero_y) / 100)} under shift"
    ]


def _standard_series() -> Series:
    x = np.linspace(62, 96, 60)
    return Series("standard models, fit", x.tolist(), (100 * standard_line()(x / 100)).tolist(), colour=4, form="line")


def _robustness_series(label: str, points: Mapping[str, tuple[float, float]], colour: int) -> list[Series]:
    """Series of one classifier: few-shot points named by their number of examples, their fit, and zero-shot."""
    few = {shots: point for shots, point in points.items() if shots != "0"}
    x, y = [x for x, _ in few.values()], [y for _, y in few.values()]
    series = [Series(f"{label}, few-shot", x, y, colour=colour, form="points", names=list(few))] if few else []
    fitted = [own_x for shots, (own_x, _) in few.items() if shots not in _without_logit(few)]
    if len(set(fitted)) > 2:
        line, ends = fit_logit_line(np.array(x) / 100, np.array(y) / 100), np.linspace(min(fitted), max(fitted), 40)
        series.append(Series("", ends.tolist(), (100 * line(ends / 100)).tolist(), colour=colour, form="thin"))
    if "0" in points:
        zero_shot = points["0"]
        name = f"{label}, zero-shot"
        series.append(Series(name, [zero_shot[0]], [zero_shot[1]], colour=colour, form="markers", names=["zero-shot"]))
    return series


def _without_logit(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The examples per class of points with an accuracy of exactly 0 or 100 %."""
    return [shots for shots, point in points.items() if not has_logit(np.array(point) / 100).all()]


def _left_out_note(points: Sequence[str]) -> list[str]:
    if not points:
        return []
    named = "; ".join(points)
    return [f"Exactly 0 % or 100 % has no logit, so chart and lines lack (examples per class): {named}."]


def _robustness_row(label: str, shots: str, x: float, y: float, line: LogitLine, of_paper: bool) -> _Row:
    name = "zero-shot" if shots == "0" else shots
    above = y - 100 * float(line(x / 100)) if 0 < x < 100 else None
    return label, [name, Cell(x, published=of_paper), Cell(y, published=of_paper), Cell(above)]


def _few_shot_missing(results: Sequence[Result], models: Sequence[str]) -> list[str]:
    """Notes on models with few-shot Results of ImageNet or a shift that lack one of these sets."""
    notes = []
    needed_sets = ("ImageNet", *SHIFT_NAMES)
    by_model: dict[str, set[str]] = {}
    for result in results:
        if kind_of(result) == "few_shot" and result.dataset in needed_sets:
            by_model.setdefault(result.model, set()).add(result.dataset)
    for model, measured_sets in by_model.items():
        if model not in models:
            missing = [name for name in needed_sets if name not in measured_sets] or ["pm-10 of a video set"]
            notes.append(f"{model}: not measured: {', '.join(missing)}; no mean is shown over fewer sets.")
    return notes


FIGURE_15 = Exhibit(
    "figure15",
    "Few-shot classifiers of ImageNet under its natural shifts.",
    (("few_shot", _SHIFTS), ("zero_shot", ("ImageNet",)), ("robustness", _SHIFTS), ("imagenet_probe", _SHIFTS)),
    _figure_15,
)
