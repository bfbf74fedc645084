"""The table of verdicts, duplicates.parquet: one row per evaluation image. Other tools read it, so its columns stay.

dataset, key         the evaluation image
nearest_key, score   the most similar training image, and the detector's score in [-1, 1]
verdict              "overlap" or "clean"
"""

import dataclasses
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from diptych.data.exclusions import TRAINING_DATA
from diptych.data.parquet_process import read_small_table
from diptych.errors import DataError, InputError
from diptych.files import expanded, write_whole, writing

OVERLAP, CLEAN = "overlap", "clean"
COSINE, EXACT_CHECK = "cosine", "exact check"
_SCORED_BY = b"diptych.scored_by"
COLUMNS = ("dataset", "key", "nearest_key", "score", "verdict")


@dataclasses.dataclass(frozen=True, eq=False)
class SetNearest:
    """The most similar training image of each image of one evaluation set.

    Attributes:
        dataset: name of the set.
        keys: N keys of its images.
        nearest_keys: N keys of training images.
        scores: float32 (N,), in [-1, 1].
    """

    dataset: str
    keys: tuple[str, ...]
    nearest_keys: tuple[str, ...]
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    def overlaps(self, threshold: float) -> np.ndarray:
        """bool (N,), whether each image's score is at least the threshold."""
        return self.scores >= np.float32(threshold)


def write_duplicates(
    sets: Sequence[SetNearest],
    thresholds: Mapping[str, float],
    path: str | Path,
    training_data: str,
    scored_by: str = COSINE,
) -> None:
    """Write the verdicts of all sets, completely or not at all.

    Args:
        thresholds: by set; an image overlaps if its score is at least that of its set.
        training_data: fingerprint of the training source, to whose keys the table refers.
        scored_by: COSINE or EXACT_CHECK.
    Raises:
        DataError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    verdicts = [
        OVERLAP if overlaps else CLEAN
        for nearest in sets
        for overlaps in nearest.overlaps(thresholds[nearest.dataset]).tolist()
    ]
    table = pa.table(
        {
            "dataset": pa.array([nearest.dataset for nearest in sets for _ in nearest.keys], pa.string()),
            "key": pa.array([key for nearest in sets for key in nearest.keys], pa.string()),
            "nearest_key": pa.array([key for nearest in sets for key in nearest.nearest_keys], pa.string()),
            "score": pa.array(np.concatenate([nearest.scores for nearest in sets]) if sets else [], pa.float32()),
            "verdict": pa.array(verdicts, pa.string()),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata({TRAINING_DATA: training_data.encode(), _SCORED_BY: scored_by.encode()}), buffer
    )
    with writing(Path(path)):
        write_whole(expanded(path), buffer.getvalue())


@dataclasses.dataclass(frozen=True, eq=False)
class Duplicates:
    """A table of verdicts, as `read_duplicates` returns it.

    Attributes:
        sets: scores and keys by evaluation set.
        overlaps: by evaluation set, bool (N,).
        training_data: fingerprint of the training source; "" in a file of other origin.
        scored_by: COSINE or EXACT_CHECK; "" in a file of other origin.
    """

    sets: tuple[SetNearest, ...]
    overlaps: Mapping[str, np.ndarray]
    training_data: str
    scored_by: str = ""

    def training_keys(self) -> set[str]:
        """The training images that are nearest to an overlapping evaluation image."""
        return set(self._keys())

    def _keys(self) -> Iterator[str]:
        for nearest in self.sets:
            for place in np.flatnonzero(self.overlaps[nearest.dataset]).tolist():
                yield nearest.nearest_keys[place]


def read_duplicates(path: str | Path) -> Duplicates:
    """Read a file that `write_duplicates` wrote, or one with the same columns.

    Raises:
        DataError: the file is missing, is no Parquet, or its columns or values are others.
    """
    path = expanded(path)
    try:
        table = read_small_table(path, COLUMNS)
        columns = {name: table.column(name).to_pylist() for name in COLUMNS}
        metadata = table.schema.metadata or {}
        if unknown := set(columns["verdict"]) - {OVERLAP, CLEAN}:
            raise ValueError(f"a verdict is {min(map(repr, unknown))}, not {OVERLAP!r} or {CLEAN!r}")
        sets, overlaps = _by_set(columns)
    except Exception as error:  # a broken file can raise any error
        raise DataError(f"{path} is no table of verdicts ({', '.join(COLUMNS)}): {error}") from error
    return Duplicates(sets, overlaps, *(metadata.get(name, b"").decode() for name in (TRAINING_DATA, _SCORED_BY)))


def _by_set(columns: Mapping[str, list]) -> tuple[tuple[SetNearest, ...], dict[str, np.ndarray]]:
    if not all(isinstance(name, str) for column in ("dataset", "key", "nearest_key") for name in columns[column]):
        raise ValueError("dataset, key and nearest_key must be texts")
    scores = np.array(columns["score"], np.float64)
    if not (np.abs(scores) < np.finfo(np.float32).max).all():  # NaN is not less
        raise ValueError("a score is no number")
    overlapping = np.array([verdict == OVERLAP for verdict in columns["verdict"]], bool)
    rows_of: dict[str, list[int]] = {}
    for row, dataset in enumerate(columns["dataset"]):
        rows_of.setdefault(dataset, []).append(row)
    sets, overlaps = [], {}
    for dataset, rows in rows_of.items():
        keys, nearest_keys = (tuple(columns[name][row] for row in rows) for name in ("key", "nearest_key"))
        sets.append(SetNearest(dataset, keys, nearest_keys, scores[rows].astype(np.float32)))
        overlaps[dataset] = overlapping[rows]
    return tuple(sets), overlaps


def check_unique(names: Iterable[str]) -> None:
    """Check that all evaluation sets have different names.

    Raises:
        InputError: two have the same.
    """
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"two evaluation sets are called {repeated[0]}; rename a folder, or search into two --out")
