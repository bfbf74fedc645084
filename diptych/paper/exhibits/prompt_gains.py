"""The gain of prompts and ensembles over class names per set, with intervals: additional bars of figure 4."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from diptych.evaluate.metrics.comparison import bootstrap, paired_test
from diptych.paper.numbers.answers import METRICS, of_the_same_samples, read_answers_of, right
from diptych.paper.numbers.measured import measured
from diptych.records import Predictions, Result
from diptych.report.bars import BarChart

_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Gain:
    """A set's score with prompts and ensembles minus that with class names, a fraction, and its 99.5 % interval."""

    value: float
    interval: tuple[float, float] | None = None


def prompt_gains(
    results: Sequence[Result], predictions: Path | None = None, protocols: tuple[str, str] = ("ensemble", "names")
) -> dict[str, dict[str, Gain]]:
    """Gains by model and set in the set's metric, from the same samples with both protocols.

    Accuracies have exact intervals (McNemar), means over classes have bootstrap intervals, other metrics have none. The
    intervals need kept predictions; without `predictions` there are none.
    """
    first, second = (measured(results, "zero_shot", protocol) for protocol in protocols)
    return {
        model: {
            name: Gain(result.value - second[model][name].value, _interval(result, second[model][name], predictions))
            for name, result in own.items()
            if name in second.get(model, {})
        }
        for model, own in first.items()
        if second.get(model)
    }


def _interval(first: Result, second: Result, predictions: Path | None) -> tuple[float, float] | None:
    if predictions is None or first.metric not in METRICS:
        return None
    answers = [read_answers_of(result, predictions)[0] for result in (first, second)]
    pair = [answer for answer in answers if answer is not None]
    if len(pair) < 2 or not of_the_same_samples(*pair):
        return None
    if first.metric == "accuracy":
        test = paired_test(*map(right, pair))
        return test.low, test.high
    if first.n < 2:
        return None
    return bootstrap(lambda rows: _difference(first.metric, pair, rows), first.n, resamples=_RESAMPLES)


def _difference(metric: str, pair: Sequence[Predictions], rows: np.ndarray) -> float:
    first_score, second_score = (
        METRICS[metric](predictions.labels[rows], predictions.classes[rows]) for predictions in pair
    )
    return first_score - second_score


def gain_charts(gains: Mapping[str, Mapping[str, Gain]]) -> list[BarChart]:
    """A bar chart for each model, the largest gain first, with intervals as whiskers."""
    charts = []
    for model, own in gains.items():
        by_size = sorted(own.items(), key=lambda pair: -pair[1].value)
        intervals = [None if gain.interval is None else _percents(gain.interval) for _, gain in by_size]
        rows = [(name, 100 * gain.value) for name, gain in by_size]
        charts.append(BarChart(f"{model}: what prompts add", "points over class names", rows, intervals=intervals))
    return charts


def _percents(interval: tuple[float, float]) -> tuple[float, float]:
    return 100 * interval[0], 100 * interval[1]


def gain_notes(gains: Mapping[str, Mapping[str, Gain]]) -> list[str]:
    """Notes on the number of sets with a significant gain or loss."""
    notes = []
    for model, own in gains.items():
        intervals = [gain.interval for gain in own.values() if gain.interval is not None]
        if intervals:
            num_gains, num_losses = sum(low > 0 for low, _ in intervals), sum(high < 0 for _, high in intervals)
            of_sets = f"of {len(intervals)} sets" if len(intervals) > 1 else "of 1 set"
            notes.append(
                f"{model}: prompts and ensembles raise the score on {num_gains} {of_sets} and lower it on "
                f"{num_losses}, beyond chance. Whiskers are 99.5 % intervals of the difference on the same pictures: "
                "exact for accuracies, by bootstrap for means over classes."
            )
    return notes
