"""The penalty of a linear probe: searched on validation data over a lattice of 97, with at most 15 fits.

The lattice is 10^(-6 + i / 8), i = 0 ... 96. First every sixteenth value is tried; then, four times, the two neighbors
of the best value at half the distance, until neighbors are an eighth of a decade apart. Ties are broken by the lower
cross-entropy on validation data: with few rows, a metric that counts correct rows can be constant over decades, and at
the ends of such a range lie classifiers that only know class frequencies. If both are equal, the larger penalty wins.
Penalties outside the lattice are not tried.

Source: CLIP paper, appendix A.3, which leaves ties and ends open.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from diptych.errors import InputError
from diptych.evaluate.probe.design import Design
from diptych.evaluate.probe.logistic import Fitted, Start, fit_logistic

NUM_PENALTIES = 97
_FIRST_DISTANCE = 16
_FAR = 8  # from this distance on, linear interpolation is a better guess than cubic


class Judged(NamedTuple):
    """The quality of a classifier on validation data.

    Attributes:
        score: higher is better.
        loss: mean cross-entropy, nats, which breaks ties of the score.
    """

    score: float
    loss: float = 0.0


@dataclasses.dataclass(frozen=True)
class Trial:
    """One point of the lattice: lambda, and its score and loss on validation data."""

    penalty: float
    score: float
    loss: float = 0.0


@dataclasses.dataclass(frozen=True)
class Search:
    """The trials of a search, in order, and the best one.

    Attributes:
        best: the trial with the highest score; on ties, the one with the lowest loss.
        trials: 7 to 15 trials.
    """

    best: Trial
    trials: tuple[Trial, ...]

    @property
    def edge(self) -> str | None:
        """ "weakest" or "strongest" if the best penalty lies at that end of the lattice; otherwise None."""
        return {lattice(0): "weakest", lattice(NUM_PENALTIES - 1): "strongest"}.get(self.best.penalty)


def lattice(index: int) -> float:
    """10^(-6 + index / 8)."""
    return 10.0 ** (-6 + index / 8)


def search_lattice(judge: Callable[[list[int]], list[Judged]]) -> Search:
    """Search the lattice for the best penalty.

    Args:
        judge: judges several lattice indices at once.
    Raises:
        InputError: a score is NaN.
    """
    judged: dict[int, Judged] = {}
    distance = _FIRST_DISTANCE
    pending = list(range(0, NUM_PENALTIES, distance))
    while True:
        for index, judgment in zip(pending, judge(pending), strict=True):
            if judgment.score != judgment.score:
                raise InputError(f"the score on validation data is NaN at lambda = {lattice(index):g}")
            judged[index] = Judged(float(judgment.score), float(judgment.loss))
        best = max(judged, key=lambda index: (judged[index].score, -judged[index].loss, index))
        distance //= 2
        if not distance:
            break
        near = (best - distance, best + distance)
        pending = [index for index in near if 0 <= index < NUM_PENALTIES and index not in judged]
    trials = {index: Trial(lattice(index), *judgment) for index, judgment in judged.items()}
    return Search(trials[best], tuple(trials.values()))


def search_penalty(
    design: Design,
    labels: np.ndarray,
    num_classes: int,
    judge: Callable[[Fitted], Judged],
    *,
    max_iterations: int = 1000,
) -> tuple[Search, Fitted]:
    """Search for the best penalty; returns the Search and the classifier of that penalty.

    After the first round, a fit starts at an interpolation of earlier weights over log lambda.

    Args:
        design: training rows.
        labels, num_classes, max_iterations: as `fit_logistic` takes them.
        judge: judges a classifier on validation data.
    """
    fitted: dict[int, Fitted] = {}

    def all_judged(indices: list[int]) -> list[Judged]:
        starts = [_between(fitted, index) for index in indices] if fitted else None
        penalties = [lattice(index) for index in indices]
        options = {"starts": starts, "max_iterations": max_iterations}
        fits = fit_logistic(design, labels, num_classes, penalties, certify=False, **options)  # type: ignore[arg-type]
        fitted.update(zip(indices, fits, strict=True))
        return [judge(fit) for fit in fits]

    search = search_lattice(all_judged)
    return search, next(fit for fit in fitted.values() if fit.penalty == search.best.penalty)


def stratified_rows(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide rows into those to fit and those to validate on, both ascending.

    The rounded share of each class is held out, but at least one row and never all rows. With several labels per row,
    bool (N, C), rows are drawn regardless of their labels.

    Raises:
        InputError: a class has only one row, or the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise InputError(f"the share of rows for validation must lie between 0 and 1; got {share}")
    labels, rng = np.asarray(labels), np.random.default_rng(seed)
    groups = np.zeros(len(labels), np.int64) if labels.ndim > 1 else np.unique(labels, return_inverse=True)[1]
    sizes = np.bincount(groups)
    if sizes.min() < 2:
        raise InputError(
            f"class {int(sizes.argmin())} has only one row, so none can be held out for validation; "
            "give validation=(X, y) or a fixed penalty"
        )
    held = np.zeros(len(labels), bool)
    for group, size in enumerate(sizes):
        rows = np.flatnonzero(groups == group)
        held[rng.permutation(rows)[: min(max(1, round(share * size)), size - 1)]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _between(fitted: dict[int, Fitted], index: int) -> Start:
    """Interpolate weights and bias over log lambda: they change smoothly, so the result is near the solution."""
    by_distance = sorted(fitted, key=lambda other: abs(other - index))
    nearest = by_distance[: 2 if abs(by_distance[0] - index) >= _FAR else 4]
    shares = [np.prod([(index - other) / (known - other) for other in nearest if other != known]) for known in nearest]
    weights = sum(share * fitted[known].weights for share, known in zip(shares, nearest, strict=True))
    return weights, sum(share * fitted[known].bias for share, known in zip(shares, nearest, strict=True))
