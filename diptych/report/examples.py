"""Single pictures with what a classifier said about them."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Example:
    """One picture of a set, and the classes that were thought the likeliest.

    Attributes:
        dataset: the set's name.
        truth: the name of its class.
        rank: of the true class among all, 1 being the best; None where it is beyond the classes that were kept.
        answers: names and probabilities (fractions), best first.
        right: place of the true class among `answers`, or None.
        kept: classes that were kept per picture.
        picture: uint8 (height, width, 3), or None.
    """

    dataset: str
    truth: str
    rank: int | None
    answers: Sequence[tuple[str, float]]
    right: int | None
    kept: int
    picture: np.ndarray | None = None

    def in_words(self) -> str:
        """correct: tabby cat, ranked 2"""
        return f"correct: {self.truth}, ranked {self.rank if self.rank is not None else f'below {self.kept}'}"
