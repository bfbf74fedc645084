"""Approximate search with faiss, for stores that outgrow the exact one; its recall is measured, not assumed.

    found = approximate_neighbours(queries, store, k=5)
    f"recall of the search: {found.recall:.3f} ({found.num_sampled} queries)"

The vectors are sorted into lists around centres, in 8 bits a number; a query looks through the lists of the nearest
centres. Scores are exact: the best candidates are scored again from the store. Only the choice of candidates is
approximate, and a seeded sample of the queries is searched exactly, too, to say how much it misses.
"""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from diptych.embed.neighbours import Neighbours, exact_scores, nearest_neighbours, tiles
from diptych.embed.store import Store
from diptych.errors import ConfigError, ShapeError
from diptych.overlap.search import best_of

_QUERIES = 256
_TILE = 65_536
_REFINED = 4  # candidates scored exactly, for each of the k
_TRAINED = 50  # vectors per list that place its centre
_PROBED = 16  # of so many lists one is looked through


@dataclasses.dataclass(frozen=True, eq=False)
class Approximate:
    """Neighbours found by an approximate search, and how many it misses.

    Attributes:
        neighbours: rows (Q, K) and exact scores (Q, K), as `nearest_neighbours` returns them.
        recall: share of the sampled queries' K best that were found. A row with an equal score counts.
        first_recall: share of the sampled queries whose best row was found.
        num_sampled: queries that were also searched exactly.
        num_lists, num_probes: lists of the index, and those that each query looked through.
        found_scores, exact_scores: float32 (S, K), scores of the sampled queries in either search.
    """

    neighbours: Neighbours
    recall: float
    first_recall: float
    num_sampled: int
    found_scores: np.ndarray
    exact_scores: np.ndarray
    num_lists: int
    num_probes: int

    def recall_above(self, threshold: float) -> tuple[float, int]:
        """Share of the sampled queries with a score >= threshold for which one was found, and their number.

        These are the copies that a threshold decides on. The share is NaN if no sampled query has one.
        """
        found, exact = ((scores[:, :1] >= threshold).sum() for scores in (self.found_scores, self.exact_scores))
        return float(found / exact) if exact else float("nan"), int(exact)


@dataclasses.dataclass(frozen=True, eq=False)
class ApproximateIndex:
    """An index of a store in memory: one byte per number. Made by `build_index`.

    Attributes:
        store: the store; its vectors give the exact scores. lists: the faiss index. num_lists: lists in it.
    """

    store: Store
    lists: Any
    num_lists: int

    def search(self, queries: np.ndarray, k: int, *, num_probes: int | None = None) -> Neighbours:
        """Rows (Q, K) and exact scores (Q, K) for queries, float (Q, E), in milliseconds for one query.

        A query whose lists hold too few rows is searched exactly.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.store.manifest.dim:
            raise ShapeError(f"queries of shape {queries.shape} do not fit: (Q, {self.store.manifest.dim}) is needed")
        self.lists.nprobe, kept = num_probes or default_probes(self.num_lists), min(k, len(self.store))
        rows = np.empty((len(queries), kept), np.int64)
        scores = np.empty((len(queries), kept), np.float32)
        if not kept:
            return Neighbours(rows, scores)
        for first in range(0, len(queries), _QUERIES):
            part = slice(first, first + _QUERIES)
            rows[part], scores[part] = self._refined(queries[part], kept)
        if len(lacking := np.flatnonzero(rows[:, -1] < 0)):
            exact = nearest_neighbours(queries[lacking], self.store.vector_shards(), kept)
            rows[lacking], scores[lacking] = exact.rows, exact.scores
        return Neighbours(rows, scores)

    def _refined(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The best k of the candidates, by exact score; row -1 where there are fewer."""
        _, candidates = self.lists.search(queries, min(_REFINED * k, len(self.store)))
        found, places = np.unique(candidates, return_inverse=True)
        vectors = self.store.vectors(np.maximum(found, 0))
        pairs = np.repeat(np.arange(len(queries)), candidates.shape[1]), places.ravel()
        scores = np.concatenate(
            [exact_scores(queries[left], vectors[right]) for left, right in _pieces(*pairs)]
            or [np.empty(0, np.float32)]
        )
        scores = np.where(candidates < 0, np.float32(-np.inf), scores.reshape(candidates.shape))
        order = np.lexsort((candidates, -scores), axis=1)[:, :k]
        return np.take_along_axis(candidates, order, axis=1), np.take_along_axis(scores, order, axis=1)


def build_index(store: Store, *, num_lists: int | None = None, seed: int = 0) -> ApproximateIndex:
    """Sort a store's vectors into lists; memory holds one byte per number.

    Args:
        num_lists: lists; by default about 2 sqrt(N).
        seed: of the vectors that place the centres.
    Raises:
        ConfigError: faiss is not installed, or `num_lists` is below 1 or above the number of rows.
        InputError: a vector is not finite.
    """
    faiss, count = _faiss(), len(store)
    if num_lists is None:
        num_lists = max(1, min(int(2 * count**0.5), count // _TRAINED))
    if isinstance(num_lists, bool) or not isinstance(num_lists, int | np.integer) or num_lists < 1:
        raise ConfigError(f"num_lists must be a whole number, at least 1, not {num_lists!r:.40}")
    if count and num_lists > count:
        raise ConfigError(f"num_lists is {num_lists}, but {store.folder} has only {count:,} rows")
    dim = store.manifest.dim
    lists = faiss.index_factory(dim, f"IVF{num_lists},SQ8", faiss.METRIC_INNER_PRODUCT)
    if count:
        chosen = np.random.default_rng(seed).choice(count, min(count, num_lists * _TRAINED), replace=False)
        lists.cp.min_points_per_centroid = 1  # else faiss prints a warning for a small store
        lists.train(store.vectors(np.sort(chosen)))
        for tile in tiles(store.vector_shards(), _TILE, dim):
            lists.add(tile)
    return ApproximateIndex(store, lists, int(num_lists))


def default_probes(num_lists: int) -> int:
    """Lists that a query looks through: a sixteenth of all, at least 8."""
    return min(num_lists, max(8, num_lists // _PROBED))


def approximate_neighbours(
    queries: np.ndarray | Sequence[np.ndarray],
    store: Store,
    k: int,
    *,
    index: ApproximateIndex | None = None,
    num_probes: int | None = None,
    num_sampled: int = 200,
    seed: int = 0,
) -> Approximate:
    """Nearly the k rows of a store with the largest score for each query, with the measured recall.

    Args:
        queries: float (Q, E), or V such arrays, variants of the same images; the largest score counts.
        k: neighbours per query; K = min(k, rows of the store).
        index: index of the store from `build_index`; by default one is built.
        num_probes: lists that each query looks through; more of them find more.
        num_sampled: queries, drawn with `seed`, that are also searched exactly; at most Q. Exact search reads the
            whole store once.
    Raises:
        ConfigError: faiss is not installed, a number is below 1, or the index is of another store.
        ShapeError: the shapes do not fit.
        InputError: a vector is not finite.
    """
    for name, number in (("k", k), ("num_probes", num_probes), ("num_sampled", num_sampled)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1):
            raise ConfigError(f"{name} must be a whole number, at least 1, not {number!r:.40}")
    variants = [queries] if isinstance(queries, np.ndarray) and queries.ndim == 2 else list(queries)
    if not variants or any(np.shape(variant) != np.shape(variants[0]) for variant in variants):
        raise ShapeError(f"queries of shapes {[np.shape(variant) for variant in variants]} do not fit: all equal")
    if index is not None and index.store.folder != store.folder:
        raise ConfigError(f"the index is of {index.store.folder}, not of {store.folder}")
    index = build_index(store) if index is None else index
    found = best_of([index.search(variant, k, num_probes=num_probes) for variant in variants], k)
    count = len(found.rows)
    sampled = np.sort(np.random.default_rng(seed).choice(count, min(num_sampled, count), replace=False))
    exact = best_of([nearest_neighbours(variant[sampled], store.vector_shards(), k) for variant in variants], k)
    recall, first_recall = measured_recall(found.scores[sampled], exact.scores)
    probes = num_probes or default_probes(index.num_lists)
    return Approximate(
        neighbours=found,
        recall=recall,
        first_recall=first_recall,
        num_sampled=len(sampled),
        found_scores=found.scores[sampled],
        exact_scores=exact.scores,
        num_lists=index.num_lists,
        num_probes=min(probes, index.num_lists),
    )


def measured_recall(found: np.ndarray, exact: np.ndarray) -> tuple[float, float]:
    """Share of the K best that were found, and share of the best ones; NaN without queries or rows.

    Args:
        found, exact: float32 (Q, K), exact scores, best first.
    """
    if not exact.size:
        return float("nan"), float("nan")
    return float((found >= exact[:, -1:]).mean()), float((found[:, 0] >= exact[:, 0]).mean())


def _pieces(left: np.ndarray, right: np.ndarray, size: int = 1024) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return ((left[start : start + size], right[start : start + size]) for start in range(0, len(left), size))


def _faiss() -> Any:
    try:
        with warnings.catch_warnings():  # of its SWIG wrapper, which knows older versions of Python
            warnings.simplefilter("ignore", DeprecationWarning)
            import faiss
    except ImportError as error:
        raise ConfigError("approximate search needs faiss: pip install 'diptych[overlap]'") from error
    return faiss
