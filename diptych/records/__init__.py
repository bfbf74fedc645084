"""The frozen records that cross the borders between packages.

Shape letters, one legend for all of Diptych: N pairs here, G pairs in all ranks, L tokens, W width, H heads,
E embedding, C classes, T templates, K top-k, R resolution.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from diptych.records.result import Condition, Result, check_result, is_number
from diptych.records.results_file import merge_results, parse_result, parse_results, read_results, write_results
from diptych.records.wording import kind_of, protocol_in_words

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = [
    "Batch",
    "Broken",
    "Condition",
    "Embeddings",
    "Predictions",
    "Result",
    "Sample",
    "check_result",
    "is_number",
    "kind_of",
    "merge_results",
    "parse_result",
    "parse_results",
    "protocol_in_words",
    "read_results",
    "write_results",
]


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
        by_layout: its file is sound, but its name or its place loses it, as it loses others: a measurement stops.
        instead_of: the reason that stood for this sample so far: it is counted already, and this one tells more.
    """

    key: str
    shard: str
    reason: str
    rest_lost: bool = False
    by_layout: bool = False
    instead_of: str | None = None


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

    def __repr__(self) -> str:
        """Shapes, not numbers."""
        return f"Batch(images {tuple(self.images.shape)}, tokens {tuple(self.tokens.shape)})"

    def __len__(self) -> int:
        return len(self.keys)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Embeddings as `embed.store` holds them, and as overlap, search and retrieval read them.

    Attributes:
        vectors: float32 (N, E), unit L2 norm; perhaps mapped from disk.
        keys: N sample keys, perhaps read lazily.
        manifest: model, preprocessing, precision, backend and fingerprint of the data.
    """

    vectors: np.ndarray
    keys: Sequence[str]
    manifest: Mapping[str, Any]


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

    def __repr__(self) -> str:
        """Shapes, not numbers."""
        ranks = "without" if self.ranks is None else "with"
        return f"Predictions({len(self.keys)} samples, best {self.classes.shape[-1]} classes, {ranks} ranks)"
