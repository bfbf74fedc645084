"""Figures 4, 9 and 22: zero-shot scores against compute: the gain of prompts, the power law of errors, single sets.

Source: CLIP paper, sections 3.1.4 and 3.1.5, figures 4, 9 and 22. Its 36 sets of figures 4 and 9 are not listed.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from diptych.evaluate.metrics.comparison import bootstrap
from diptych.paper.exhibit import Exhibit
from diptych.paper.exhibits.prompt_gains import gain_charts, gain_notes, prompt_gains
from diptych.paper.numbers.compute import SOURCES, measured_gflops, paper_gflops
from diptych.paper.numbers.line_fit import FEWEST
from diptych.paper.numbers.measured import (
    PAPER_27,
    common_mean,
    headline,
    measured,
    missing_notes,
    percents,
    published_cell,
)
from diptych.paper.numbers.model_series import MEASURED, set_charts
from diptych.paper.training.image_efficiency import images_needed
from diptych.paper.training.power_law import PowerLaw, fit_power_law
from diptych.records import Result
from diptych.report.curves import Chart, Series
from diptych.report.display import counted, points
from diptych.report.paper_numbers import READ_OFF, published
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

_COMPUTE = "GFLOPs of the image tower, per picture"
_PROTOCOLS = {"class names": "names", "one template": "single", "prompts and ensembles": "ensemble"}


def compute_for_prompts(gflops: Sequence[float], bare: Sequence[float], ensemble: Sequence[float]) -> float:
    """The factor of compute that class names alone would need to reach the scores of prompts and ensembles.

    It is the geometric mean over the models whose prompt score is reached with names alone. Between models, scores are
    interpolated linearly in the logarithm of compute.

    Args:
        gflops: compute of the models, increasing.
        bare, ensemble: scores of the same models.
    """
    factors = [
        needed[0] / own
        for own, score in zip(gflops, ensemble, strict=True)
        if (needed := images_needed(gflops, bare, score)) is not None and not needed[1]
    ]
    return float(np.exp(np.mean(np.log(factors)))) if factors else float("nan")


def prompt_study(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """By model: the number of sets measured with names alone and with ensembles, and mean scores in percent."""
    results_by_label = {label: measured(results, "zero_shot", protocol) for label, protocol in _PROTOCOLS.items()}
    bare, ensemble = results_by_label["class names"], results_by_label["prompts and ensembles"]
    study = {}
    for model in bare:
        sets = [name for name in PAPER_27 if name in bare[model] and name in ensemble.get(model, {})]
        if sets:
            scores = {label: percents(by_model.get(model, {})) for label, by_model in results_by_label.items()}
            means = {label: common_mean(own, sets) for label, own in scores.items() if set(sets) <= set(own)}
            study[model] = {"sets": float(len(sets)), **means}
    return study


def _mean_gain(means: Mapping[str, float], gains: Sequence[float]) -> Cell:
    """The mean gain of prompts and ensembles over sets, with the interval of a bootstrap over sets."""
    low = high = None
    if len(gains) >= FEWEST:
        low, high = bootstrap(lambda rows: float(np.take(gains, rows).mean()), len(gains))
    return Cell(means[_ENSEMBLE] - means["class names"], low, high)


def _gain_table(results: Sequence[Result], study: Mapping[str, Mapping[str, float]]) -> NumberTable:
    """Mean scores by protocol and the gain of prompts and ensembles, with the paper's rows below."""
    compute = measured_gflops(results)
    columns = ["model", "GFLOPs", "sets", *_PROTOCOLS, "gain"]
    by_set = prompt_gains(results)
    gains = {model: [100 * gain.value for gain in by_set[model].values()] for model in study}
    rows: list[tuple[str, list[Cell | str]]] = [
        (
            model,
            [
                Cell(compute.get(model), digits=2),
                f"{means['sets']:.0f}",
                *(Cell(means.get(label)) for label in _PROTOCOLS),
                _mean_gain(means, gains[model]),
            ],
        )
        for model, means in study.items()
    ]
    rows += [
        (
            row,
            [
                published_cell(cells["GFLOPs"], digits=2),
                "36",
                *(published_cell(cells.get(label)) for label in _PROTOCOLS),
                published_cell(cells[_ENSEMBLE] - cells["class names"]),
            ],
        )
        for row, cells in published("figure 4").items()
    ]
    return NumberTable("Mean zero-shot scores, %", columns, rows)


def _figure_4(results: Sequence[Result]) -> Shown:
    paper, study, compute = published("figure 4"), prompt_study(results), measured_gflops(results)
    x, bare, ensemble = ([cells[name] for cells in paper.values()] for name in ("GFLOPs", "class names", _ENSEMBLE))
    gain = sum(ensemble) / len(ensemble) - sum(bare) / len(bare)
    names = [row.removeprefix("CLIP ") for row in paper]
    series = [
        Series(f"the paper, {_ENSEMBLE}", x, ensemble, colour=0, names=names),
        Series("the paper, class names", x, bare, colour=4),
    ]
    with_compute = {model: means for model, means in study.items() if model in compute}
    for label, form, colour in ((_ENSEMBLE, "markers", MEASURED), ("class names", "markers", 3)):
        coordinates = [(compute[model], means[label], model) for model, means in with_compute.items()]
        if coordinates:
            across, up, models = zip(*coordinates, strict=True)
            series.append(Series(f"measured, {label}", across, up, colour=colour, form=form, names=models))
    measured_title = headline(
        f"{model}: prompts and ensembles bring {points((means[_ENSEMBLE] - means['class names']) / 100)} points over "
        f"{counted(int(means['sets']), 'set')}"
        for model, means in study.items()
    )
    factor = compute_for_prompts(x, bare, ensemble)
    return Shown(
        measured_title or f"Prompts and ensembles bring {gain:.1f} points, as much as {factor:.1f} times the compute",
        f"Mean zero-shot scores against compute. In the paper prompts and ensembles bring {gain:.1f} points, as much "
        f"as {factor:.1f} times the compute would with class names alone.",
        [_gain_table(results, study)],
        [Chart("What prompts add", _COMPUTE, "mean score, %", series, 10, y_from_zero=False, legend="bottom right")],
        [
            f"The paper's scores are {READ_OFF}; its 36 sets are not listed. Measured means are over those of the 27 "
            "that were measured both ways: compare gains, not heights, with the paper's.",
            *([_GAIN_NOTE] if study else []),
            SOURCES,
        ],
    )


_ENSEMBLE = "prompts and ensembles"
_GAIN_NOTE = (
    f"The interval of a mean gain is a 99.5 % bootstrap over the sets: another choice of such sets would give a mean "
    f"inside. Fewer than {FEWEST} sets give none. The paper's gains by set are not published, so its means have none."
)


def _figure_4_set_by_set(results: Sequence[Result], predictions: Path, data: Path | None) -> Shown | None:
    """Figure 4 with the gains per set, whose intervals are computed from predictions."""
    gains = prompt_gains(results, predictions)
    shown = _figure_4(results)
    charts, notes = [*shown.charts, *gain_charts(gains)], [*gain_notes(gains), *shown.notes]
    return dataclasses.replace(shown, charts=charts, notes=notes) if gains else None


def paper_law() -> PowerLaw:
    """The power law of figure 9, fitted to the paper's own points."""
    points = published("figure 9").values()
    return fit_power_law([cells["GFLOPs"] for cells in points], [cells[_ERROR] for cells in points])


_ERROR = "error"


def _law_series(law: PowerLaw, compute: Sequence[float], colour: int) -> Series:
    places = np.geomspace(min(compute), max(compute), 33).tolist()
    low, high = zip(*(law.band(place) for place in places), strict=True)
    return Series(law.in_words(), places, [law(x) for x in places], low, high, colour, "line", band=True)


def _figure_9(results: Sequence[Result]) -> Shown:
    paper, law, compute = published("figure 9"), paper_law(), measured_gflops(results)
    x, errors = ([cells[name] for cells in paper.values()] for name in ("GFLOPs", _ERROR))
    names = [row.removeprefix("CLIP ") for row in paper]
    series = [Series("the paper", x, errors, colour=0, form="markers", names=names), _law_series(law, x, 0)]
    results_by_model = measured(results, "zero_shot", "ensemble")
    sets = [
        name for name in PAPER_27 if results_by_model and all(name in by_set for by_set in results_by_model.values())
    ]
    own = {m: 100 - common_mean(percents(r), sets) for m, r in results_by_model.items() if sets}
    errors_drawn = {model: error for model, error in own.items() if model in compute}
    measured_title = ""
    if errors_drawn:
        across = [compute[model] for model in errors_drawn]
        series.append(
            Series(
                "measured",
                across,
                list(errors_drawn.values()),
                colour=MEASURED,
                form="markers",
                names=list(errors_drawn),
            )
        )
        if len(set(across)) > 2:
            own_law = fit_power_law(across, list(errors_drawn.values()))
            series.append(_law_series(own_law, across, MEASURED))
            measured_title = f"Measured: {own_law.in_words()}"
    rows: list[tuple[str, list[Cell | str]]] = [
        (model, [Cell(compute.get(model), digits=2), Cell(error)]) for model, error in own.items()
    ]
    rows += [
        (row, [published_cell(cells["GFLOPs"], digits=2), published_cell(cells[_ERROR])])
        for row, cells in paper.items()
    ]
    axes = {"x_base": 10, "y_base": 10, "legend": "bottom left"}
    return Shown(
        measured_title or f"The paper's points: {law.in_words()}",
        "Mean zero-shot error against compute, both axes logarithmic; in brackets the 95 % interval of the exponent.",
        [NumberTable("Compute and mean error, %", ["model", "GFLOPs", "error"], rows)],
        [Chart("Zero-shot error against compute", _COMPUTE, "error, %", series, **axes)],  # type: ignore[arg-type]
        [
            f"The paper's errors, over 39 evaluations on 36 sets that it does not list, are {READ_OFF}.",
            *([f"Measured errors are means over {', '.join(sets)}, which all models share."] if sets else []),
            "The line is fitted by least squares to the logarithms; its band is the 95 % interval of the fitted line.",
            SOURCES,
        ],
    )


def _figure_22(results: Sequence[Result]) -> Shown:
    own, probes = measured(results, "zero_shot", "ensemble"), published("table 10")
    scores_by_row: Mapping[str, Mapping[str, float]] = {
        **published("table 11"),
        **{row: probes[row] for row in paper_gflops() if row.startswith("ResNet-")},
    }
    charts = set_charts(
        "%",
        scores_by_row,
        {model: percents(model_results) for model, model_results in own.items()},
        measured_gflops(results),
    )
    return Shown(
        "Zero-shot scores against compute, set by set, beside linear probes on ResNets",
        f"{_COMPUTE}, on a logarithmic axis; first the mean over the 27 sets. Of CLIP and of measured models zero-shot "
        "scores, of ResNet-50, 101 and 152 linear probes.",
        charts=charts,
        notes=[SOURCES, *missing_notes(own)],
    )


_ZERO_SHOT = (("zero_shot", PAPER_27),)
FIGURE_4 = Exhibit(
    "figure4",
    "The gain of prompts and ensembles over class names, against compute.",
    _ZERO_SHOT,
    _figure_4,
    look=_figure_4_set_by_set,
)
FIGURE_9_PAPER = Exhibit(
    "figure9-paper", "The power law of zero-shot errors, from the paper's own points.", _ZERO_SHOT, _figure_9
)
FIGURE_22 = Exhibit("figure22", "Zero-shot scores against compute, per set.", _ZERO_SHOT, _figure_22)
