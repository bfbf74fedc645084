"""The pairs of one evaluation set by score, in bands that judgements divide: the strata of their estimates.

Bands follow from the scores alone at first: the 16 highest, the next 16, the next 32, and so on, because copies are
among the highest scores, and few. A band with both kinds of decisions is halved as long as each half has a judgement.
In which order pairs are asked does not depend on the score, so that what is judged of a band, and of each part of it,
is a random sample. Pairs of equal score stay together.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from diptych.errors import InputError
from diptych.overlap.judgements import Decision, Identity, Pair

_FIRST_BAND = 16  # pairs
_LAST = np.uint64(2**64 - 1)  # behind all draws


@dataclasses.dataclass(frozen=True)
class Band:
    """Pairs of neighbouring scores, and what is decided about them.

    Attributes:
        start, end: ranks by descending score, end exclusive.
        duplicates, different, unsure: numbers of decisions.
    """

    start: int
    end: int
    duplicates: int
    different: int
    unsure: int

    @property
    def size(self) -> int:
        """Number of pairs."""
        return self.end - self.start

    @property
    def judged(self) -> int:
        """Number of judged pairs."""
        return self.duplicates + self.different + self.unsure

    @property
    def mixed(self) -> bool:
        """Whether some judged pairs are duplicates and others are not."""
        return 0 < self.duplicates < self.judged


class RankedPairs:
    """The nearest pairs of one evaluation set, by descending score.

    Attributes:
        dataset: name of the set.
        pairs: all pairs, best first.
        scores: float32 (N,), descending: of the precision in which verdicts compare them.
    """

    def __init__(self, pairs: Sequence[Pair], seed: int = 0) -> None:
        """
        Args:
            pairs: of one set, at least one, each once, with finite scores.
            seed: of the order in which pairs are asked.
        Raises:
            InputError: there is no pair, two sets, the same pair twice, or a score that is no number.
        """
        names = {pair.dataset for pair in pairs}
        if len(names) != 1:
            raise InputError(f"a review needs the pairs of one evaluation set; got {sorted(names) or 'no pair'}")
        self.dataset = names.pop()
        self.pairs = sorted(pairs, key=lambda pair: (-pair.score, pair.key, pair.nearest_key))
        self.scores = np.array([pair.score for pair in self.pairs], np.float32)
        self._ranks = {pair.identity: rank for rank, pair in enumerate(self.pairs)}
        if len(self._ranks) != len(self.pairs) or not np.isfinite(self.scores).all():
            raise InputError(f"{self.dataset}: a pair occurs twice, or its score is not a number")
        self._seed = seed
        self._order: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def find(self, identity: Identity) -> Pair | None:
        """The pair of this identity; None if it is none of these."""
        rank = self._ranks.get(identity)
        return None if rank is None else self.pairs[rank]

    def judged(self, decisions: Mapping[Identity, Decision]) -> dict[int, Decision]:
        """The decisions about these pairs by rank; others are left out."""
        found = {self._ranks[identity]: made for identity, made in decisions.items() if identity in self._ranks}
        return dict(sorted(found.items()))

    def asked_first(self, band: Band, without: Collection[int]) -> int | None:
        """The rank to ask next in a band; None if all of its pairs are in `without`."""
        if self._order is None:
            self._order = np.array([_draw(pair.identity, self._seed) for pair in self.pairs], np.uint64)
        order = self._order[band.start : band.end].copy()
        taken = [rank - band.start for rank in without if band.start <= rank < band.end]
        order[taken] = _LAST
        return band.start + int(order.argmin()) if len(taken) < len(order) else None

    def cut(self, threshold: float) -> int:
        """The number of pairs with score >= threshold."""
        return int(np.searchsorted(-self.scores, -np.float32(threshold), side="right"))

    def bands(self, judged: Mapping[int, Decision], cut: int | None = None) -> list[Band]:
        """The bands, best first.

        Args:
            judged: decisions by rank; none gives the bands that follow from the scores alone.
            cut: a rank at which a band must end.
        """
        ranks = np.fromiter(judged, int, len(judged))
        kinds = np.array([("duplicate", "different", "unsure").index(made) for made in judged.values()], int)
        found: list[Band] = []
        start, size = 0, _FIRST_BAND
        while start < len(self):
            end = self._end(start, min(start + size, len(self)))
            inner = [cut] if cut is not None and start < cut < end else []
            edges = [start, *inner, end]
            for low, high in itertools.pairwise(edges):
                found += self._halved(_count(low, high, ranks, kinds), ranks, kinds)
            start = end
            size = max(_FIRST_BAND, end)
        return found

    def _halved(self, band: Band, ranks: np.ndarray, kinds: np.ndarray) -> list[Band]:
        if band.mixed:
            for middle in self._run((band.start + band.end) // 2):
                upper, lower = _count(band.start, middle, ranks, kinds), _count(middle, band.end, ranks, kinds)
                if upper.judged and lower.judged:
                    return self._halved(upper, ranks, kinds) + self._halved(lower, ranks, kinds)
        return [band]

    def _end(self, start: int, nominal: int) -> int:
        """The end of a band, before pairs of equal score that it would divide, or behind them if it begins there."""
        first, end = self._run(nominal - 1)
        return end if end == nominal or first <= start else first

    def _run(self, rank: int) -> tuple[int, int]:
        """The ranks, end exclusive, of the pairs with the same score as this one."""
        score = self.scores[rank]
        return int(np.searchsorted(-self.scores, -score, side="left")), self.cut(float(score))


def _count(start: int, end: int, ranks: np.ndarray, kinds: np.ndarray) -> Band:
    inside = kinds[np.searchsorted(ranks, start) : np.searchsorted(ranks, end)]
    return Band(start, end, *(int((inside == kind).sum()) for kind in range(3)))


def _draw(identity: Identity, seed: int) -> int:
    """A number that is random in the pair and the same in each session."""
    text = "\0".join((str(seed), *identity)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")
