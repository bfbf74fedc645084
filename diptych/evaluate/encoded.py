"""A set's pictures as vectors, computed once for all tasks and kept on disk."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.benchmarks import Benchmark
from diptych.embed.encoder import Encoder

KINDS = ("embeddings", "features")


@dataclasses.dataclass(frozen=True)
class Encoded:
    """The pictures of one split, in its order, without the broken ones.

    Attributes:
        keys: N sample keys.
        labels: int64 (N,); 0 in sets without classes.
        vectors: float32 (N, D): embeddings of unit norm, or features before the projection; mapped from disk if kept.
        texts: of each sample, its captions.
        metadata: of each sample, what its reader knows beside.
        num_broken: samples that were left out.
        fingerprint: changes with the model's weights, its preprocessing, the data, and the kind of vector.
    """

    keys: tuple[str, ...]
    labels: np.ndarray
    vectors: np.ndarray
    texts: tuple[tuple[str, ...], ...]
    metadata: tuple[Mapping[str, Any], ...]
    num_broken: int
    fingerprint: str


def encode_set(
    encoder: Encoder, benchmark: Benchmark, kind: str = "embeddings", *, cache: Path | None = None, num_workers: int = 0
) -> Encoded:
    """Encode a split, or read what an earlier run kept."""
    raise NotImplementedError
