"""Images in, scores of the labels out: arrays alone, so that a compiled model needs no torch."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from diptych.embed.image_inputs import OnError
from diptych.errors import InputError, ShapeError


@dataclasses.dataclass(frozen=True, eq=False)
class Scorer:
    """A model with the vectors of the labels.

    Attributes:
        encode: paths of images, and what to do with broken ones -> (N, E) float32, unit norm; broken rows are NaN.
        classes: (C, E) float32, unit norm, one vector per label.
        logit_scale: exp(t).
        identity: a digest of the model, kept in every row of a label file.
    """

    encode: Callable[[Sequence[str], OnError], np.ndarray]
    classes: np.ndarray
    logit_scale: float
    identity: str

    def cosines(self, embeddings: np.ndarray) -> np.ndarray:
        """(N, E) -> (N, C) float32.

        Raises:
            ShapeError: images and labels differ in E.
            InputError: an image's embedding is not finite.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.classes.shape[1]:
            raise ShapeError(f"embeddings {embeddings.shape} do not fit labels {self.classes.shape}: (N, E), (C, E)")
        if broken := int((~np.isfinite(embeddings)).any(axis=1).sum()):
            raise InputError(f"{broken} of {len(embeddings)} image embeddings hold NaN or infinity; check the weights")
        return embeddings @ self.classes.T

    def probabilities(self, cosines: np.ndarray) -> np.ndarray:
        """The softmax of the scaled cosines: (N, C) float32."""
        logits = self.logit_scale * cosines
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)


def best_classes(scores: np.ndarray, k: int) -> np.ndarray:
    """The k classes with the highest scores (N, C) -> int64 (N, k), best first; the lower index first on ties."""
    rest, columns = scores.copy(), []
    rows = np.arange(len(scores))
    for _ in range(k):  # for a handful of k faster than sorting, and with defined ties
        columns.append(rest.argmax(axis=1))
        rest[rows, columns[-1]] = -np.inf
    return np.stack(columns, axis=1)
