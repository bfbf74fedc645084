"""Written Predictions of a Result, checked against its number."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from diptych.errors import DataError
from diptych.evaluate.metrics.classification import accuracy, mean_per_class_accuracy
from diptych.evaluate.predictions import predictions_path_of, read_predictions
from diptych.records import Predictions, Result, protocol_in_words

METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "mean_per_class_accuracy": mean_per_class_accuracy,
}
"""Metrics that the best classes alone decide, from labels (N,) and classes (N, K)."""


def read_answers_of(result: Result, predictions: Path) -> tuple[Predictions | None, str]:
    """The Predictions that a Result was computed from; None where there are none, and why not, if that is no surprise.

    A file that does not give the value of its Result is of another measurement, and is left out.

    Args:
        result: of one of METRICS.
        predictions: the folder of written Predictions.
    """
    path = predictions_path_of(predictions, result)
    if not path.is_file():
        return None, ""
    what = f"{result.model} on {result.dataset}, {protocol_in_words(result)}"
    try:
        read = read_predictions(path)
    except DataError:
        return None, f"{what}: its file of predictions cannot be read."
    if len(read.keys) != result.n or abs(METRICS[result.metric](read.labels, read.classes) - result.value) > 1e-6:
        return None, f"{what}: the predictions that lie there are not those of its score."
    return read, ""


def right(predictions: Predictions) -> np.ndarray:
    """Whether each sample's best class is its true one, bool (N,)."""
    return predictions.classes[:, 0] == predictions.labels


def of_the_same_samples(first: Predictions, second: Predictions) -> bool:
    """Whether two files answer for the same samples, in the same order."""
    return first.keys == second.keys and np.array_equal(first.labels, second.labels)
