"""The detector's errors, carried into the contamination and the effect.

A detector misses copies (recall r below 1) and flags other images (precision q below 1). With f the share of flagged
images, and errors that do not depend on whether the model is right about an image:

    true contamination        phi = f q / r
    copies among the others   omega = f q (1 - r) / (r (1 - f))
    Overlap - Clean           q - omega times the true gap, since both subsets are mixtures
    true gap                  (Overlap - Clean) (1 - f) / (q (1 - f / r))
    true All - Clean          phi times the true gap = (All - Clean) (1 - f) / (r - f)

The precision cancels in the last line: false alarms shrink the gap, and are counted in f as much more. Only missed
copies, which stay in Clean, hide a part of the effect.
"""

import dataclasses
from collections.abc import Sequence

from diptych.errors import InputError
from diptych.overlap.contamination import Analysis, Interval, analyse
from diptych.overlap.proportions import LEVEL, check_level, rate_limits, weighted_rate

_PARTS = 4  # contamination, precision, recall and gap: each interval gets this part of the error
PART_LEVEL = 1 - (1 - LEVEL) / _PARTS
"""The level of each interval; together they hold at 99.5 %."""


@dataclasses.dataclass(frozen=True)
class Rate:
    """A measured precision or recall.

    Attributes:
        value, low, high: the rate and its interval, in [0, 1].
        level: level of the interval. Rates of another level than PART_LEVEL change the level of what follows from them.
    """

    value: float
    low: float
    high: float
    level: float = PART_LEVEL

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.value <= self.high <= 1:
            raise InputError(f"a rate needs 0 <= low <= value <= high <= 1; got {self}")
        check_level(self.level)

    @classmethod
    def of_counts(cls, successes: int, trials: int, level: float = PART_LEVEL) -> "Rate":
        """A rate of independent trials, with its Clopper-Pearson interval.

        Args:
            successes: pairs that a person called copies, or planted copies that were found.
            trials: judged pairs, or planted copies; at least 1.
            level: level of the interval.
        """
        low, high = rate_limits(successes, trials, level)
        return cls(successes / trials, float(low), float(high), level)

    @classmethod
    def of_strata(cls, strata: Sequence[tuple[int, int, float]], level: float = PART_LEVEL) -> "Rate":
        """A rate of judgements that were drawn from strata, such as bands of the score.

        Args:
            strata: (successes, trials, size) of each; size is the number of flagged images in the band. A band with
                images needs a trial.
            level: level of the interval. It is approximate here; the tests simulate its coverage.
        """
        kept = [(right, trials, size) for right, trials, size in strata if size > 0]
        total = sum(size for *_, size in kept)
        if not kept or any(trials < 1 for _, trials, _ in kept):
            raise InputError("a rate of strata needs images, and a judgement in each stratum that has images")
        weights = [size / total for *_, size in kept]
        value, n = weighted_rate([right for right, *_ in kept], [trials for _, trials, _ in kept], weights)
        low, high = rate_limits(value * n, n, level)
        return cls(value, min(float(low), value), max(float(high), value), level)


@dataclasses.dataclass(frozen=True)
class TrueContamination:
    """What the detector's precision and recall leave possible.

    Attributes:
        value: estimate of the true share of images with a copy in the training data, at most 1.
        interval: its interval, of images drawn as those of this set.
        level: level of this interval: 1 less the errors of its three parts.
        gap, gap_interval: true Overlap - Clean; None where the detector tells too little.
        difference, difference_interval: true All - Clean; None where the detector tells too little.
        effect_level: level of these two intervals.
        reason: why gap and difference are None; None if they are not.
    """

    value: float
    interval: Interval
    level: float
    gap: float | None
    gap_interval: Interval | None
    difference: float | None
    difference_interval: Interval | None
    effect_level: float
    reason: str | None = None


def correct_for_detector(analysis: Analysis, precision: Rate, recall: Rate) -> TrueContamination:
    """Carry the detector's errors into contamination and effect.

    The intervals are the extremes over the box of the intervals of f, precision, recall and gap. They cover at least at
    the stated level, whatever the dependence of the parts (Bonferroni). For gap and difference f is that of this set,
    and the intervals are clipped to [-1, 1].

    Args:
        analysis: the set's analysis with the detector's verdicts. Only its counts are used.
        precision: share of copies among the flagged images.
        recall: share of flagged images among the images with a copy. Planted copies measure it, if real ones are
            changed as those are: this is an assumption.
    """
    s = analysis.subsets
    f = s.contamination
    low, high = (float(limit) for limit in rate_limits(s.n_overlap, s.n_all, PART_LEVEL))
    interval = (min(1.0, low * precision.low / recall.high), _share(high * precision.high, recall.low))
    value = min(max(_share(f * precision.value, recall.value), interval[0]), interval[1])
    part = 1 - PART_LEVEL
    errors = (1 - precision.level) + (1 - recall.level)
    level, effect_level = 1 - part - errors, 1 - part - errors
    reason = s.undefined or _unknown(f, precision, recall)
    if reason is not None:
        return TrueContamination(value, interval, level, None, None, None, None, effect_level, reason)
    parts = analyse(s, level=PART_LEVEL)
    assert s.gap is not None and parts.gap_interval is not None  # neither subset is empty
    of_gap = [(1 - f) / (q * (1 - f / r)) for q, r in _ends(precision, recall)]
    of_difference = [f * (1 - f) / (r - f) for _, r in _ends(precision, recall)]
    gap = s.gap * (1 - f) / (precision.value * (1 - f / recall.value))
    difference = s.gap * f * (1 - f) / (recall.value - f)
    return TrueContamination(
        value,
        interval,
        level,
        *(_clipped(gap), _extremes(parts.gap_interval, of_gap)),
        *(_clipped(difference), _extremes(parts.gap_interval, of_difference)),
        effect_level,
    )


def _unknown(f: float, precision: Rate, recall: Rate) -> str | None:
    """Why the effect is not determined; None if it is."""
    if recall.low <= f:
        return (
            f"the recall may be as low as {recall.low:.3f}, not above the share {f:.3f} of flagged images: "
            "measure it with more planted copies"
        )
    if precision.low <= 0:
        return "the precision may be 0: judge more pairs"
    return None


def _ends(precision: Rate, recall: Rate) -> list[tuple[float, float]]:
    return [(q, r) for q in (precision.low, precision.high) for r in (recall.low, recall.high)]


def _share(numerator: float, denominator: float) -> float:
    return 1.0 if numerator >= denominator else numerator / denominator


def _clipped(value: float) -> float:
    return min(max(value, -1.0), 1.0)


def _extremes(gap: Interval, factors: Sequence[float]) -> Interval:
    """The least and the greatest product of an end and a positive factor. Factors are monotone in each rate."""
    products = [end * factor for end in gap for factor in factors]
    return _clipped(min(products)), _clipped(max(products))
