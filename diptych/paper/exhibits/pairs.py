"""Pairs of models on the same samples: which model is right where the other is wrong, and whether that can be chance.

Two models can differ significantly although their intervals overlap: samples that both get right, or both get wrong,
say nothing about which is better. Each pair of models has a table and bars of all its common measurements.

Source: McNemar (1947), exact test; Holm (1979), correction over all measurements of a pair.
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
"""Two models differ if p after Holm's correction is below this; it corresponds to the paper's 99.5 % intervals."""

_KINDS: Mapping[tuple[str, object], str] = {
    ("ensemble", None): "zero-shot",
    ("ensemble", "static"): "zero-shot, ImageNet's classes",
    ("ensemble", "adaptive"): "zero-shot, the shift's classes",
    ("features", None): "linear probe",
    ("projected", None): "linear probe",
    ("adapted", None): "linear probe of ImageNet",
}
"""Kind of measurement by protocol and classifier. A probe uses features, or embeddings if the model has none."""
_MOST_PAIRS = 10  # pairs of models; with more pairs, each model is only compared with the best
_ONE_MODEL = (
    "Only two or more models on the same samples can be compared; "
    "diptych paper pairs MODEL MODEL --data-root FOLDER measures them."
)

Measurement = tuple[str, str, str]
"""Set, split and kind of measurement."""


@dataclasses.dataclass(frozen=True)
class Compared:
    """Two models on their common measurements.

    Attributes:
        first, second: names of the models.
        found: test results by measurement.
        p: p-values after Holm's correction, by measurement.
        n: numbers of samples, by measurement.
        shares: accuracies of both models, by measurement.
    """

    first: str
    second: str
    found: Mapping[Measurement, Paired]
    p: Mapping[Measurement, float]
    n: Mapping[Measurement, int]
    shares: Mapping[Measurement, tuple[float, float]]

    def better(self, measurement: Measurement) -> str | None:
        """The better model, or None if the difference is not significant."""
        if self.p[measurement] >= ERROR:
            return None
        return self.first if self.found[measurement].difference > 0 else self.second


def read_answers(
    results: Iterable[Result], predictions: Path
) -> tuple[dict[Measurement, dict[str, Predictions]], list[str]]:
    """Written Predictions by measurement and model, and notes on omitted files.

    Args:
        results: Results; those of the metric "accuracy" name the files to read.
        predictions: the folder of written Predictions.
    """
    answers: dict[Measurement, dict[str, Predictions]] = {}
    notes: list[str] = []
    for result in results:
        kind = _KINDS.get((result.protocol, result.condition.get("classifier")))
        if result.metric != "accuracy" or kind is None or not result.condition.keys() <= {"classifier"}:
            continue
        answer, problem = read_answers_of(result, predictions)
        if answer is None:
            notes += [problem] if problem else []
            continue
        by_model = answers.setdefault((result.dataset, result.split, kind), {})
        if result.protocol != "projected" or result.model not in by_model:
            by_model[result.model] = answer
    return answers, notes


def compare(
    first: str, second: str, answers: Mapping[Measurement, Mapping[str, Predictions]]
) -> tuple[Compared, list[str]]:
    """Test two models on each common measurement. Also returns notes on omitted sets, whose samples differ."""
    tests, n, shares = {}, {}, {}
    notes: list[str] = []
    for measurement, by_model in answers.items():
        if first not in by_model or second not in by_model:
            continue
        pair = [by_model[model] for model in (first, second)]
        if not of_the_same_samples(*pair):
            notes.append(f"{first} and {second} were measured on other samples of {measurement[0]}.")
            continue
        rights = [right(predictions) for predictions in pair]
        tests[measurement], n[measurement] = paired_test(*rights), len(rights[0])
        shares[measurement] = (float(rights[0].mean()), float(rights[1].mean()))
    tests = dict(sorted(tests.items(), key=lambda pair: list(_KINDS.values()).index(pair[0][2])))
    p = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    return Compared(first, second, tests, p, n, shares), notes


def paired_models(results: Sequence[Result], predictions: Path, data: Path | None = None) -> Shown | None:
    """All pairs of measured models, or each with the best if there are many; None if no two can be compared."""
    answers, notes = read_answers(results, predictions)
    compared = []
    for first, second in _pairs(answers):
        comparison, new_notes = compare(first, second, answers)
        notes += new_notes
        compared += [comparison] if comparison.found else []
    if not compared:
        return None
    num_different, num_compared = sum(map(_num_different, compared)), sum(len(pair.found) for pair in compared)
    return Shown(
        "; ".join(map(_in_words, compared))
        if len(compared) <= 3
        else f"{num_different} of {num_compared} comparisons tell models apart",
        "The same samples, answered by both models. A sample that one of them alone gets right speaks for it; those "
        "that both get right, or neither, say nothing. So two models can be told apart whose intervals overlap.",
        [_table(pair) for pair in compared],
        [_chart(pair) for pair in compared],
        [
            f"McNemar's exact test; p after Holm's correction over the rows of a table. Better: where that is below "
            f"{ERROR:g}. Differences in points, with exact 99.5 % intervals given how many samples differ. Probes are "
            "on features before the projection, or on the embeddings of a model without any.",
            *dict.fromkeys(notes),
        ],
    )


def compared_models(results: Sequence[Result], predictions: Path) -> set[str]:
    """The models that `paired_models` can compare with another model."""
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


def _num_different(pair: Compared) -> int:
    return sum(pair.better(measurement) is not None for measurement in pair.found)


def _in_words(pair: Compared) -> str:
    """Text such as "a is better than b on 2 of 5 measurements, worse on 1"."""
    if not _num_different(pair):
        return f"{pair.first} and {pair.second} are not told apart by any of {len(pair.found)} measurements"
    better = [pair.better(measurement) for measurement in pair.found]
    wins, losses = better.count(pair.first), better.count(pair.second)
    return f"{pair.first} is better than {pair.second} on {wins} of {len(better)} measurements, worse on {losses}"


def _row(measurement: Measurement) -> str:
    dataset, split, kind = measurement
    return f"{dataset}{'' if split == 'test' else f'/{split}'}, {kind}"


def _table(pair: Compared) -> NumberTable:
    columns = ["set", "n", f"{pair.first}, %", f"{pair.second}, %", "difference"]
    columns += [f"{pair.first} alone right", f"{pair.second} alone right", "p", "better"]
    rows: list[tuple[str, list[Cell | str]]] = []
    for measurement, test in pair.found.items():
        cells: list[Cell | str] = [f"{pair.n[measurement]:,}"]
        cells += [Cell(100 * share) for share in pair.shares[measurement]]
        cells += [Cell(100 * test.difference, 100 * test.low, 100 * test.high)]
        cells += [f"{test.only_first:,}", f"{test.only_second:,}", _p(pair.p[measurement])]
        rows.append((_row(measurement), [*cells, pair.better(measurement) or "not told apart"]))
    return NumberTable(f"{pair.first} and {pair.second}", columns, rows)


def _p(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}"


def _chart(comparison: Compared) -> BarChart:
    by_size = sorted(comparison.found.items(), key=lambda pair: -pair[1].difference)
    return BarChart(
        f"{comparison.first} less {comparison.second}",
        "points, with 99.5 % intervals",
        [(_row(measurement), 100 * test.difference) for measurement, test in by_size],
        intervals=[(100 * test.low, 100 * test.high) for _, test in by_size],
    )


def _no_pairs(results: Sequence[Result]) -> Shown:
    has_several = len({result.model for result in results}) > 1
    title = "No two models were measured on the same samples" if has_several else "No two models were measured"
    return Shown(title, notes=[_ONE_MODEL])


PAIRS = Exhibit(
    "pairs",
    "Pairs of models on the same samples, with McNemar's test.",
    (("zero_shot", tuple(card.name for card in CARDS.values() if card.group == "paper27")),),
    _no_pairs,
    own_sets=True,
    look=paired_models,
)
"""Not in the paper, which only compares intervals of scores."""
