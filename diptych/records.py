"""The frozen records that cross the borders between packages.

Shape letters, one legend for all of Diptych: N pairs here, G pairs in all ranks, L tokens, W width, H heads,
E embedding, C classes, T templates, K top-k, R resolution.
"""

import contextlib
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych.errors import DataError


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One picture with its texts, as readers yield it and as overlap and curation pass it on.

    Attributes:
        key: unique name inside its source.
        image: the encoded file (JPEG, PNG, WebP, ...), or pixels already decoded, uint8 (height, width, 3).
        texts: the captions; empty in sets that have labels alone.
        label: class index in labelled sets.
        metadata: what else came with the sample (parsed .json, parquet columns).
    """

    key: str
    image: bytes | np.ndarray
    texts: tuple[str, ...] = ()
    label: int | None = None
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Broken:
    """A member of a source that could not be used: it is counted, named in the log and skipped.

    Attributes:
        key: unique name inside its source.
        shard: where it lies.
        reason: why it cannot be used.
        rest_lost: all that followed it in its shard is lost, too, and nobody can tell how much that was.
    """

    key: str
    shard: str
    reason: str
    rest_lost: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Pairs ready for a device; pixels are normalised there.

    Attributes:
        images: uint8 (N, 3, R, R).
        tokens: int32 (N, L), zero-padded to the longest caption of the batch.
        lengths: int64 (N,), number of tokens from SOT to the first EOT.
        keys: N sample keys.
    """

    images: torch.Tensor
    tokens: torch.Tensor
    lengths: torch.Tensor
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.keys)


@dataclasses.dataclass(frozen=True, slots=True)
class Predictions:
    """What a classifier said about each sample of a set.

    Attributes:
        keys: N sample keys.
        labels: int64 (N,), true classes.
        classes: int64 (N, K), predicted classes, best first.
        scores: float32 (N, K), their probabilities.
        ranks: int64 (N,), of the true class among all, 1 being the best; None where nobody counted.
    """

    keys: tuple[str, ...]
    labels: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """One measured number: a row of a results.jsonl file.

    Attributes:
        task: kind of measurement, e.g. "zero_shot".
        metric: "accuracy", "accuracy_top_5", "mean_per_class_accuracy", "recall_at_k", ...: fractions in [0, 1];
            another unit stands in the name ("error_km").
        interval: method and level of [low, high], e.g. "clopper-pearson 99.5%"; None where there is none.
        protocol: how it was measured; for zero-shot "single" or "ensemble".
        paper: None, or {"value", "source"}: the paper's own number.
        run: {"command", "commit", "machine", "fingerprint"}.
    """

    task: str
    dataset: str
    split: str
    metric: str
    value: float
    n: int
    low: float | None
    high: float | None
    interval: str | None
    protocol: str
    model: str
    paper: Mapping[str, Any] | None = None
    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def write_results(results: Iterable[Result], path: str | Path) -> None:
    """Append results to a JSON-lines file, one row each: all or none; the folder is made if it is missing.

    Raises:
        DataError: the file cannot be written (a full disk); it is as it was.
    """
    path = Path(path)
    text = "".join(json.dumps(dataclasses.asdict(result), ensure_ascii=False) + "\n" for result in results)
    # The name of a file may hold half a surrogate pair, which UTF-8 has not; its backslash form is JSON's own.
    rows = text.encode("utf-8", "backslashreplace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab", buffering=0) as file:
            _write_all_or_none(file, rows)
    except OSError as error:
        raise DataError(
            f"cannot write results to {path}: {error.strerror}; free some space or choose another file"
        ) from error


def _write_all_or_none(file: io.FileIO, rows: bytes) -> None:
    """Append to an unbuffered file; what a full disk took of it is cut off again."""
    length, rest = os.fstat(file.fileno()).st_size, memoryview(rows)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        with contextlib.suppress(OSError):  # of the two errors, the first tells more
            file.truncate(length)
        raise


def read_results(path: str | Path) -> list[Result]:
    """Read a results.jsonl file back.

    Raises:
        DataError: the file cannot be read, or a row is no Result; the message names file and line.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise DataError(f"cannot read results from {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} holds no results: it is not UTF-8 (byte {error.start})") from error
    results = []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                results.append(Result(**json.loads(line)))
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{path}, line {number} is no result ({error}); mend the line or take it out") from error
    return results
