"""Which pairs a person should judge, and what the judgements say about each threshold.

Method: the pairs of one evaluation set are divided by score into bands (`score_bands`). In each band the judged pairs
are a random sample, so that the share of duplicates above a threshold is the mean of the bands' shares, weighted by
their sizes. Bands that are judged completely are counted; the others give a rate with an interval from their effective
number of judgements (Korn & Graubard, `proportions.weighted_rate`). A band without a judgement is joined to the next
lower one, whose share of duplicates is smaller. Recall is D above / (D above + D below); its interval combines those of
the two numbers D of duplicates, each at half the error (Bonferroni). "unsure" counts against the threshold on both
sides: as different above it, as a duplicate below it.

The intervals are those of a threshold that was fixed before judging. `choose_threshold` looks at the same judgements,
so its intervals cover less often; the tests measure both.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from PIL import Image

from diptych.errors import InputError
from diptych.overlap.detection_error import Rate
from diptych.overlap.judgements import Decision, Identity, Pair
from diptych.overlap.score_bands import Band, RankedPairs

LEVEL = 0.95
NUM_JUDGEMENTS = 40
"""Judgements of one evaluation set after which a review can end."""
_FIRST_ROUND = 2  # judgements of each band

Side = Literal["evaluation", "training"]


class ReviewData(Protocol):
    """What a review shows: the nearest pairs of some evaluation sets, and their images.

    Attributes:
        folder: of the overlap analysis; judgements are saved in it.
        datasets: names of the evaluation sets.
    """

    folder: Path
    datasets: Sequence[str]

    def pairs(self, dataset: str) -> Sequence[Pair]:
        """Each evaluation image of the set with its nearest training image."""
        ...

    def image(self, side: Side, dataset: str, key: str) -> bytes | np.ndarray | Image.Image | None:
        """An image of a pair, encoded or decoded; None if it is missing. `dataset` is the pair's."""
        ...


@dataclasses.dataclass(frozen=True)
class Choice:
    """A threshold for one evaluation set, and what the judgements say about it.

    Attributes:
        threshold: pairs with score >= threshold are called duplicates.
        precision, precision_low, precision_high: share of duplicates among these, and its interval. 1 in [0, 1] if
            there are none.
        recall, recall_low, recall_high: share of these duplicates among all nearest pairs that are duplicates. 1 in
            [0, 1] if no duplicate is known.
        num_judged: judged pairs of the set.
        level: level of both intervals.
    """

    threshold: float
    precision: float
    precision_low: float
    precision_high: float
    recall: float
    recall_low: float
    recall_high: float
    num_judged: int
    level: float = LEVEL


def next_pairs(
    pairs: Sequence[Pair] | RankedPairs,
    decisions: Mapping[Identity, Decision],
    *,
    count: int = 1,
    num_judgements: int = NUM_JUDGEMENTS,
) -> list[Pair]:
    """The pairs to judge next; [] if the set has enough judgements. The same arguments give the same pairs.

    First two of each band, from the highest score to the lowest. Then, in turns, pairs where duplicates end and others
    begin, which locate the threshold, and pairs of the band that makes the numbers of duplicates the most uncertain.

    Args:
        pairs: of one evaluation set; a RankedPairs is faster, and has the seed.
        count: number of pairs, as if the earlier ones of the answer stay undecided.
        num_judgements: the set has enough of them then.
    """
    ranked = _ranked(pairs)
    judged = ranked.judged(decisions)
    taken: set[int] = set(judged)
    found: list[Pair] = []
    while len(found) < count and len(taken) < min(num_judgements, len(ranked)):
        rank = _next_rank(ranked, judged, taken)
        taken.add(rank)
        found.append(ranked.pairs[rank])
    return found


def _next_rank(ranked: RankedPairs, judged: Mapping[int, Decision], taken: Collection[int]) -> int:
    for band in ranked.bands({}):
        if sum(band.start <= rank < band.end for rank in taken) < min(_FIRST_ROUND, band.size):
            rank = ranked.asked_first(band, taken)
            assert rank is not None  # the band has more pairs than are taken
            return rank
    bands = ranked.bands(judged)
    border = _border(bands)
    turn = len(taken) % 4
    if turn % 2:
        order = sorted(bands, key=lambda band: (not border - 1 <= bands.index(band) <= border, -_doubt(band, 1)))
    else:
        above = turn == 0
        order = sorted(bands, key=lambda band: ((bands.index(band) < border) != above, -_doubt(band, band.size)))
    for band in order:
        rank = ranked.asked_first(band, taken)
        if rank is not None:
            return rank
    raise AssertionError("all pairs are taken")


def _border(bands: Sequence[Band]) -> int:
    """The number of bands above the place that divides duplicates from others with the fewest exceptions."""
    errors = [
        sum(b.different + b.unsure for b in bands[:place]) + sum(b.duplicates for b in bands[place:])
        for place in range(len(bands) + 1)
    ]
    return int(np.argmin(errors))


def _doubt(band: Band, weight: float) -> float:
    """How much one more judgement lowers the standard error of a band's number of duplicates, roughly (Neyman)."""
    rate = (band.duplicates + 0.5) / (band.judged + 1)
    return weight * (rate * (1 - rate)) ** 0.5 / (band.judged + 1)


def precision_at(
    pairs: Sequence[Pair] | RankedPairs,
    decisions: Mapping[Identity, Decision],
    threshold: float,
    level: float = LEVEL,
) -> Rate | None:
    """The share of duplicates among the pairs with score >= threshold.

    Args:
        pairs: of one evaluation set.
        decisions: others than about these pairs are ignored.
        threshold: any number, fixed before judging if the interval is to hold.
        level: level of the interval.
    Returns:
        None if no pair has such a score, or none of these is judged.
    """
    ranked = _ranked(pairs)
    cut = ranked.cut(threshold)
    return _share(_joined([band for band in ranked.bands(ranked.judged(decisions), cut) if band.end <= cut]), level)


def recall_at(
    pairs: Sequence[Pair] | RankedPairs,
    decisions: Mapping[Identity, Decision],
    threshold: float,
    level: float = LEVEL,
) -> Rate | None:
    """The share of pairs with score >= threshold among all nearest pairs that are duplicates; as `precision_at`.

    Returns:
        None if no pair is called a duplicate, or a side of the threshold has pairs and no judgement.
    """
    ranked = _ranked(pairs)
    cut = ranked.cut(threshold)
    bands = ranked.bands(ranked.judged(decisions), cut)
    return _recall(*_sides(bands, cut), cut, len(ranked), level)


def choose_threshold(
    pairs: Sequence[Pair] | RankedPairs,
    decisions: Mapping[Identity, Decision],
    least_precision: float = 0.99,
    level: float = LEVEL,
) -> Choice:
    """The threshold of highest recall whose estimated precision is at least `least_precision`.

    This is the paper's rule: high precision first, then most recall. Candidates are the lowest scores of the bands,
    down to the lowest band with a judged duplicate. If none is precise enough, or no pair is a duplicate, the threshold
    is just above the highest score.

    Args:
        pairs: of one evaluation set.
        decisions: others than about these pairs are ignored.
        least_precision: in (0, 1].
        level: level of the intervals.
    Raises:
        InputError: no pair is judged, or least_precision lies outside.
    Source: CLIP paper, appendix C.
    """
    if not 0 < least_precision <= 1:
        raise InputError(f"least_precision is {least_precision}; it must lie in (0, 1]")
    ranked = _ranked(pairs)
    judged = ranked.judged(decisions)
    if not judged:
        raise InputError(f"{ranked.dataset}: no pair is judged, so there is no choice of a threshold")
    bands = ranked.bands(judged)
    cut = 0
    for place, band in enumerate(bands, 1):
        if band.duplicates and (share := _share(_joined(bands[:place]), level)) and share.value >= least_precision:
            cut = band.end
    threshold = ranked.scores[cut - 1] if cut else np.nextafter(ranked.scores[0], np.float32(np.inf))
    above, below = _sides(bands, cut)
    unknown = Rate(1.0, 0.0, 1.0, level)
    precision = _share(above, level) or unknown
    recall = _recall(above, below, cut, len(ranked), level) or unknown
    return Choice(
        float(threshold),
        *(precision.value, precision.low, precision.high),
        *(recall.value, recall.low, recall.high),
        len(judged),
        level,
    )


def _ranked(pairs: Sequence[Pair] | RankedPairs) -> RankedPairs:
    return pairs if isinstance(pairs, RankedPairs) else RankedPairs(pairs)


def _sides(bands: Sequence[Band], cut: int) -> tuple[list[Band], list[Band]]:
    return _joined([band for band in bands if band.end <= cut]), _joined([band for band in bands if band.start >= cut])


def _joined(bands: Sequence[Band]) -> list[Band]:
    """The bands, those without a judgement joined to the next lower one, and at the end to the next higher one."""
    joined: list[Band] = []
    start: int | None = None
    for band in bands:
        start = band.start if start is None else start
        if band.judged:
            joined.append(dataclasses.replace(band, start=start))
            start = None
    if start is not None and joined:
        joined[-1] = dataclasses.replace(joined[-1], end=bands[-1].end)
    return joined


def _share(bands: Sequence[Band], level: float, *, doubtful: bool = False) -> Rate | None:
    """The share of duplicates in bands that all have judgements; None if there are none.

    Args:
        doubtful: count the unsure as duplicates.
    """
    if not bands:
        return None
    size = sum(band.size for band in bands)
    right = {band: band.duplicates + doubtful * band.unsure for band in bands}
    counted = sum(right[band] for band in bands if band.judged == band.size)
    sampled = [band for band in bands if band.judged < band.size]
    if not sampled:
        return Rate(counted / size, counted / size, counted / size, level)
    rest = Rate.of_strata([(right[band], band.judged, band.size) for band in sampled], level)
    num_rest = sum(band.size for band in sampled)
    value, low, high = ((counted + num_rest * rate) / size for rate in (rest.value, rest.low, rest.high))
    return Rate(min(value, 1.0), min(low, value, 1.0), min(max(high, value), 1.0), level)


def _recall(above: Sequence[Band], below: Sequence[Band], cut: int, num_pairs: int, level: float) -> Rate | None:
    half = (1 + level) / 2
    flagged = _share(above, half) if cut else Rate(0.0, 0.0, 0.0, half)
    missed = _share(below, half, doubtful=True) if cut < num_pairs else Rate(0.0, 0.0, 0.0, half)
    if flagged is None or missed is None or (cut == 0 and missed.value == 0):
        return None
    num_below = num_pairs - cut
    value, low, high = (
        _part(cut * found, num_below * lost)
        for found, lost in (
            (flagged.value, missed.value),
            (flagged.low, missed.high),
            (flagged.high, missed.low),
        )
    )
    return Rate(value, min(low, value), max(high, value), level)


def _part(found: float, lost: float) -> float:
    return found / (found + lost) if found + lost > 0 else 1.0
