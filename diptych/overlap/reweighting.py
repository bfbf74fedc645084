"""Accuracy on Clean with the class frequencies of Overlap: what the classes alone would make of the difference.

Copies are not spread evenly over classes. Where they lie in easy classes, Overlap has a higher accuracy than Clean
without any memory of the images. Re-weighting gives each class of Clean the share that it has in Overlap.

Source: CLIP paper, section 5, which names the caveat and does not compute it.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import ShapeError
from diptych.overlap.contamination import NO_CLEAN, NO_OVERLAP, Interval
from diptych.overlap.proportions import LEVEL, part_levels, rate_limits, weighted_rate

NO_SHARED_CLASS = "no class has images in both Overlap and Clean"


@dataclasses.dataclass(frozen=True, eq=False)
class ClassFrequencies:
    """How many images of each class are in Overlap and in Clean.

    Attributes:
        classes: (C,) class indices that occur, ascending.
        overlap, clean: int (C,) numbers of images.
    """

    classes: np.ndarray
    overlap: np.ndarray
    clean: np.ndarray

    @property
    def shared(self) -> np.ndarray:
        """bool (C,), whether a class has images in both."""
        return (self.overlap > 0) & (self.clean > 0)

    @property
    def distance(self) -> float | None:
        """Total variation distance of the two frequencies: 0 if equal, 1 without shared class; None if one is empty."""
        if not (self.overlap.sum() and self.clean.sum()):
            return None
        return float(np.abs(self.overlap / self.overlap.sum() - self.clean / self.clean.sum()).sum() / 2)


def class_frequencies(labels: ArrayLike, overlap: ArrayLike) -> ClassFrequencies:
    """Count the images of each class in Overlap and in Clean.

    Args:
        labels: int (N,), the class of each image.
        overlap: bool (N,), whether each image overlaps with the training data.
    Raises:
        ShapeError: they are not an int and a bool row of one length.
    """
    classes, copied = np.asarray(labels), np.asarray(overlap)
    if classes.shape != copied.shape or classes.ndim != 1 or classes.dtype.kind not in "iu" or copied.dtype != bool:
        raise ShapeError(
            "class frequencies need an int row of classes and a bool row of one length: "
            f"got {classes.dtype} {classes.shape} and {copied.dtype} {copied.shape}"
        )
    present, index = np.unique(classes, return_inverse=True)
    counts = (np.bincount(index[rows], minlength=len(present)) for rows in (copied, ~copied))
    return ClassFrequencies(present, *counts)


@dataclasses.dataclass(frozen=True)
class Reweighted:
    """Overlap against Clean with Overlap's class frequencies.

    Only classes with images in both count; a class that is in Overlap alone has no Clean image to compare with.
    All but the first three fields are None where nothing can be compared; `reason` says why.

    Attributes:
        num_classes, num_shared: classes in Overlap, and those of them that are in Clean, too.
        covered: share of Overlap's images in the shared classes; 0 without overlap.
        overlap: accuracy on Overlap's images of the shared classes.
        clean: accuracy on Clean, re-weighted.
        gap: overlap - clean.
        interval: its interval.
        effective_clean: number of independent Clean images to which the re-weighted ones are equivalent.
        level: level of the interval.
        reason: why nothing can be compared; None if it can.
    """

    num_classes: int
    num_shared: int
    covered: float
    overlap: float | None
    clean: float | None
    gap: float | None
    interval: Interval | None
    effective_clean: float | None
    level: float
    reason: str | None = None


def reweighted_gap(correct: ArrayLike, overlap: ArrayLike, labels: ArrayLike, *, level: float = LEVEL) -> Reweighted:
    """Overlap - Clean with the class frequencies of Overlap.

    The interval takes the class frequencies as facts of this set. The error is divided as in `difference_limits`:
    Overlap gets a Clopper-Pearson interval, which covers for images of unequal difficulty, too (Hoeffding 1956). Clean
    gets one with the effective number of trials of `weighted_rate`, which is approximate; the tests simulate it.

    Args:
        correct: bool (N,), whether the model classifies each image correctly.
        overlap: bool (N,), whether each image overlaps with the training data.
        labels: int (N,), the class of each image.
        level: level of the interval, in (0, 1).
    Raises:
        ShapeError: the rows do not fit together.
    """
    right, copied, classes = np.asarray(correct), np.asarray(overlap), np.asarray(labels)
    frequencies = class_frequencies(classes, copied)
    if right.shape != copied.shape or right.dtype != bool:
        raise ShapeError(f"correct must be a bool row of {len(copied)} images: got {right.dtype} {right.shape}")
    shared = frequencies.shared
    n_overlap, n_clean = frequencies.overlap[shared], frequencies.clean[shared]
    num_copied = int(copied.sum())
    counted = int((frequencies.overlap > 0).sum()), int(shared.sum()), int(n_overlap.sum()) / max(num_copied, 1)
    reason = NO_OVERLAP if not num_copied else NO_CLEAN if copied.all() else NO_SHARED_CLASS
    if not shared.any():
        return Reweighted(*counted, None, None, None, None, None, level, reason)

    index = np.searchsorted(frequencies.classes, classes)
    right_overlap, right_clean = (
        np.bincount(index[rows & right], minlength=len(shared))[shared] for rows in (copied, ~copied)
    )
    weights = n_overlap / n_overlap.sum()
    clean, effective = weighted_rate(right_clean, n_clean, weights)
    # The parts of the error depend on the numbers of images alone, not on how many are right.
    nominal = 1 / float((weights**2 / n_clean).sum())
    levels = part_levels(float(n_overlap.sum()), nominal, level)
    first = rate_limits(right_overlap.sum(), n_overlap.sum(), levels[0])
    second = rate_limits(clean * effective, effective, levels[1])
    accuracy = float(right_overlap.sum() / n_overlap.sum())
    interval = (float(first[0] - second[1]), float(first[1] - second[0]))
    return Reweighted(*counted, accuracy, clean, accuracy - clean, interval, effective, level)
