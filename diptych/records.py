"""The frozen records that cross the borders between packages.

Shape letters, one legend for all of Diptych: N pairs here, G pairs in all ranks, L tokens, W width, H heads,
E embedding, C classes, T templates, K top-k, R resolution.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch


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
    """A member of a source that could not be used: it is counted, named in the log and skipped."""

    key: str
    shard: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Pairs ready for a device; pixels are normalised there.

    Attributes:
        images: uint8 (N, 3, R, R).
        tokens: int32 (N, L), zero-padded to the longest caption of the batch.
        lengths: int64 (N,), number of tokens with SOT and EOT.
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
    """

    keys: tuple[str, ...]
    labels: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


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
    """Append results to a JSON-lines file, one row each; the folder is made if it is missing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        for result in results:
            file.write(json.dumps(dataclasses.asdict(result), ensure_ascii=False) + "\n")


def read_results(path: str | Path) -> list[Result]:
    """Read a results.jsonl file back."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [Result(**json.loads(line)) for line in lines if line.strip()]
