"""Predictions as Parquet files: one row per sample with key, label, classes and scores, best first."""

import contextlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diptych.errors import DataError, ShapeError
from diptych.records import Predictions

_COLUMNS = ("key", "label", "classes", "scores")


def write_predictions(predictions: Predictions, path: str | Path) -> None:
    """Write predictions to a Parquet file, which is complete or not there; the folder is made if it is missing.

    Raises:
        ShapeError: keys, labels, classes and scores differ in N or K.
        DataError: the file cannot be written (a full disk); a file of that name is as it was.
    """
    num_samples, classes, scores = len(predictions.keys), predictions.classes, predictions.scores
    if classes.ndim != 2 or classes.shape != scores.shape or len(classes) != num_samples:
        raise ShapeError(f"{num_samples} keys, classes {classes.shape} and scores {scores.shape} do not fit together")
    if predictions.labels.shape != (num_samples,):
        raise ShapeError(f"{num_samples} keys do not fit labels of shape {predictions.labels.shape}")
    columns = (
        pa.array(predictions.keys, pa.string()),
        pa.array(predictions.labels, pa.int64()),
        pa.array(list(classes), pa.list_(pa.int64())),
        pa.array(list(scores), pa.list_(pa.float32())),
    )
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns, names=_COLUMNS), unfinished)
        unfinished.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            f"cannot write predictions to {path}: {reason}; free some space or choose another folder"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def read_predictions(path: str | Path) -> Predictions:
    """Read a file of `write_predictions` back.

    Raises:
        DataError: the file is missing, is no Parquet, or its columns are not those of predictions.
    """
    try:
        table = pq.read_table(path, columns=list(_COLUMNS))
        keys, labels, classes, scores = (table.column(name).to_pylist() for name in _COLUMNS)
        return Predictions(
            tuple(keys),
            np.array(labels, dtype=np.int64),
            np.array(classes, dtype=np.int64).reshape(len(keys), -1 if keys else 0),
            np.array(scores, dtype=np.float32).reshape(len(keys), -1 if keys else 0),
        )
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} is no file of predictions ({', '.join(_COLUMNS)}): {error}") from error
