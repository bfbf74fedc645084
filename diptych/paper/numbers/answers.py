"""Written Predictions of a Result, checked against its value."""

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
"""Metrics that depend only on the predicted classes, from labels (N,) and classes (N, K)."""


def read_answers_of(result: Result, predictions: Path) -> tuple[Predictions | None, str]:
    """The Predictions from which a Result was computed, and a message if they cannot be used.

    Predictions that do not give the value of the Result belong to another measurement, and are not used.

    Args:
        result: a Result of one of METRICS.
        predictions: the folder of written Predictions.
    Returns:
        the Predictions and "", or None and the reason; the reason is "" if there is no file.
    """
    path = predictions_path_of(predictions, result)
    if not path.is_file():
        return None, ""
    measurement = f"{result.model} on {result.dataset}, {protocol_in_words(result)}"
    try:
        answers = read_predictions(path)
    except DataError:
        return None, f"{measurement}: its file of predictions cannot be read."
    if (
        len(answers.keys) != result.n
        or abs(METRICS[result.metric](answers.labels, answers.classes) - result.value) > 1e-6
    ):
        return None, f"{measurement}: the predictions that lie there are not those of its score."
    return answers, ""


def right(predictions: Predictions) -> np.ndarray:
    """Whether the best class of each sample is the true one, bool (N,)."""
    return predictions.classes[:, 0] == predictions.labels


def of_the_same_samples(first: Predictions, second: Predictions) -> bool:
    """Whether two Predictions have the same samples and labels, in the same order."""
    return first.keys == second.keys and np.array_equal(first.labels, second.labels)
