"""Table 2 and figure 16: people and models on the breeds of Oxford-IIIT Pets.

Source: CLIP paper, section 4.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diptych.errors import InputError
from diptych.evalsets.prompts import plain_name
from diptych.evaluate.metrics.score import Score
from diptych.evaluate.tasks.human import COLUMNS, DATASET, agreement
from diptych.paper.exhibit import Exhibit
from diptych.paper.numbers.paper_rows import Row, Wanted, beside_paper, pick
from diptych.records import Result, is_number
from diptych.report.curves import Chart, Series
from diptych.report.paper_numbers import published
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

CLIP = "zero-shot CLIP"
PEOPLE = ("one-shot human", "zero-shot human")

_MODEL: Wanted = (
    ("human", DATASET, "mean_per_class_accuracy", "zero-shot"),
    ("zero_shot", DATASET, "mean_per_class_accuracy", "ensemble"),
)


def _table_2(results: Sequence[Result]) -> Shown:
    # A model always gives the same answer, so all four columns have the same number.
    models = pick(results, dict.fromkeys(COLUMNS, _MODEL))
    answers = {name: [("human", DATASET, name.replace(" ", "_"), "answers")] for name in COLUMNS}
    rows: list[Row] = [*models.items(), *pick(results, answers).items()]
    if models:
        model, own = next(iter(models.items()))
        title = f"{model} names {100 * own['accuracy'].value:.1f} % of breeds; people without examples 53.7 %"
    else:
        title = "Zero-shot CLIP names 93.5 % of breeds, people 53.7 % without and 75.7 % with one example"
    return Shown(
        title,
        "Means over 37 breeds. Five people looked at each picture; they could say that they did not know, which the "
        "first column counts as wrong, and were shown no, one or two pictures of each breed.",
        [beside_paper("Breeds named, mean over classes, %", "table 2", COLUMNS, rows)],
        notes=(
            "Majority vote: the most frequent answer to a picture; pictures with a tie are left out. On guesses: "
            "without the answers of those who did not know.",
            "A model has one answer to each picture, so that its four columns are equal.",
            "Your own people's answers (a CSV file of image, person, answer) are counted by human_scores.",
        ),
    )


def by_difficulty(probability: Mapping[str, float]) -> list[str]:
    """Classes from the easiest to the hardest, by the mean probability of the true class."""
    return sorted(probability, key=lambda name: -probability[name])


def fitted(values: Sequence[float]) -> list[float]:
    """The least-squares line through values at 1, 2, ..., evaluated at the same places."""
    places = np.arange(1, len(values) + 1)
    slope, start = np.polyfit(places, np.asarray(values, float), 1)
    return [float(start + slope * place) for place in places]


def difficulty_chart(title: str, order: Sequence[str], series: Mapping[str, Mapping[str, float]]) -> Chart:
    """A chart of the accuracy of each breed in percent, in the given order; each series has a fitted line."""
    places = [float(place) for place in range(1, len(order) + 1)]
    curves = []
    for colour, (label, values) in enumerate(series.items()):
        heights = [values[name] for name in order]
        curves += [
            Series(label, places, heights, colour=colour, form="markers"),
            Series("", places, fitted(heights), colour=colour, form="line"),
        ]
    return Chart(title, "breed, from the easiest to the hardest", "accuracy, %", curves, legend="bottom left")


def _figure_16(results: Sequence[Result]) -> Shown:
    paper = published("figure 16")
    charts, tables, agreements = [], [], []
    for model, own in pick(results, {"accuracy": _MODEL[:1]}).items():
        class_values = (own["accuracy"].setting(name, dict) or {} for name in ("accuracy", "probability"))
        accuracy, probability = (_in_paper(values, paper[CLIP]) for values in class_values)
        if len(accuracy) < 3 or accuracy.keys() != probability.keys():
            continue
        order = by_difficulty(probability)
        values = {model: {name: 100 * value for name, value in accuracy.items()}}
        charts.append(difficulty_chart(f"Breeds by difficulty for {model}", order, values | _people(order)))
        tables.append(_breeds(f"Breeds by difficulty for {model}, accuracy, %", order, values, probability))
        agreements += [_agreement(f"{model} and {people}", values[model], paper[people]) for people in PEOPLE]
    order = list(paper[CLIP])
    charts.append(difficulty_chart("Breeds by difficulty for the paper's CLIP", order, paper))
    if not tables:
        tables.append(_breeds("Breeds by difficulty for the paper's CLIP, accuracy, %", order, {}, {}))
    agreements += [_agreement(f"paper's {CLIP} and {people}", paper[CLIP], paper[people]) for people in PEOPLE]
    agreements.append(_agreement(" and ".join(PEOPLE), paper[PEOPLE[0]], paper[PEOPLE[1]]))
    table = NumberTable("Do both find the same breeds hard?", ["accuracies of", "Pearson", "Spearman"], agreements)
    return Shown(
        "What is hard for CLIP is hard for people, too" if len(charts) == 1 else "Are the same breeds hard for both?",
        "Each point is a breed. The breeds are sorted by the mean probability that the model gives the true one.",
        [table, *tables],
        charts,
        notes=(
            "People's accuracies and those of the paper's CLIP were read off its figure 16.",
            "Correlations are over breeds, with 99.5 % bootstrap intervals; the paper draws lines and gives none.",
        ),
    )


def _in_paper(values: Mapping[str, Any], paper: Mapping[str, float]) -> dict[str, float]:
    """Values by the paper's names of breeds. Other breeds, and values that are not numbers, are omitted."""
    names = {plain_name(name): name for name in paper}
    by_paper_name = {names.get(plain_name(name)): value for name, value in values.items() if is_number(value)}
    return {name: value for name, value in by_paper_name.items() if name is not None}


def _people(order: Sequence[str]) -> dict[str, dict[str, float]]:
    paper = published("figure 16")
    return {name: {breed: paper[name][breed] for breed in order} for name in PEOPLE}


def _breeds(
    title: str, order: Sequence[str], own: Mapping[str, Mapping[str, float]], probability: Mapping[str, float]
) -> NumberTable:
    paper = published("figure 16")
    columns = ["breed", *own, *(["mean probability"] if probability else []), *paper]
    rows: list[tuple[str, Sequence[Cell | str]]] = []
    for breed in order:
        cells = [Cell(values[breed]) for values in own.values()]
        cells += [Cell(100 * probability[breed])] if probability else []
        rows.append((breed.replace("_", " "), [*cells, *(Cell(paper[name][breed], published=True) for name in paper)]))
    means = [Cell(float(np.mean([values[breed] for breed in order]))) for values in own.values()]
    means += [Cell(100 * float(np.mean([probability[breed] for breed in order])))] if probability else []
    theirs = [Cell(float(np.mean([paper[name][breed] for breed in order])), published=True) for name in paper]
    rows.append((f"mean of {len(order)}", [*means, *theirs]))
    return NumberTable(title, columns, rows)


def _agreement(name: str, first: Mapping[str, float], second: Mapping[str, float]) -> tuple[str, Sequence[Cell | str]]:
    try:
        correlations = agreement(first, {breed: second[breed] for breed in first})
    except InputError:  # the accuracies of all breeds are equal, so the correlation is undefined
        return name, [Cell(None), Cell(None)]
    return name, [_correlation(correlations["pearson"]), _correlation(correlations["spearman"])]


def _correlation(value: Score) -> Cell:
    return Cell(value.value, value.low, value.high, digits=2)


TABLE_2 = Exhibit("table2", "People and models on Oxford-IIIT Pets.", (("human", (DATASET,)),), _table_2)
FIGURE_16 = Exhibit(
    "figure16", "Which breeds are hard for people, and which for a model.", (("human", (DATASET,)),), _figure_16
)
