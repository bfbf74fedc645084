"""The frozen records that packages pass to each other.

Shape letters, the same in all of Diptych: N pairs here, G pairs in all ranks, L tokens, W width, H heads,
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
    """One image with its texts. Readers yield Samples; overlap detection and curation pass them on.

    Attributes:
        key: unique name inside its source.
        image: the encoded file (JPEG, PNG, WebP, ...), or pixels already decoded, uint8 (height, width, 3).
        texts: the captions; empty in sets that only have labels.
        label: class index, in labeled sets.
        metadata: other data of the sample (parsed .json, parquet columns).
    """

    key: str
    image: bytes | np.ndarray
    texts: tuple[str, ...] = ()
    label: int | None = None
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Broken:
    """A member of a source that cannot be used. It is counted, logged and skipped.

    Attributes:
        key: unique name inside its source.
        shard: the shard that contains it.
        reason: why it cannot be used.
        rest_lost: the rest of its shard is lost too, and the number of lost samples is unknown.
        by_layout: the file is valid, but its name or folder does not fit the layout. Others are probably lost the same
            way, so a measurement stops with an error.
        instead_of: the reason that was reported for this sample before. The sample is counted already, and this reason
            replaces the earlier one because it is more precise.
    """

    key: str
    shard: str
    reason: str
    rest_lost: bool = False
    by_layout: bool = False
    instead_of: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Pairs ready for a device, which normalizes the pixels.

    Attributes:
        images: uint8 (N, 3, R, R).
        tokens: int32 (N, L), zero-padded to the longest caption of the batch; L is 0 for pairs of images.
        lengths: int64 (N,), number of tokens from SOT to the first EOT; 0 for pairs of images.
        keys: N sample keys.
        copies: uint8 (N, 3, R, R), a changed copy of each image; None for pairs of an image and a caption.
    """

    images: torch.Tensor
    tokens: torch.Tensor
    lengths: torch.Tensor
    keys: tuple[str, ...]
    copies: torch.Tensor | None = None

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
    """The predictions of a classifier for each sample of a set.

    Attributes:
        keys: N sample keys.
        labels: int64 (N,), true classes.
        classes: int64 (N, K), predicted classes, best first.
        scores: float32 (N, K), their probabilities.
        ranks: int64 (N,), rank of the true class among all classes, 1 is best; None if ranks were not computed.
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
