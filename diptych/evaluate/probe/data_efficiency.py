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

    Between neighboring points the score is interpolated linearly in the logarithm of the examples. If the curve is
    above the zero-shot score at its first point, it is extrapolated to the left with the slope of its first two points,
    so the count is below the first one (the paper prints 0.9 and does not say how it was computed). If the first two
    points do not rise, the first count is returned as an upper bound. The curve is not extrapolated to the right: there
    are no examples beyond the full training set.

    Args:
        shots: examples per class, positive and increasing; the last is usually the full training set's.
        scores: the probe's score at each, in any unit.
        zero_shot: the score to match, in the same unit.
    Returns:
        The count, or None if the curve stays below: zero-shot then beats the full training set.
    Raises:
        ShapeError: there is no point, or shots and scores differ in length.
        InputError: the shots are not positive and increasing, or a score is not finite.
    """
    if not shots or len(shots) != len(scores):
        raise ShapeError(f"a few-shot curve has {len(shots)} counts of examples and {len(scores)} scores")
    rising = all(lower < upper for lower, upper in itertools.pairwise(shots))
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
    """The examples at which the line through two points (log examples, score) has the wanted score."""
    share = (wanted - scores[0]) / (scores[1] - scores[0])
    return float(shots[0] * (shots[1] / shots[0]) ** share)


@dataclasses.dataclass(frozen=True, slots=True)
class Needed:
    """Examples per class to match zero-shot, summarized over data sets.

    Attributes:
        mean: mean over sets that reach zero-shot; None if none does. If `num_never` > 0, the true mean is larger.
        median: median over all sets; sets that never reach zero-shot count as infinite. None if it is infinite.
        num: number of sets.
        num_never: number of sets whose probe stays below zero-shot even on the full training set.
    """

    mean: float | None
    median: float | None
    num: int
    num_never: int


def summarise_needed(counts: Iterable[float | None]) -> Needed:
    """Mean and median over data sets of the counts from `examples_to_match`."""
    all_counts = list(counts)
    reached = [count for count in all_counts if count is not None]
    mean = statistics.fmean(reached) if reached else None
    median = (
        statistics.median([math.inf if count is None else count for count in all_counts]) if all_counts else math.inf
    )
    return Needed(mean, median if math.isfinite(median) else None, len(all_counts), len(all_counts) - len(reached))
