"""Score normalisation of a copy search: what resembles everything must score higher to count as a copy.

A query's scores are lowered by beta times the mean of its n best scores against a background set, images that are known
to be no copies. A blank image, a digit or a common scene has close neighbours in any collection, so its scores fall; a
copy of a distinctive photograph has none. One threshold then fits all queries better.

The subtraction becomes a part of the dot product: queries get one more dimension, -beta * mean, and references a
constant 1. The vectors are then no longer of unit norm, but exact search by dot products takes them as they are. The
nearest reference of a query stays the same; only its score changes, so that thresholds for cosines no longer apply.

Source: Pizzi et al., A Self-Supervised Descriptor for Image Copy Detection (SSCD), 2022, section 5.4.
"""

import dataclasses

import numpy as np

from diptych.embed.neighbours import nearest_neighbours
from diptych.errors import ConfigError, ShapeError


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreNormalisation:
    """A background set and how it lowers scores.

    Attributes:
        background: float (B, E), unit norm; at least `num_neighbours` images, none of them a copy of a query.
        num_neighbours: n, how many of the best background scores are averaged.
        beta: share of their mean that is subtracted; 0 changes nothing.
    Raises:
        ConfigError: the background has fewer than n vectors, n is below 1, or beta is negative.
        ShapeError: the background is not a matrix.
    """

    background: np.ndarray
    num_neighbours: int = 10
    beta: float = 1.0

    def __post_init__(self) -> None:
        if np.ndim(self.background) != 2:
            raise ShapeError(f"the background has the shape {np.shape(self.background)}; (B, E) is needed")
        if not 1 <= self.num_neighbours <= len(self.background):
            raise ConfigError(
                f"num_neighbours is {self.num_neighbours}; with a background of {len(self.background)} images it must "
                "be 1 or more, and at most their number"
            )
        if not 0 <= self.beta < float("inf"):
            raise ConfigError(f"beta is {self.beta!r}; it must be 0 or more")

    def penalties(self, queries: np.ndarray) -> np.ndarray:
        """What is subtracted from each query's scores: float (N, E) -> float32 (N,)."""
        nearest = nearest_neighbours(queries, self.background, self.num_neighbours)
        return (self.beta * nearest.scores.mean(axis=1, dtype=np.float64)).astype(np.float32)

    def augment_queries(self, queries: np.ndarray) -> np.ndarray:
        """Queries, float (N, E) -> float32 (N, E + 1); the last column is minus the penalty."""
        return np.column_stack([np.asarray(queries, np.float32), -self.penalties(queries)])

    def augment_references(self, references: np.ndarray) -> np.ndarray:
        """References, float (M, E) -> float32 (M, E + 1); the last column is 1.

        Raises:
            ShapeError: they differ from the background in E.
        """
        if np.ndim(references) != 2 or references.shape[1] != self.background.shape[1]:
            raise ShapeError(
                f"references {np.shape(references)} do not fit a background of width {self.background.shape[1]}"
            )
        return np.column_stack([np.asarray(references, np.float32), np.ones(len(references), np.float32)])
