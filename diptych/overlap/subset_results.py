"""Measure a model on the Overlap, Clean and All images of each set: by the tasks that `diptych suite` runs."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from diptych.embed.encoder import Encoder
from diptych.errors import DataError
from diptych.evaluate.evaluation import evaluate
from diptych.evaluate.metrics.score import COUNTED
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.evaluate.predictions import predictions_path_of, read_predictions
from diptych.overlap.contamination import Analysis, Corrected, analyse, correct_over_sets, subset_accuracies
from diptych.overlap.find import Found, FoundSet
from diptych.overlap.reweighting import Reweighted, reweighted_gap
from diptych.records import Predictions, Result

TASK = "overlap"
TASKS = ("zero_shot",)
PROTOCOLS = ("ensemble", "features", "projected")
"""Of several protocols of a task, the paper's: all templates for zero-shot, and a probe on features."""


@dataclasses.dataclass(frozen=True)
class MeasuredSet:
    """A set's accuracy on Overlap, Clean and All, by one task.

    Attributes:
        dataset, task, protocol: what was measured.
        analysis: the comparison.
        reweighted: the comparison with the class frequencies of Overlap.
        corrected: its p-value, adjusted for the number of sets with the same task; None without a test.
        missing: images without a prediction, which are left out.
        results: three Results, and the contamination.
    """

    dataset: str
    task: str
    protocol: str
    analysis: Analysis
    reweighted: Reweighted
    corrected: Corrected | None
    missing: int
    results: tuple[Result, ...]


def measure_subsets(
    found: Found,
    model: str | Encoder,
    thresholds: Mapping[str, float],
    *,
    tasks: Sequence[str] = TASKS,
    num_workers: int = 0,
) -> list[MeasuredSet]:
    """Measure a model on all sets that have classes, once by each task.

    Results and predictions are kept in the folder of the search, so that another threshold costs nothing.

    Args:
        found: the searched sets.
        model: the model whose accuracy is measured, or its name.
        thresholds: by set.
        tasks: names of tasks of the suite that write predictions: "zero_shot", "linear_probe".
    Raises:
        InputError, DataError: a set cannot be measured.
    """
    measured = []
    for searched in found.sets:
        if searched.images.benchmark is None:
            continue
        for result, predictions in _predictions(found, searched, model, tasks, num_workers):
            measured.append(_compare(searched, result, predictions, thresholds[searched.nearest.dataset]))
    return _corrected(measured)


def _predictions(
    found: Found, searched: FoundSet, model: str | Encoder, tasks: Sequence[str], num_workers: int
) -> list[tuple[Result, Predictions]]:
    """The Results with one row per task, and the predictions behind them."""
    out, predictions = found.config.folder / "measured", found.config.folder / "predictions"
    cache = found.config.folder / "cache"
    results = evaluate(
        model, searched.images.path, tasks, out=out, cache=cache, predictions=predictions, num_workers=num_workers
    )
    chosen: dict[str, tuple[Result, Predictions]] = {}
    for result in results:
        path = predictions_path_of(predictions, result)
        if result.protocol in PROTOCOLS and result.task not in chosen and path.is_file():
            chosen[result.task] = result, read_predictions(path)
    if lacking := [task for task in tasks if task not in chosen]:
        raise DataError(
            f"{searched.nearest.dataset}: the task {lacking[0]} writes no predictions for it, so its accuracy on a "
            "part of the images is unknown: leave the task out"
        )
    return list(chosen.values())


def _compare(searched: FoundSet, result: Result, predictions: Predictions, threshold: float) -> MeasuredSet:
    nearest, places = searched.nearest, {key: place for place, key in enumerate(predictions.keys)}
    rows = [row for row, key in enumerate(nearest.keys) if key in places]
    predicted = np.array([places[nearest.keys[row]] for row in rows], dtype=np.int64)
    labels = predictions.labels[predicted]
    correct = predictions.classes[predicted, 0] == labels
    overlap = nearest.overlaps(threshold)[rows]
    analysis = analyse(subset_accuracies(correct, overlap))
    results = _results(result, analysis, threshold)
    reweighted, missing = reweighted_gap(correct, overlap, labels), len(nearest) - len(rows)
    return MeasuredSet(nearest.dataset, result.task, result.protocol, analysis, reweighted, None, missing, results)


def _results(measured: Result, analysis: Analysis, threshold: float) -> tuple[Result, ...]:
    """The accuracy on each subset that has images, and the share of overlapping images."""
    s = analysis.subsets
    counts = {
        "overlap": (s.right_overlap, s.n_overlap),
        "clean": (s.right_clean, s.n_clean),
        "all": (s.right_all, s.n_all),
    }
    rows = [("accuracy", subset, right, n) for subset, (right, n) in counts.items() if n]
    rows.append(("contamination", "all", s.n_overlap, s.n_all))
    return tuple(
        dataclasses.replace(
            measured,
            task=TASK,
            metric=metric,
            value=right / n,
            n=n,
            low=interval[0],
            high=interval[1],
            interval=COUNTED,
            condition={"subset": subset, "measured_by": measured.task},
            run={**measured.run, "settings": {**_settings(measured), "threshold": threshold}},
        )
        for metric, subset, right, n in rows
        for interval in [clopper_pearson(right, n)]
    )


def _settings(result: Result) -> Mapping[str, object]:
    settings = result.run.get("settings")
    return settings if isinstance(settings, Mapping) else {}


def _corrected(measured: Sequence[MeasuredSet]) -> list[MeasuredSet]:
    """Adjust p-values for the number of sets, separately for each task."""
    corrected = []
    for task in dict.fromkeys(one.task for one in measured):
        of_task = [one for one in measured if one.task == task]
        adjusted = correct_over_sets({one.dataset: one.analysis.p for one in of_task})
        corrected += [dataclasses.replace(one, corrected=adjusted.get(one.dataset)) for one in of_task]
    return corrected
