"""Effective data efficiency: how many labeled examples per class a probe needs to match zero-shot.

Source: CLIP paper, section 3.1.5 and figure 7.
"""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Iterable, Sequence

from diptych.errors import InputError, ShapeError


def examples_to_match(shots: Sequence[float], scores: Sequence[float], zero_shot: float) -> float | None:
    """The examples per class at which a few-shot curve first reaches the zero-shot score.

    Between two neighboring points the score is linear in the logarithm of the examples. A curve that is above the
    zero-shot score at its first point is prolonged to the left with the slope of its first two points, so that the
    count comes out below the first one (the paper prints 0.9, and does not say how it got there); where these two do
    not rise there is no slope to follow, and the first count is returned, as an upper bound. To the right nothing is
    prolonged: beyond the full training set there are no examples to be had.

    Args:
        shots: examples per class, positive and increasing; the last is usually the full training set's.
        scores: the probe's score at each, in any unit.
        zero_shot: the score to match, in the same unit.
    Returns:
        the count, or None where the curve stays below: zero-shot is worth more than the full training set.
    Raises:
        ShapeError: there is no point, or the columns differ in length.
        InputError: the shots do not increase from above 0, or a score is not finite.
    """
    if not shots or len(shots) != len(scores):
        raise ShapeError(f"a few-shot curve has {len(shots)} counts of examples and {len(scores)} scores")
    rising = all(one < following for one, following in itertools.pairwise(shots))
    if not rising or not 0 < shots[0] < math.inf or not math.isfinite(shots[-1]):
        raise InputError(f"examples per class must increase from above 0; got {', '.join(map(str, shots))}")
    if not all(map(math.isfinite, [*scores, zero_shot])):
        raise InputError(f"a score of the few-shot curve or the zero-shot score {zero_shot} is not finite")
    if scores[0] >= zero_shot:
        if len(shots) == 1 or scores[1] <= scores[0]:
            return float(shots[0])
        return _crossing(shots[:2], scores[:2], zero_shot)
    for place in range(1, len(shots)):
        if scores[place] >= zero_shot:
            return _crossing(shots[place - 1 : place + 1], scores[place - 1 : place + 1], zero_shot)
    return None


def _crossing(shots: Sequence[float], scores: Sequence[float], wanted: float) -> float:
    """Where the line through two points (log examples, score) has the wanted score."""
    share = (wanted - scores[0]) / (scores[1] - scores[0])
    return float(shots[0] * (shots[1] / shots[0]) ** share)


@dataclasses.dataclass(frozen=True, slots=True)
class Needed:
    """Examples per class over data sets.

    Attributes:
        mean: of the sets that reach zero-shot; None without any. Where `num_never` is not 0 the true mean is larger.
        median: of all sets, those that never reach it being above all others; None where it falls among these.
        num: sets.
        num_never: sets whose probe stays below zero-shot even on the full training set.
    """

    mean: float | None
    median: float | None
    num: int
    num_never: int


def summarise_needed(counts: Iterable[float | None]) -> Needed:
    """Mean and median over data sets of what `examples_to_match` gave for each."""
    found = list(counts)
    reached = [count for count in found if count is not None]
    mean = statistics.fmean(reached) if reached else None
    median = statistics.median([math.inf if count is None else count for count in found]) if found else math.inf
    return Needed(mean, median if math.isfinite(median) else None, len(found), len(found) - len(reached))
