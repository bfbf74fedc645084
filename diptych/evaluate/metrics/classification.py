"""Metrics of classification: arrays in, numbers out, all of them fractions in [0, 1].

Labels are int (N,). Predictions have one of three forms, distinguished by type and shape: float (N, C), a score per
class; int (N,), the predicted class; int (N, K), predicted classes, best first. On ties the class with the lower index
is better, everywhere in Diptych, so a number depends on the scores only.

All metrics raise ShapeError if labels and predictions do not fit together or are empty, and InputError if a score is
NaN, a label is not a whole number, or a class lies outside [0, C).
"""

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import InputError, ShapeError


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Share of samples whose best class is the true class; predictions may have any of the three forms."""
    labels, classes = _best_classes(labels, predictions)
    return float(np.mean(classes == labels))


def accuracy_top_k(labels: ArrayLike, predictions: ArrayLike, k: int) -> float:
    """Share of samples whose true class is among the k best.

    Args:
        predictions: scores float (N, C) with C >= k, or classes int (N, K) with K >= k, best first.
        k: at least 1.
    Raises:
        ShapeError: also if there are predictions of fewer than k classes.
    """
    labels, predictions = _checked(labels, predictions)
    if predictions.ndim != 2 or not 1 <= k <= predictions.shape[1]:
        raise ShapeError(f"top {k} needs predictions of shape (N, at least {k}), and k >= 1; got {predictions.shape}")
    if predictions.dtype.kind != "f":
        return float(np.mean((predictions[:, :k] == labels[:, None]).any(axis=1)))
    _check_range(labels, predictions.shape[1])
    return float(np.mean(rank_of_truth(labels, predictions) <= k))


def rank_of_truth(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Rank of the true class, int64 (N,), 1 for the best; on ties the lower index comes first.

    Args:
        labels: int (N,), in [0, C).
        scores: float (N, C), none of them NaN.
    """
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    before = np.arange(scores.shape[1]) < labels[:, None]
    return 1 + (scores > own).sum(axis=1) + ((scores == own) & before).sum(axis=1)


def mean_of_top_1_and_5(labels: ArrayLike, predictions: ArrayLike) -> float:
    """The mean of top-1 and top-5 accuracy, the metric of Kinetics700 in the paper's table 9; see accuracy_top_k."""
    return (accuracy_top_k(labels, predictions, 1) + accuracy_top_k(labels, predictions, 5)) / 2


def mean_per_class_accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Mean over classes of the accuracy within each class; classes without samples are left out."""
    labels, classes = _best_classes(labels, predictions)
    _, index = np.unique(labels, return_inverse=True)
    return float(np.mean(np.bincount(index, weights=classes == labels) / np.bincount(index)))


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, num_classes: int) -> np.ndarray:
    """Count the samples by true class (row) and predicted class (column).

    Args:
        num_classes: C.
    Returns:
        int64 (C, C).
    """
    from sklearn.metrics import confusion_matrix as count  # imported here: loading takes longer than most calls

    labels, classes = _best_classes(labels, predictions)
    _check_range(labels, num_classes)
    _check_range(classes, num_classes)
    return np.asarray(count(labels, classes, labels=np.arange(num_classes)), dtype=np.int64)


def _best_classes(labels: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = _checked(labels, predictions)
    if predictions.dtype.kind == "f":
        _check_range(labels, predictions.shape[1])
        return labels, predictions.argmax(axis=1)
    return labels, predictions if predictions.ndim == 1 else predictions[:, 0]


def _checked(labels: ArrayLike, predictions: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.ndim != 1 or not len(labels):
        raise ShapeError(f"labels must have the shape (N,) with at least one sample; got {labels.shape}")
    if predictions.ndim not in (1, 2) or len(predictions) != len(labels) or not predictions.size:
        raise ShapeError(f"{len(labels)} labels do not fit predictions of shape {predictions.shape}")
    if labels.dtype.kind not in "iu" or predictions.dtype.kind not in "iuf":
        raise InputError(f"labels and classes must be whole numbers; got {labels.dtype} and {predictions.dtype}")
    if predictions.dtype.kind == "f":
        if predictions.ndim != 2:
            raise ShapeError(f"scores must have the shape (N, C); got {predictions.shape}")
        if num_broken := int(np.isnan(predictions).any(axis=1).sum()):
            raise InputError(f"{num_broken} of {len(labels)} samples have a NaN score")
    return labels, predictions


def _check_range(classes: np.ndarray, num_classes: int) -> None:
    if classes.min() < 0 or classes.max() >= num_classes:
        raise InputError(f"classes must lie in [0, {num_classes}); found {classes.min()} to {classes.max()}")
