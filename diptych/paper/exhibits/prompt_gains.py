"""What prompts and ensembles add to class names, set by set, with intervals: the bars beside figure 4."""

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
    """A set's score by prompts and ensembles less that by class names, a fraction; its 99.5 % interval where known."""

    value: float
    interval: tuple[float, float] | None = None


def prompt_gains(
    results: Sequence[Result], predictions: Path | None = None, protocols: tuple[str, str] = ("ensemble", "names")
) -> dict[str, dict[str, Gain]]:
    """By model and set, in the set's own metric, from the same samples by both protocols.

    Accuracies have exact intervals (McNemar's), means over classes those of a bootstrap; other metrics have none, nor
    has a set whose predictions were not kept, or are not asked for.
    """
    first, second = (measured(results, "zero_shot", protocol) for protocol in protocols)
    return {
        model: {
            name: Gain(one.value - second[model][name].value, _interval(one, second[model][name], predictions))
            for name, one in own.items()
            if name in second.get(model, {})
        }
        for model, own in first.items()
        if second.get(model)
    }


def _interval(first: Result, second: Result, predictions: Path | None) -> tuple[float, float] | None:
    if predictions is None or first.metric not in METRICS:
        return None
    read = [read_answers_of(one, predictions)[0] for one in (first, second)]
    pair = [one for one in read if one is not None]
    if len(pair) < 2 or not of_the_same_samples(*pair):
        return None
    if first.metric == "accuracy":
        found = paired_test(*map(right, pair))
        return found.low, found.high
    if first.n < 2:
        return None
    return bootstrap(lambda rows: _difference(first.metric, pair, rows), first.n, resamples=_RESAMPLES)


def _difference(metric: str, pair: Sequence[Predictions], rows: np.ndarray) -> float:
    one, other = (METRICS[metric](read.labels[rows], read.classes[rows]) for read in pair)
    return one - other


def gain_charts(gains: Mapping[str, Mapping[str, Gain]]) -> list[BarChart]:
    """A model's bars, the largest gain first, with the intervals as whiskers."""
    charts = []
    for model, own in gains.items():
        by_size = sorted(own.items(), key=lambda pair: -pair[1].value)
        intervals = [None if one.interval is None else _percents(one.interval) for _, one in by_size]
        rows = [(name, 100 * one.value) for name, one in by_size]
        charts.append(BarChart(f"{model}: what prompts add", "points over class names", rows, intervals=intervals))
    return charts


def _percents(interval: tuple[float, float]) -> tuple[float, float]:
    return 100 * interval[0], 100 * interval[1]


def gain_notes(gains: Mapping[str, Mapping[str, Gain]]) -> list[str]:
    """On how many sets a gain, or a loss, is beyond chance."""
    notes = []
    for model, own in gains.items():
        known = [one.interval for one in own.values() if one.interval is not None]
        if known:
            more, less = sum(low > 0 for low, _ in known), sum(high < 0 for _, high in known)
            of = f"of {len(known)} sets" if len(known) > 1 else "of 1 set"
            notes.append(
                f"{model}: prompts and ensembles raise the score on {more} {of} and lower it on {less}, beyond chance. "
                "Whiskers are 99.5 % intervals of the difference on the same pictures: exact for accuracies, by "
                "bootstrap for means over classes."
            )
    return notes
