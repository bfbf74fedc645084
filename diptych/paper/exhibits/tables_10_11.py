"""Table 10, linear probes of 66 models on 27 sets, and table 11, zero-shot classification with 9 models on these sets.

Source: CLIP paper, appendix A.3 and A.4, tables 9 to 11.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from diptych.evaluate.class_coverage import classes_in_words
from diptych.evaluate.metrics.comparison import as_good_as_best
from diptych.paper.exhibit import Exhibit
from diptych.paper.numbers.measured import (
    PAPER_27,
    SUITES,
    compared,
    headline,
    is_trained_as_the_paper,
    mean,
    measured,
    measured_cell,
    missing_notes,
    nearest_row,
    num_test,
    percents,
    published_cell,
)
from diptych.records import Result
from diptych.report.paper_numbers import published
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

_FEWEST_SAMPLES = 0.9  # share of the paper's test samples; a score on fewer does not affect which scores are bold
UNLIKE_PRINT = {
    "MNIST": (
        "CLIP RN50x16",
        "CLIP RN50x64",
        "EfficientNet Noisy Student L2-475",
        "BiT-S R152x4",
    ),
    "EuroSAT": ("BiT-M R101x1", "BYOL 50x1"),
    "Caltech101": ("Instagram 32x48d",),
    "STL10": ("ViT B/16",),
}
"""Rows of the paper's table 10, by set, whose bold print differs from the rule applied to the printed numbers.

The paper applied the rule before rounding to 0.1."""
_RIVAL = "EfficientNet Noisy Student L2-800"

Measured = Mapping[str, Mapping[str, Result]]


def bold_cells(own: Measured, paper: Mapping[str, Mapping[str, float]]) -> set[tuple[str, str]]:
    """(row, set) of scores that are as good as the best of their column.

    Args:
        own: measured Results by model and set.
        paper: percent by row and set.
    Source: CLIP paper, appendix A.4, with the test sizes of table 9.
    """
    bold = set()
    for name in PAPER_27:
        n = num_test(name)
        column = {
            ("own", model): results[name].value for model, results in own.items() if _can_be_bold(results.get(name), n)
        }
        column |= {("paper", row): cells[name] / 100 for row, cells in paper.items() if name in cells}
        if column:
            flags = as_good_as_best(list(column.values()), n)
            bold |= {(f"{where}:{row}", name) for (where, row), flag in zip(column, flags, strict=True) if flag}
    return bold


def _can_be_bold(result: Result | None, num_test_samples: int) -> bool:
    if result is None or classes_in_words(result):
        return False
    return result.n >= _FEWEST_SAMPLES * num_test_samples and is_trained_as_the_paper(result)


def models_table(title: str, own: Measured, place: str, *, bold: bool) -> NumberTable:
    """A row per model, measured ones first; columns of means over groups of sets, then a column per set."""
    paper = published(place)
    flags = bold_cells(own, paper) if bold else set()
    rows: list[tuple[str, list[Cell | str]]] = []
    for model, results in own.items():
        cells: list[Cell | str] = [Cell(mean(percents(results), sets)) for sets in SUITES.values()]
        cells += [measured_cell(results.get(name), bold=(f"own:{model}", name) in flags) for name in PAPER_27]
        rows.append((model, cells))
    for row, scores in paper.items():
        cells = [published_cell(mean(scores, sets)) for sets in SUITES.values()]
        cells += [published_cell(scores.get(name), bold=(f"paper:{row}", name) in flags) for name in PAPER_27]
        rows.append((row, cells))
    return NumberTable(title, ["model", *SUITES, *PAPER_27], rows)


def beside_table(title: str, own: Measured, place: str) -> NumberTable:
    """A row per set; each measured model next to the paper's model of its architecture; the paper's best model last."""
    paper = published(place)
    columns: list[tuple[str, bool]] = []
    for model in own:
        columns += [(model, False), (nearest_row(model, paper), True)]
    columns = list(dict.fromkeys([*columns, (nearest_row("", paper), True)]))

    def cells(name: str) -> list[Cell | str]:
        return [
            published_cell(paper[row].get(name)) if of_paper else measured_cell(own[row].get(name))
            for row, of_paper in columns
        ]

    def means(sets: Sequence[str]) -> list[Cell | str]:
        return [
            published_cell(mean(paper[row], sets)) if of_paper else Cell(mean(percents(own[row]), sets))
            for row, of_paper in columns
        ]

    rows = [(name, cells(name)) for name in PAPER_27] + [(label, means(sets)) for label, sets in SUITES.items()]
    return NumberTable(title, ["set", *(f"{row}, paper" if of_paper else row for row, of_paper in columns)], rows)


def _table_10(results: Sequence[Result]) -> Shown:
    own = dict(measured(results, "linear_probe", "features"))
    projected = measured(results, "linear_probe", "projected")
    own |= {f"{model}, projected": model_results for model, model_results in projected.items()}
    paper = published("table 10")
    best, rival = (mean(paper[row], PAPER_27) or 0.0 for row in (nearest_row("", paper), _RIVAL))
    title = headline(compared(model, percents(model_results), "table 10") for model, model_results in own.items())
    title = title or f"Of the paper's 66 models CLIP's best leads by {best - rival:.1f} points over 27 sets"
    tables = [beside_table("Linear probes, %, beside the paper's", own, "table 10")] if own else []
    full_table = models_table("Linear probes of all models, %", own, "table 10", bold=True)
    full_table = dataclasses.replace(
        full_table, notes=[_unlike_print()]
    )  # notes of a table appear in every output format, including the terminal
    return Shown(
        title,
        "Logistic regression on frozen features, with the metric of each set: mean average precision for VOC2007, area "
        "under the ROC curve for HatefulMemes, mean of top 1 and top 5 for Kinetics700, mean per class for "
        "FGVCAircraft, OxfordPets, Caltech101 and Flowers102, accuracy for the others.",
        [*tables, full_table],
        notes=[
            *missing_notes(own),
            "A score on some of the classes alone, on fewer than nine tenths of the paper's test samples, or learned "
            "from fewer than nine tenths of its training images, has no say in which scores are bold. A mean is shown "
            "where all of its sets are there.",
        ],
    )


def _unlike_print() -> str:
    listed = "; ".join(f"{name}: {', '.join(rows)}" for name, rows in UNLIKE_PRINT.items())
    count = sum(map(len, UNLIKE_PRINT.values()))
    return (
        f"Bold follows from the printed scores, which are rounded to 0.1: {count} of the paper's cells differ from its "
        f"print, which was made before rounding ({listed})."
    )


def _table_11(results: Sequence[Result]) -> Shown:
    own = measured(results, "zero_shot", "ensemble")
    paper = published("table 11")
    title = headline(compared(model, percents(model_results), "table 11") for model, model_results in own.items())
    means = {row: mean(scores, PAPER_27) or 0.0 for row, scores in paper.items()}
    title = title or (
        f"The paper's nine models classify without examples: from {min(means.values()):.1f} to "
        f"{max(means.values()):.1f} % over 27 sets"
    )
    tables = [beside_table("Zero-shot classification, %, beside the paper's", own, "table 11")] if own else []
    return Shown(
        title,
        "Classifiers made of class names and templates alone, the templates averaged as embeddings; metrics as in "
        "table 10.",
        [*tables, models_table("Zero-shot classification, all models, %", own, "table 11", bold=False)],
        notes=missing_notes(own),
    )


TABLE_10 = Exhibit(
    "table10",
    "Linear probes on the 27 sets, compared with the paper's 66 models.",
    (("linear_probe", PAPER_27),),
    _table_10,
)
TABLE_11 = Exhibit(
    "table11",
    "Zero-shot classification on the 27 sets, compared with the paper's 9 models.",
    (("zero_shot", PAPER_27),),
    _table_11,
)
