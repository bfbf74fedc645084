"""The penalty of a linear probe: searched on validation data over a lattice of 97, with at most 15 fits.

The lattice is 10^(-6 + i / 8), i = 0 ... 96. First every sixteenth is tried; then, four times, the two neighbors of
the best at half the distance, until neighbors are an eighth of a decade apart. Of equal scores the one with the lower
cross-entropy on validation data wins: a metric that counts is level over decades where there are few rows to count, and
at the ends of such a plain lie classifiers that know frequencies alone. Of equal ones in both the larger penalty wins.
Beyond the ends of the lattice nothing is tried.

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
_FAR = 8  # from here on a straight line is a better guess than a curve


class Judged(NamedTuple):
    """How good a classifier is on validation data.

    Attributes:
        score: higher is better.
        loss: mean cross-entropy, nats, which decides between equal scores.
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
    """What was tried, in that order, and the best of it.

    Attributes:
        best: the trial with the highest score; of several, the one with the lowest loss.
        trials: 7 and up to 8 more.
    """

    best: Trial
    trials: tuple[Trial, ...]

    @property
    def edge(self) -> str | None:
        """ "weakest" or "strongest" where the best penalty lies at that end of the lattice; otherwise None."""
        return {lattice(0): "weakest", lattice(NUM_PENALTIES - 1): "strongest"}.get(self.best.penalty)


def lattice(index: int) -> float:
    """10^(-6 + index / 8)."""
    return 10.0 ** (-6 + index / 8)


def search_lattice(judge: Callable[[list[int]], list[Judged]]) -> Search:
    """Search for the best index of the lattice.

    Args:
        judge: of several indices at once.
    Raises:
        InputError: a score is NaN.
    """
    judged: dict[int, Judged] = {}
    distance = _FIRST_DISTANCE
    wanted = list(range(0, NUM_PENALTIES, distance))
    while True:
        for index, found in zip(wanted, judge(wanted), strict=True):
            if found.score != found.score:
                raise InputError(f"the score on validation data is NaN at lambda = {lattice(index):g}")
            judged[index] = Judged(float(found.score), float(found.loss))
        best = max(judged, key=lambda index: (judged[index].score, -judged[index].loss, index))
        distance //= 2
        if not distance:
            break
        near = (best - distance, best + distance)
        wanted = [index for index in near if 0 <= index < NUM_PENALTIES and index not in judged]
    trials = {index: Trial(lattice(index), *found) for index, found in judged.items()}
    return Search(trials[best], tuple(trials.values()))


def search_penalty(
    design: Design,
    labels: np.ndarray,
    num_classes: int,
    judge: Callable[[Fitted], Judged],
    *,
    max_iterations: int = 1000,
) -> tuple[Search, Fitted]:
    """Fit and judge classifiers until the best penalty is known; also gives the classifier of that penalty.

    A fit between others that are known starts at an interpolation of their weights over log lambda.

    Args:
        design: training rows.
        labels, num_classes, max_iterations: as `fit_logistic` takes them.
        judge: how good a classifier is on validation data.
    """
    fitted: dict[int, Fitted] = {}

    def all_judged(indices: list[int]) -> list[Judged]:
        starts = [_between(fitted, index) for index in indices] if fitted else None
        penalties = [lattice(index) for index in indices]
        options = {"starts": starts, "max_iterations": max_iterations}
        found = fit_logistic(design, labels, num_classes, penalties, certify=False, **options)  # type: ignore[arg-type]
        fitted.update(zip(indices, found, strict=True))
        return [judge(one) for one in found]

    search = search_lattice(all_judged)
    return search, next(one for one in fitted.values() if one.penalty == search.best.penalty)


def stratified_rows(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide rows into those to fit on and those to validate on, each ascending.

    Of each class the share is held out, rounded, but at least one row and never all. With several labels per row
    (bool (N, C)) rows are drawn without regard to them.

    Raises:
        InputError: a class has one row alone, or the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise InputError(f"the share of rows for validation must lie between 0 and 1; got {share}")
    labels, rng = np.asarray(labels), np.random.default_rng(seed)
    groups = np.zeros(len(labels), np.int64) if labels.ndim > 1 else np.unique(labels, return_inverse=True)[1]
    sizes = np.bincount(groups)
    if sizes.min() < 2:
        raise InputError(
            f"class {int(sizes.argmin())} has one row alone, so none can be held out for validation; "
            "give validation=(X, y) or a fixed penalty"
        )
    held = np.zeros(len(labels), bool)
    for group, size in enumerate(sizes):
        rows = np.flatnonzero(groups == group)
        held[rng.permutation(rows)[: min(max(1, round(share * size)), size - 1)]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def _between(fitted: dict[int, Fitted], index: int) -> Start:
    """An interpolation of weights and bias over log lambda: they change smoothly, so it is near the solution."""
    by_distance = sorted(fitted, key=lambda other: abs(other - index))
    near = by_distance[: 2 if abs(by_distance[0] - index) >= _FAR else 4]
    shares = [np.prod([(index - other) / (one - other) for other in near if other != one]) for one in near]
    weights = sum(share * fitted[one].weights for share, one in zip(shares, near, strict=True))
    return weights, sum(share * fitted[one].bias for share, one in zip(shares, near, strict=True))
