"""Accuracy on the Overlap, Clean and All images of one evaluation set, and whether the difference can be chance.

Overlap are the images of which a copy was found in the training data, Clean the others, All both. Arrays go in, numbers
come out. docs/overlap_statistics.md has the formulas.

Source: CLIP paper, section 5 and figure 17.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import InputError, ShapeError
from diptych.evaluate.metrics.comparison import holm
from diptych.overlap.proportions import LEVEL, binomial_p, check_level, difference_limits, fisher_p, rate_limits

Interval = tuple[float, float]
"""(low, high)."""
NO_OVERLAP = "no image of the set overlaps with the training data"
NO_CLEAN = "every image of the set overlaps with the training data"


@dataclasses.dataclass(frozen=True)
class Subsets:
    """Counts of one evaluation set.

    Attributes:
        n_all, n_overlap: numbers of images, and of those that overlap with the training data.
        right_all, right_overlap: the numbers of them that the model classifies correctly.
    """

    n_all: int
    n_overlap: int
    right_all: int
    right_overlap: int

    def __post_init__(self) -> None:
        fits = 0 <= self.n_overlap <= self.n_all and self.n_all >= 1 and 0 <= self.right_overlap <= self.n_overlap
        if not (fits and 0 <= self.right_clean <= self.n_clean):
            raise InputError(f"the counts of Overlap and All do not fit together: {self}")

    @property
    def n_clean(self) -> int:
        """The number of images without overlap."""
        return self.n_all - self.n_overlap

    @property
    def right_clean(self) -> int:
        """The number of Clean images that are classified correctly."""
        return self.right_all - self.right_overlap

    @property
    def accuracy_all(self) -> float:
        """The accuracy on all images."""
        return self.right_all / self.n_all

    @property
    def accuracy_overlap(self) -> float | None:
        """The accuracy on Overlap; None if it is empty."""
        return self.right_overlap / self.n_overlap if self.n_overlap else None

    @property
    def accuracy_clean(self) -> float | None:
        """The accuracy on Clean; None if it is empty."""
        return self.right_clean / self.n_clean if self.n_clean else None

    @property
    def contamination(self) -> float:
        """f, the share of images that overlap."""
        return self.n_overlap / self.n_all

    @property
    def gap(self) -> float | None:
        """Overlap - Clean, a fraction; None if one of them is empty."""
        overlap, clean = self.accuracy_overlap, self.accuracy_clean
        return None if overlap is None or clean is None else overlap - clean

    @property
    def difference(self) -> float | None:
        """All - Clean = f * (Overlap - Clean): what overlap adds. 0 without overlap, None without Clean."""
        if self.accuracy_clean is None:
            return None
        return 0.0 if self.gap is None else self.contamination * self.gap

    @property
    def undefined(self) -> str | None:
        """Why Overlap and Clean cannot be compared; None if they can."""
        return NO_OVERLAP if not self.n_overlap else None if self.n_clean else NO_CLEAN


def subset_accuracies(correct: ArrayLike, overlap: ArrayLike) -> Subsets:
    """Count an evaluation set's images.

    Args:
        correct: bool (N,), whether the model classifies each image correctly.
        overlap: bool (N,), whether each image overlaps with the training data.
    Raises:
        ShapeError: they are not bool arrays of one length with at least one image.
    """
    right, copied = np.asarray(correct), np.asarray(overlap)
    if (
        right.shape != copied.shape
        or right.ndim != 1
        or not right.size
        or {right.dtype, copied.dtype} != {np.dtype(bool)}
    ):
        raise ShapeError(
            "Overlap and Clean need two bool rows of one length: "
            f"got {right.dtype} {right.shape}, {copied.dtype} {copied.shape}"
        )
    return Subsets(len(right), int(copied.sum()), int(right.sum()), int((right & copied).sum()))


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The comparison of Overlap and Clean of one evaluation set.

    A field is None where Overlap or Clean is empty; `subsets.undefined` says which.

    Attributes:
        subsets: the counts and accuracies.
        level: level of the intervals.
        p: the paper's one-tailed binomial test, P(X >= right_overlap) for X ~ Bin(n_overlap, accuracy_clean). It takes
            accuracy_clean as known. Where Clean is not much larger than Overlap, it therefore rejects more often than
            its level says.
        p_exact: Fisher's exact one-tailed test, which counts the sampling of Clean, too, and holds its level.
        overlap_interval: Clopper-Pearson interval of the accuracy on Overlap.
        paper_gap_interval: the same less accuracy_clean: the interval of Overlap - Clean in figure 17. It takes
            accuracy_clean as known.
        gap_interval: interval of Overlap - Clean with the sampling of both; it covers at least at the level.
        difference_interval: interval of All - Clean, f times gap_interval: f is a fact of this set, not an estimate.
    """

    subsets: Subsets
    level: float
    p: float | None
    p_exact: float | None
    overlap_interval: Interval | None
    paper_gap_interval: Interval | None
    gap_interval: Interval | None
    difference_interval: Interval | None


def analyse(subsets: Subsets, *, level: float = LEVEL) -> Analysis:
    """Test and estimate what overlap changes in the accuracy of one set.

    Args:
        subsets: its counts, from `subset_accuracies`.
        level: level of the intervals, in (0, 1).
    Source: CLIP paper, section 5; p_exact and the intervals of both samples are not in the paper.
    """
    check_level(level)
    s, clean = subsets, subsets.accuracy_clean
    overlap = _floats(rate_limits(s.right_overlap, s.n_overlap, level)) if s.n_overlap else None
    if overlap is None or clean is None:
        # Without overlap All is Clean, so that their difference is 0 for sure.
        none = (0.0, 0.0) if overlap is None else None
        return Analysis(s, level, None, None, overlap, None, None, none)
    low, high = _floats(difference_limits(s.right_overlap, s.n_overlap, s.right_clean, s.n_clean, level))
    f = s.contamination
    return Analysis(
        subsets=s,
        level=level,
        p=float(binomial_p(s.right_overlap, s.n_overlap, clean)),
        p_exact=fisher_p(s.right_overlap, s.n_overlap, s.right_all, s.n_all),
        overlap_interval=overlap,
        paper_gap_interval=(overlap[0] - clean, overlap[1] - clean),
        gap_interval=(low, high),
        difference_interval=(f * low, f * high),
    )


@dataclasses.dataclass(frozen=True)
class Corrected:
    """A set's p-value and its adjustments for the number of sets, for one test."""

    p: float
    bonferroni: float
    holm: float


def correct_over_sets(p_by_set: Mapping[str, float | None], *, num_tests: int | None = None) -> dict[str, Corrected]:
    """Adjust p-values for the number of sets: the family-wise error rate is then that of one test.

    Args:
        p_by_set: p-values by set; None for a set without test, which is left out.
        num_tests: size of the family; by default the number of tests. Sets without overlap have no test; whether the
            paper counts them is not stated.
    Raises:
        InputError: num_tests is smaller than the number of tests.
    Source: Bonferroni, which the paper uses, and Holm (1979), which rejects at least as often at the same rate.
    """
    tested = {name: p for name, p in p_by_set.items() if p is not None}
    size = len(tested) if num_tests is None else num_tests
    if size < len(tested):
        raise InputError(f"a family of {size} tests cannot hold {len(tested)} p-values")
    # Tests that were not made count as tests with p = 1.
    adjusted = holm([*tested.values(), *[1.0] * (size - len(tested))])
    return {
        name: Corrected(p, min(1.0, size * p), step) for (name, p), step in zip(tested.items(), adjusted, strict=False)
    }


@dataclasses.dataclass(frozen=True)
class Detectable:
    """The smallest effect that the one-tailed binomial test finds with a given power.

    Attributes:
        least_right: the test rejects from this many correct images of Overlap; None if it never rejects.
        gap: smallest Overlap - Clean, a fraction; None if not even an accuracy of 1 would do.
        difference: the same as All - Clean.
        reason: why there is none; None if there is one.
    """

    least_right: int | None
    gap: float | None
    difference: float | None
    reason: str | None = None


def smallest_detectable(
    n_overlap: int, n_all: int, accuracy_clean: float, *, alpha: float = 0.05, power: float = 0.8
) -> Detectable:
    """What a set with so many overlapping images could have shown.

    Args:
        n_overlap, n_all: numbers of images.
        accuracy_clean: accuracy on Clean, taken as known, as the test does.
        alpha: level of the one-tailed binomial test; for Bonferroni's correction, divided by the number of sets.
        power: probability of a rejection if the effect is as large as stated; above alpha.
    Raises:
        InputError: a number is outside its range.
    """
    from scipy.special import betaincinv

    check_level(alpha, "alpha")
    check_level(power, "power")
    if power <= alpha:
        raise InputError(f"power is {power}; it must be above alpha, {alpha}, which no effect at all reaches")
    if not (0 <= n_overlap <= n_all and n_all >= 1 and 0 <= accuracy_clean <= 1):
        raise InputError(f"{n_overlap} of {n_all} images and an accuracy of {accuracy_clean} do not fit together")
    if not n_overlap:
        return Detectable(None, None, None, NO_OVERLAP)
    least = _least_rejected(n_overlap, accuracy_clean, alpha)
    if least is None:
        few = f"{n_overlap} overlapping images are too few: all correct would be no proof"
        full = "every Clean image is right, so that Overlap cannot be better"
        return Detectable(None, None, None, full if accuracy_clean == 1 else few)
    # P(X >= least) grows with the rate; this is the rate at which it is the power.
    rate = float(betaincinv(least, n_overlap - least + 1, power))
    gap = rate - accuracy_clean
    return Detectable(least, gap, n_overlap / n_all * gap)


def _least_rejected(n: int, rate: float, alpha: float) -> int | None:
    """The least k with P(X >= k) <= alpha for X ~ Bin(n, rate); None if there is none up to n."""
    low, high = 0, n + 1  # P(X >= 0) = 1 is above alpha, P(X >= n + 1) = 0 is not
    while high - low > 1:
        middle = (low + high) // 2
        if float(binomial_p(middle, n, rate)) <= alpha:
            high = middle
        else:
            low = middle
    return high if high <= n else None


def _floats(limits: tuple[np.ndarray, np.ndarray]) -> Interval:
    return float(limits[0]), float(limits[1])
