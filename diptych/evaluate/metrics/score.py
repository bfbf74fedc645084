"""Compute a set's metric from class scores, with its interval."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from diptych.errors import InputError, ShapeError
from diptych.evaluate.metrics.classification import rank_of_truth
from diptych.evaluate.metrics.comparison import bootstrap
from diptych.evaluate.metrics.ranking import mean_average_precision, resampled_mean_average_precision, roc_auc
from diptych.evaluate.metrics.statistics import clopper_pearson

COUNTED = "clopper-pearson 99.5%"
RESAMPLED = "bootstrap 99.5%"
_RESAMPLES = 1000
_MAX_RANKED = 20_000  # ranking metrics of more samples are not resampled; their interval is narrow anyway


@dataclasses.dataclass(frozen=True, slots=True)
class Score:
    """A number with its 99.5 % interval and the method of the interval; None if there is no interval."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    interval: str | None = None


def of_repeats(values: Sequence[float], n: int, interval: str) -> Score:
    """The mean of repeated measurements with their range; the mean is clamped to the range against rounding."""
    low, high = min(values), max(values)
    return Score(min(max(float(np.mean(values)), low), high), n, low, high, interval)


def score(
    metric: str,
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    relevant: np.ndarray | None = None,
    counted: np.ndarray | None = None,
    seed: int = 0,
) -> Score:
    """Compute a metric of class scores.

    Args:
        metric: "accuracy", "accuracy_top_5", "mean_per_class_accuracy", "mean_of_top_1_and_5", "roc_auc" (of the
            second of two classes) or "mean_average_precision_11_point".
        labels: int64 (N,), true classes.
        scores: float (N, C), higher is more certain; on ties the lower index wins.
        relevant: bool (N, C), for mean average precision.
        counted: bool (N, C), which entries count; None for all.
        seed: seed of the resamples.
    Raises:
        InputError: the metric does not exist, a score is not finite, or a label is out of range.
        ShapeError: the arrays do not fit together.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise ShapeError(f"labels {labels.shape} and scores {scores.shape} must be (N,) and (N, C), N at least 1")
    if broken := int((~np.isfinite(scores)).any(axis=1).sum()):
        raise InputError(f"the scores of {broken} of {len(scores)} samples hold NaN or infinity; check the weights")
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise InputError(f"labels must lie in [0, {scores.shape[1]}); found {labels.min()} to {labels.max()}")
    if metric == "mean_average_precision_11_point":
        return _mean_average_precision(labels, scores, relevant, counted, seed)
    if metric == "roc_auc":
        return _roc_auc(labels, scores, seed)
    rank = rank_of_truth(labels, scores)
    n = len(labels)
    if metric in ("accuracy", "accuracy_top_5"):
        right = int((rank <= (1 if metric == "accuracy" else 5)).sum())
        return Score(right / n, n, *clopper_pearson(right, n), COUNTED)
    if metric == "mean_per_class_accuracy":
        right = rank == 1
        return _resampled(lambda rows: _mean_per_class(labels[rows], right[rows]), n, seed)
    if metric == "mean_of_top_1_and_5":
        gained = ((rank == 1).astype(float) + (rank <= 5)) / 2
        return _resampled(lambda rows: float(gained[rows].mean()), n, seed)
    raise InputError(f"there is no metric {metric!r}")


def relevance(metadata: Sequence, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """From metadata {"labels": (...), "ignored": (...)}: relevant bool (N, C), counted bool (N, C)."""
    relevant = np.zeros((len(metadata), num_classes), bool)
    counted = np.ones((len(metadata), num_classes), bool)
    for row, facts in enumerate(metadata):
        relevant[row, list(facts.get("labels", ()))] = True
        counted[row, list(facts.get("ignored", ()))] = False
    return relevant, counted | relevant


def _resampled(statistic: Callable[[np.ndarray], float], n: int, seed: int) -> Score:
    value = statistic(np.arange(n))
    if n < 2:
        return Score(value, n)
    low, high = bootstrap(statistic, n, resamples=_RESAMPLES, seed=seed)
    return Score(value, n, low, high, RESAMPLED)


def _mean_per_class(labels: np.ndarray, right: np.ndarray) -> float:
    """As `mean_per_class_accuracy`, which checks and sorts the labels: too slow for a thousand draws."""
    counts = np.bincount(labels)
    present = counts > 0
    return float(np.mean(np.bincount(labels, weights=right)[present] / counts[present]))


def _roc_auc(labels: np.ndarray, scores: np.ndarray, seed: int) -> Score:
    if scores.shape[1] != 2:
        raise ShapeError(f"roc_auc is of two classes, not of {scores.shape[1]}")
    surety, n = scores[:, 1] - scores[:, 0], len(labels)
    value = roc_auc(labels == 1, surety)
    if n > _MAX_RANKED:
        return Score(value, n)
    rng, draws = np.random.default_rng(seed), []
    yes, no = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    place = np.unique(surety, return_inverse=True)[1]
    for _ in range(_RESAMPLES):  # within each class: a draw without one of the classes would have no AUC
        above, below = (np.bincount(place[rng.choice(rows, len(rows))], minlength=n) for rows in (yes, no))
        lower = (
            np.cumsum(below) - below / 2
        )  # the other class's samples with a lower score, and half of those with an equal one
        draws.append(float(above @ lower) / (len(yes) * len(no)))
    return Score(value, n, *_percentiles(draws), RESAMPLED)


def _mean_average_precision(
    labels: np.ndarray, scores: np.ndarray, relevant: np.ndarray | None, counted: np.ndarray | None, seed: int
) -> Score:
    if relevant is None:
        relevant = labels[:, None] == np.arange(scores.shape[1])
    value, n = mean_average_precision(relevant, scores, counted), len(labels)
    if n < 2 or n > _MAX_RANKED:
        return Score(value, n)
    draws = resampled_mean_average_precision(relevant, scores, counted, resamples=_RESAMPLES, seed=seed)
    return Score(value, n, *_percentiles(draws), RESAMPLED)


def _percentiles(draws: Sequence[float] | np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(draws, [0.0025, 0.9975])
    return float(low), float(high)
