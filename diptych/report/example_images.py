"""Single images with the predictions of a classifier."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Example:
    """One image of a set, and the classes with the highest probabilities.

    Attributes:
        dataset: the set's name.
        truth: name of the true class.
        rank: rank of the true class among all classes, 1 is best; None if it is below the kept classes.
        answers: names and probabilities (fractions), best first.
        right: index of the true class in `answers`, or None.
        kept: number of classes that were kept per image.
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
        """Text such as "correct: tabby cat, ranked 2"."""
        return f"correct: {self.truth}, ranked {self.rank if self.rank is not None else f'below {self.kept}'}"


@dataclasses.dataclass(frozen=True)
class ImagePair:
    """Two images side by side, such as an evaluation image and the training image that is most similar to it.

    Attributes:
        words: what the pair is, one line.
        left, right: uint8 (height, width, 3), or None for an image that cannot be shown.
    """

    words: str
    left: np.ndarray | None
    right: np.ndarray | None
