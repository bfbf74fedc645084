"""Models in pairs on the same samples: who is right where the other errs, and whether that can be chance.

Two scores whose intervals overlap may still be told apart: on the same pictures what both get right, or both get wrong,
says nothing about which is better. Each pair of models has a table and bars over all that both were measured on.

Source: McNemar (1947), exact; Holm (1979) for all sets of a pair together.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from diptych.evalsets.cards import CARDS
from diptych.evaluate.metrics.comparison import Paired, holm, paired_test
from diptych.paper.exhibit import Exhibit
from diptych.paper.numbers.answers import of_the_same_samples, read_answers_of, right
from diptych.records import Predictions, Result
from diptych.report.bars import BarChart
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

ERROR = 0.005
"""Told apart where p, after Holm, is below: the other side of the paper's 99.5 % intervals."""

_KINDS: Mapping[tuple[str, object], str] = {
    ("ensemble", None): "zero-shot",
    ("ensemble", "static"): "zero-shot, ImageNet's classes",
    ("ensemble", "adaptive"): "zero-shot, the shift's classes",
    ("features", None): "linear probe",
    ("projected", None): "linear probe",
    ("adapted", None): "linear probe of ImageNet",
}
"""Of a protocol and a classifier what is measured; a probe is on features, or on embeddings of a model without any."""
_MOST_PAIRS = 10  # of models; with more, each is compared with the best alone
_ALONE = (
    "Only two or more models on the same samples can be compared; "
    "diptych paper pairs MODEL MODEL --data-root FOLDER measures them."
)

Measurement = tuple[str, str, str]
"""Set, split and kind of measurement."""


@dataclasses.dataclass(frozen=True)
class Compared:
    """Two models on what both were measured on.

    Attributes:
        first, second: their names.
        found: by measurement, the test.
        p: by measurement, its p after Holm.
        n: by measurement, samples.
        shares: by measurement, the accuracy of both.
    """

    first: str
    second: str
    found: Mapping[Measurement, Paired]
    p: Mapping[Measurement, float]
    n: Mapping[Measurement, int]
    shares: Mapping[Measurement, tuple[float, float]]

    def better(self, one: Measurement) -> str | None:
        """The model that is better, or None where they cannot be told apart."""
        if self.p[one] >= ERROR:
            return None
        return self.first if self.found[one].difference > 0 else self.second


def read_answers(
    results: Iterable[Result], predictions: Path
) -> tuple[dict[Measurement, dict[str, Predictions]], list[str]]:
    """Written Predictions by measurement and model, and what was left out, in words.

    Args:
        results: those of the metric "accuracy" tell which files there should be.
        predictions: the folder of written Predictions.
    """
    answers: dict[Measurement, dict[str, Predictions]] = {}
    notes: list[str] = []
    for one in results:
        kind = _KINDS.get((one.protocol, one.condition.get("classifier")))
        if one.metric != "accuracy" or kind is None or not one.condition.keys() <= {"classifier"}:
            continue
        read, problem = read_answers_of(one, predictions)
        if read is None:
            notes += [problem] if problem else []
            continue
        by_model = answers.setdefault((one.dataset, one.split, kind), {})
        if one.protocol != "projected" or one.model not in by_model:
            by_model[one.model] = read
    return answers, notes


def compare(
    first: str, second: str, answers: Mapping[Measurement, Mapping[str, Predictions]]
) -> tuple[Compared, list[str]]:
    """Test two models on each measurement of both, and what was left out, in words: sets whose samples differ."""
    found, n, shares = {}, {}, {}
    notes: list[str] = []
    for one, by_model in answers.items():
        if first not in by_model or second not in by_model:
            continue
        pair = [by_model[model] for model in (first, second)]
        if not of_the_same_samples(*pair):
            notes.append(f"{first} and {second} were measured on other samples of {one[0]}.")
            continue
        rights = [right(predictions) for predictions in pair]
        found[one], n[one] = paired_test(*rights), len(rights[0])
        shares[one] = (float(rights[0].mean()), float(rights[1].mean()))
    found = dict(sorted(found.items(), key=lambda pair: list(_KINDS.values()).index(pair[0][2])))
    p = dict(zip(found, holm([one.p for one in found.values()]), strict=True))
    return Compared(first, second, found, p, n, shares), notes


def paired_models(results: Sequence[Result], predictions: Path, data: Path | None = None) -> Shown | None:
    """All pairs of measured models, or each with the best where there are many; None where no two can be compared."""
    answers, notes = read_answers(results, predictions)
    compared = []
    for first, second in _pairs(answers):
        found, more = compare(first, second, answers)
        notes += more
        compared += [found] if found.found else []
    if not compared:
        return None
    apart, of = sum(_num_apart(one) for one in compared), sum(len(one.found) for one in compared)
    return Shown(
        "; ".join(map(_in_words, compared)) if len(compared) <= 3 else f"{apart} of {of} comparisons tell models apart",
        "The same samples, answered by both models. A sample that one of them alone gets right speaks for it; those "
        "that both get right, or neither, say nothing. So two models can be told apart whose intervals overlap.",
        [_table(one) for one in compared],
        [_chart(one) for one in compared],
        [
            f"McNemar's exact test; p after Holm's correction over the rows of a table. Better: where that is below "
            f"{ERROR:g}. Differences in points, with exact 99.5 % intervals given how many samples differ. Probes are "
            "on features before the projection, or on the embeddings of a model without any.",
            *dict.fromkeys(notes),
        ],
    )


def compared_models(results: Sequence[Result], predictions: Path) -> set[str]:
    """The models that `paired_models` can compare with another one."""
    answers, _ = read_answers(results, predictions)
    pairs = itertools.combinations({model for by_model in answers.values() for model in by_model}, 2)
    return {model for pair in pairs if compare(*pair, answers)[0].found for model in pair}


def _pairs(answers: Mapping[Measurement, Mapping[str, Predictions]]) -> list[tuple[str, str]]:
    models = list(dict.fromkeys(model for by_model in answers.values() for model in by_model))
    every = list(itertools.combinations(models, 2))
    if len(every) <= _MOST_PAIRS:
        return every
    common = [by_model for by_model in answers.values() if len(by_model) == len(models)] or list(answers.values())
    means = {
        model: np.mean([right(by_model[model]).mean() for by_model in common if model in by_model] or [0.0])
        for model in models
    }
    best = max(models, key=lambda model: means[model])
    return [(best, model) for model in models if model != best]


def _num_apart(one: Compared) -> int:
    return sum(one.better(measurement) is not None for measurement in one.found)


def _in_words(one: Compared) -> str:
    """a is better than b on 2 of 5 measurements, worse on 1"""
    if not _num_apart(one):
        return f"{one.first} and {one.second} are not told apart by any of {len(one.found)} measurements"
    better = [one.better(measurement) for measurement in one.found]
    wins, losses = better.count(one.first), better.count(one.second)
    return f"{one.first} is better than {one.second} on {wins} of {len(better)} measurements, worse on {losses}"


def _row(measurement: Measurement) -> str:
    dataset, split, kind = measurement
    return f"{dataset}{'' if split == 'test' else f'/{split}'}, {kind}"


def _table(one: Compared) -> NumberTable:
    columns = ["set", "n", f"{one.first}, %", f"{one.second}, %", "difference"]
    columns += [f"{one.first} alone right", f"{one.second} alone right", "p", "better"]
    rows: list[tuple[str, list[Cell | str]]] = []
    for measurement, found in one.found.items():
        cells: list[Cell | str] = [f"{one.n[measurement]:,}"]
        cells += [Cell(100 * share) for share in one.shares[measurement]]
        cells += [Cell(100 * found.difference, 100 * found.low, 100 * found.high)]
        cells += [f"{found.only_first:,}", f"{found.only_second:,}", _p(one.p[measurement])]
        rows.append((_row(measurement), [*cells, one.better(measurement) or "not told apart"]))
    return NumberTable(f"{one.first} and {one.second}", columns, rows)


def _p(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def _chart(one: Compared) -> BarChart:
    by_size = sorted(one.found.items(), key=lambda pair: -pair[1].difference)
    return BarChart(
        f"{one.first} less {one.second}",
        "points, with 99.5 % intervals",
        [(_row(measurement), 100 * found.difference) for measurement, found in by_size],
        intervals=[(100 * found.low, 100 * found.high) for _, found in by_size],
    )


def _no_pairs(results: Sequence[Result]) -> Shown:
    several = len({one.model for one in results}) > 1
    title = "No two models were measured on the same samples" if several else "No two models were measured"
    return Shown(title, notes=[_ALONE])


PAIRS = Exhibit(
    "pairs",
    "Models in pairs on the same samples, with McNemar's test.",
    (("zero_shot", tuple(card.name for card in CARDS.values() if card.group == "paper27")),),
    _no_pairs,
    own_sets=True,
    look=paired_models,
)
"""Not the paper's: it compares scores by their intervals alone."""
