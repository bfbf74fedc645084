"""Figures 6 and 7: few-shot probes compared with zero-shot, and the number of examples equivalent to zero-shot.

Source: CLIP paper, section 3.1.5.
"""

from collections.abc import Mapping, Sequence

from diptych.evalsets.cards import CARDS
from diptych.evaluate.probe.data_efficiency import Needed, examples_to_match, summarise_needed
from diptych.evaluate.probe.few_shot import CLASSIFIERS, SHOTS
from diptych.paper.exhibit import Exhibit
from diptych.paper.exhibits.few_shot_scores import PROBE, Curve, curves, mean_over_sets
from diptych.paper.numbers.chance import chance_notes
from diptych.paper.numbers.measured import PAPER_27, headline, learning_notes, measured_cell, published_cell
from diptych.records import Result
from diptych.report.bars import BarChart
from diptych.report.curves import Chart, Series
from diptych.report.display import counted
from diptych.report.paper_numbers import LAST_DIGIT, published
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

PAPER_SHOTS = (1, 2, 4, 8, 16)
"""Examples per class in figure 6."""

_LINE_FORMS = dict(zip(CLASSIFIERS, ("points", "line", "thin"), strict=True))
_SMALLEST = 0.1  # examples per class; extrapolated counts below this are shown as this, to limit the axis
_DRAWS = (
    "Few-shot values are means over draws of the training set, with their range; the paper does not say how it drew."
)

_NO_NUMBER = "so a number of examples would say nothing; these sets are in neither mean nor median."

_Row = tuple[str, list[Cell | str]]
_ByModel = Mapping[str, Mapping[str, Curve]]

# ------------------------------------------------------------------ figure 6


def _figure_6(results: Sequence[Result]) -> Shown:
    paper, curves_by_model = published("figure 6"), curves(results)
    complete = {
        model: [name for name, curve in own.items() if _reaches_16(curve)] for model, own in curves_by_model.items()
    }
    complete = {model: names for model, names in complete.items() if names}
    sets = [name for name in next(iter(complete.values()), ()) if all(name in names for names in complete.values())]
    series, rows, sentences = [], [], []
    guessed: dict[str, list[str]] = {}
    for index, model in enumerate(complete if sets else ()):
        new_series = _mean_series(model, [curves_by_model[model][name] for name in sets], index % 5)
        series += new_series
        rows += [_mean_row(curve) for curve in new_series]
        guessed[model] = [name for name in sets if curves_by_model[model][name].is_at_chance]
        sentences.append(_equal_shots(model, new_series[0].y[0], new_series[1], len(guessed[model]), len(sets)))
    for index, (name, cells) in enumerate(paper.items()):
        x, y = [float(column) for column in cells], list(cells.values())
        form = "markers" if len(x) == 1 else "dashed"
        series.append(Series(f"{name}, the paper's", x, y, colour=min(4, 5 - index), form=form))
        shown: list[Cell | str] = [published_cell(cells.get(str(shots))) for shots in (0, *PAPER_SHOTS)]
        rows.append((f"{name}, the paper's", shown))
    own = paper["linear probe CLIP"]
    equal_shots = examples_to_match(list(map(int, own)), list(own.values()), paper["zero-shot CLIP"]["0"])
    title = (
        headline(sentences) or f"The paper's zero-shot CLIP equals a {equal_shots:.0f}-shot probe on its own features"
    )
    columns = ["classifier", "zero-shot", *(f"{shots}-shot" for shots in PAPER_SHOTS)]
    about = f"over {counted(len(sets), 'set')} ({', '.join(sets)})" if sets else "over the paper's 20 sets"
    about_paper = " The paper's curves are means over its 20 sets." if sets else ""
    chart = Chart("Few-shot probes", "labelled examples per class", "mean score, %", series, legend="bottom right")
    left_out = [
        f"{model}: no set has zero-shot and all of 1 to 16 shots." for model in curves_by_model if model not in complete
    ]
    if complete and not sets:
        left_out.append("The models share no set with zero-shot and all of 1 to 16 shots, so no mean is shown.")
    return Shown(
        title,
        f"Mean score {about} against labelled examples per class; zero-shot stands at 0.{about_paper}",
        [
            NumberTable("Mean scores, %", columns, rows),
            *(_set_table(model, own) for model, own in curves_by_model.items()),
        ],
        [chart],
        [
            f"The paper takes the 20 sets with at least 16 examples per class, and does not name them. {LAST_DIGIT}",
            *([_DRAWS] if sets else []),
            *chance_notes(guessed, "and these sets are in the mean."),
            *left_out,
        ],
    )


def _reaches_16(curve: Curve) -> bool:
    return curve.zero_shot is not None and all(shots in curve.shots.get(PROBE, {}) for shots in PAPER_SHOTS)


def _mean_series(model: str, own: Sequence[Curve], colour: int) -> list[Series]:
    """Zero-shot at 0, then each classifier that was measured on all sets."""
    zero_shot = mean_over_sets([curve.zero_shot for curve in own if curve.zero_shot is not None])
    series = [Series(f"{model}, zero-shot", [0], [zero_shot.value], colour=colour, form="markers")]
    for classifier in CLASSIFIERS:
        if all(shots in curve.shots.get(classifier, {}) for curve in own for shots in PAPER_SHOTS):
            means = [mean_over_sets([curve.shots[classifier][shots] for curve in own]) for shots in PAPER_SHOTS]
            low = [mean.low for mean in means if mean.low is not None]
            high = [mean.high for mean in means if mean.high is not None]
            label, y, form = f"{model}, {classifier}", [mean.value for mean in means], _LINE_FORMS[classifier]
            bounds = (low, high) if len(low) == len(high) == len(means) else (None, None)
            series.append(Series(label, PAPER_SHOTS, y, bounds[0], bounds[1], colour, form))
    return series


def _mean_row(series: Series) -> _Row:
    unknown = [None] * len(series.x)
    columns = zip(series.x, series.y, series.low or unknown, series.high or unknown, strict=True)
    cells = {x: Cell(y, low, high) for x, y, low, high in columns}
    return series.label, [cells.get(shots, Cell(None)) for shots in (0, *PAPER_SHOTS)]


def _equal_shots(model: str, zero_shot: float, probe: Series, num_guessed: int, num_sets: int) -> str:
    if num_guessed == num_sets:
        sets = "the one set" if num_sets == 1 else f"all {num_sets} sets"
        return f"{model}: zero-shot is at chance on {sets}, so no number of examples equals it"
    at_chance = f"; it is at chance on {num_guessed} of {num_sets} sets" if num_guessed else ""
    count = examples_to_match(probe.x, probe.y, zero_shot)
    shots = "a probe of more than 16 shots" if count is None else f"a probe of {count:.1f} shots"
    if count is not None and count < 1:
        return f"{model}: zero-shot is below a probe of one shot on its own features{at_chance}"
    return f"{model}: zero-shot equals {shots} on its own features{at_chance}"


def _set_table(model: str, own: Mapping[str, Curve]) -> NumberTable:
    """A table of the probe's scores per set."""
    measured_shots = [shots for shots in SHOTS if any(shots in curve.shots.get(PROBE, {}) for curve in own.values())]
    rows: list[_Row] = []
    for name, curve in own.items():
        probe = curve.shots.get(PROBE, {})
        cells = [
            measured_cell(result)
            for result in (curve.zero_shot, *(probe.get(shots) for shots in measured_shots), curve.full)
        ]
        rows.append((name, list(cells)))
    columns = ["set", "zero-shot", *(f"{shots}-shot" for shots in measured_shots), "full"]
    return NumberTable(f"{model}: the probe set by set, %", columns, rows)


# ------------------------------------------------------------------ figure 7


def _figure_7(results: Sequence[Result]) -> Shown:
    paper, all_curves = published("figure 7")["examples per class"], curves(results)
    own = _matched(all_curves)
    needed = {
        model: {name: curve.needed() for name, curve in sets.items() if not curve.is_at_chance}
        for model, sets in own.items()
    }
    guessed = {model: [name for name, curve in sets.items() if curve.is_at_chance] for model, sets in own.items()}
    names = list(dict.fromkeys([*(name for sets in own.values() for name in sets), *paper]))
    charts = [
        BarChart(
            f"{model}: examples per class to match zero-shot",
            "labelled examples per class",
            [(name, _on_axis(counts.get(name))) for name in names],
            [paper.get(name) for name in names],
            log=True,
            remarks=dict.fromkeys(guessed[model], "at chance"),
        )
        for model, counts in needed.items()
    ]
    if not charts:
        title = "The paper's CLIP: examples per class to match zero-shot"
        charts = [BarChart(title, "labelled examples per class", list(paper.items()), log=True)]
    paper_summary, summaries = (
        summarise_needed(paper.values()),
        {m: summarise_needed(f.values()) for m, f in needed.items()},
    )
    rows: list[_Row] = [
        (name, [*(_needed_cell(sets.get(name)) for sets in own.values()), published_cell(paper.get(name))])
        for name in names
    ]
    rows.append(
        (
            "mean",
            [
                *(_summary_cell(summary, summary.mean) for summary in summaries.values()),
                published_cell(paper_summary.mean),
            ],
        )
    )
    medians = [_summary_cell(summary, summary.median) for summary in summaries.values()]
    rows.append(("median", [*medians, published_cell(paper_summary.median)]))
    title_measured = headline(
        _equivalent_examples(model, summary, len(guessed[model])) for model, summary in summaries.items()
    )
    return Shown(
        title_measured or _equivalent_examples("The paper's CLIP", paper_summary),
        "The labelled examples per class with which a probe on the same features reaches the zero-shot score. Scores "
        "are interpolated linearly in the logarithm of the examples, up to the full training set."
        + (" Diamonds are the paper's." if own else ""),
        [NumberTable("Examples per class to match zero-shot", ["set", *own, "the paper's"], rows)],
        charts,
        [
            *chance_notes(guessed, _NO_NUMBER),
            *_efficiency_notes(needed),
            *_unmatched(all_curves),
            *_pool_notes(all_curves),
            *([_DRAWS] if own else []),
        ],
    )


def _matched(curves_by_model: _ByModel) -> dict[str, dict[str, Curve]]:
    matched = {
        model: {name: curve for name, curve in own.items() if curve.can_be_matched}
        for model, own in curves_by_model.items()
    }
    return {model: own for model, own in matched.items() if own}


def _pool_notes(curves_by_model: _ByModel) -> list[str]:
    """Notes on sets whose examples were drawn from another number of images than the paper's training set has."""
    notes = []
    for model, own in curves_by_model.items():
        probes = {name: curve.full for name, curve in own.items() if curve.full is not None}
        draws = {name: next(iter(next(iter(curve.shots.values())).values())) for name, curve in own.items()}
        notes += learning_notes(f"{model}, few-shot draws", draws) + learning_notes(f"{model}, full set", probes)
    return notes


def _unmatched(curves_by_model: _ByModel) -> list[str]:
    notes = []
    for model, own in curves_by_model.items():
        if names := [name for name, curve in own.items() if not curve.can_be_matched]:
            notes.append(f"{model}: zero-shot or the probe on the full training set is missing for {', '.join(names)}.")
    return notes


def _on_axis(count: float | None) -> float | None:
    return None if count is None else max(count, _SMALLEST)


def _needed_cell(curve: Curve | None) -> Cell | str:
    if curve is None:
        return Cell(None)
    if curve.is_at_chance:
        return "at chance"
    count = curve.needed()
    if count is None:
        return f"more than {curve.full_examples:.0f}"
    return f"less than {_SMALLEST}" if count < _SMALLEST else Cell(count)


def _summary_cell(needed: Needed, value: float | None) -> Cell | str:
    return "more than the full set" if value is None and needed.num else Cell(value)


def _equivalent_examples(model: str, needed: Needed, num_guessed: int = 0) -> str:
    """A sentence with the number of examples that is equivalent to zero-shot."""
    if num_guessed and not needed.num:
        return f"{model}: zero-shot is at chance on {counted(num_guessed, 'set')}, so no number of examples equals it"
    if needed.num == 1 and needed.median is not None:
        sentence = f"{model}: zero-shot is worth {needed.median:.1f} examples per class on 1 set"
        return sentence + (f"; at chance on {num_guessed} more" if num_guessed else "")
    median = "more than the full set" if needed.median is None else f"{needed.median:.1f} examples per class"
    mean = "" if needed.mean is None or needed.num_never else f", {needed.mean:.1f} on the mean"
    return f"{model}: zero-shot is worth {median} on the median of {counted(needed.num, 'set')}{mean}" + (
        f"; at chance on {num_guessed} more" if num_guessed else ""
    )


def _efficiency_notes(needed: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    notes = [
        "Where one example per class is enough, the curve is prolonged below 1 with the slope of its first two points, "
        f"and shown down to {_SMALLEST}. The paper prints 0.9 for two sets, and does not say how it got there."
    ]
    for model, counts in needed.items():
        if never := [name for name, count in counts.items() if count is None]:
            notes.append(
                f"{model}: the probe on the full training set stays below zero-shot on {', '.join(never)}; these count "
                "as more than all others in the median, and not in the mean."
            )
    return notes


_FEW_SHOT_SETS = tuple(name for name in PAPER_27 if CARDS[name].task in ("classification", "video"))
_CURVES = (("few_shot", _FEW_SHOT_SETS), ("zero_shot", _FEW_SHOT_SETS), ("linear_probe", _FEW_SHOT_SETS))

FIGURE_6 = Exhibit(
    "figure6",
    "Zero-shot compared with few-shot probes, as means over sets.",
    (*_CURVES[:2], ("few_shot_from_texts", _FEW_SHOT_SETS)),
    _figure_6,
)
FIGURE_7 = Exhibit("figure7", "Examples per class that are equivalent to zero-shot, per set.", _CURVES, _figure_7)
