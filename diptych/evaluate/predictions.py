"""Predictions as Parquet files: one row per sample with key, label, best classes, their scores, and the true rank."""

import io
import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.errors import DataError, ShapeError
from diptych.evaluate.metrics.classification import rank_of_truth
from diptych.files import expanded, write_whole
from diptych.records import Predictions, Result, protocol_in_words

_log = logging.getLogger(__name__)
_COLUMNS = ("key", "label", "classes", "scores")
TOP_K = 5
_RANK = "rank"  # an optional column: Predictions may lack ranks


def predictions_path(folder: Path, model: str, dataset: str, split: str, protocol: str) -> Path:
    """The path of a model's Predictions on a set; characters other than letters, digits and ._@+- become "-".

    Args:
        protocol: protocol and condition in the words of `protocol_in_words`: "ensemble", "static".
    """
    parts = (model, f"{dataset}-{split}-{protocol}")
    folder_name, file_name = (re.sub(r"[^\w.@+-]", "-", part).strip(".") or "-" for part in parts)
    return Path(folder) / folder_name / f"{file_name}.parquet"


def predictions_path_of(folder: Path, result: Result) -> Path:
    """The path of the Predictions that a Result was computed from."""
    return predictions_path(folder, result.model, result.dataset, result.split, protocol_in_words(result))


def has_probabilities(encoder: Encoder) -> bool:
    """Whether an encoder's Predictions can be written: they hold probabilities, which need a logit scale.

    Logs a warning if the encoder states none.
    """
    if about(encoder).logit_scale is not None:
        return True
    _log.warning("%s states no logit_scale; no predictions are written, because they need probabilities", encoder.name)
    return False


def top_k_classes(logits: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best classes int64 (N, k), lower index first on ties, and their probabilities float32 (N, k)."""
    rest, columns = logits.clone(), []
    for _ in range(k):  # torch.topk does not define the order of ties, and a stable sort takes ten times as long
        columns.append(rest.argmax(dim=1, keepdim=True))
        rest.scatter_(1, columns[-1], -torch.inf)
    classes = torch.cat(columns, dim=1)
    return classes.numpy(), logits.softmax(dim=1).gather(1, classes).numpy()


def top_predictions(
    keys: Sequence[str], labels: np.ndarray, blocks: Iterable[np.ndarray], k: int = TOP_K
) -> Predictions:
    """The best classes of each sample and the rank of the true class, from the scores of all classes.

    Args:
        keys, labels: keys and true classes of N samples.
        blocks: logits (n, C) of consecutive samples; together they cover all N. Their softmax gives the probabilities.
        k: the largest number of classes to keep.
    """
    columns, start = [], 0
    for block in blocks:
        classes, scores = top_k_classes(torch.from_numpy(np.ascontiguousarray(block)), min(k, block.shape[1]))
        columns.append((classes, scores, rank_of_truth(labels[start : start + len(block)], block)))
        start += len(block)
    return Predictions(tuple(keys), labels, *(np.concatenate(column) for column in zip(*columns, strict=True)))


def write_predictions(predictions: Predictions, path: str | Path) -> None:
    """Write predictions to a Parquet file, completely or not at all; creates the folder if needed.

    Raises:
        ShapeError: keys, labels, classes and scores differ in N or K.
        DataError: the file cannot be written (a full disk); an existing file stays unchanged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    num_samples, classes, scores = len(predictions.keys), predictions.classes, predictions.scores
    if classes.ndim != 2 or classes.shape != scores.shape or len(classes) != num_samples:
        raise ShapeError(f"{num_samples} keys, classes {classes.shape} and scores {scores.shape} do not fit together")
    if predictions.labels.shape != (num_samples,):
        raise ShapeError(f"{num_samples} keys do not fit labels of shape {predictions.labels.shape}")
    if predictions.ranks is not None and predictions.ranks.shape != (num_samples,):
        raise ShapeError(f"{num_samples} keys do not fit ranks of shape {predictions.ranks.shape}")
    columns = {
        "key": pa.array(predictions.keys, pa.string()),
        "label": pa.array(predictions.labels, pa.int64()),
        "classes": pa.array(list(classes), pa.list_(pa.int64())),
        "scores": pa.array(list(scores), pa.list_(pa.float32())),
    }
    if predictions.ranks is not None:
        columns[_RANK] = pa.array(predictions.ranks, pa.int64())
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    try:
        write_whole(expanded(path), buffer.getvalue())
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"cannot write predictions to {path}: {reason}; free some space or choose another folder"
        ) from error


def read_predictions(path: str | Path) -> Predictions:
    """Read a file that `write_predictions` wrote.

    Raises:
        DataError: the file is missing, is not Parquet, or has other columns than predictions have.
    """
    from diptych.data.parquet_process import read_small_table  # imported here: classify does not need it

    try:
        path = expanded(path)
        table = read_small_table(path)
        keys, labels, classes, scores = (table.column(name).to_pylist() for name in _COLUMNS)
        return Predictions(
            tuple(keys),
            np.array(labels, dtype=np.int64),
            np.array(classes, dtype=np.int64).reshape(len(keys), -1 if keys else 0),
            np.array(scores, dtype=np.float32).reshape(len(keys), -1 if keys else 0),
            np.array(table.column(_RANK).to_pylist(), np.int64) if _RANK in table.column_names else None,
        )
    except Exception as error:  # a broken file can raise any error
        raise DataError(f"{path} is no file of predictions ({', '.join(_COLUMNS)}): {error}") from error
