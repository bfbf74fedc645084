"""Exact nearest neighbours among any number of vectors: tile by tile, on the CPU or a GPU.

A score is a property of two vectors alone. Products of float32 numbers are exact in float64; `exact_scores` adds them
in one fixed order and rounds the sum to float32. Equal scores are ordered by row number. So the answer is the same for
every tile size, every sharding and every device, and equal vectors tie wherever they lie.

A float32 matrix product only proposes candidates: all items within its proven error of the k-th best score.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from diptych.errors import ConfigError, InputError, ShapeError

BLOCK = 1024
_WIDE = 8192
_TILE = 16_384
_UNIT_ROUNDOFF = 2.0**-24  # of float32
_TINY = 1e-30  # products below float32's range
_LARGEST = 1e37  # beyond, a float32 sum could overflow
_PAIRS = 1024  # scored at a time: their float64 terms fit a processor's cache
_MAX_CANDIDATES = 1 << 22  # of one tile and one block of queries


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The best items of each query, best first.

    Attributes:
        rows: int64 (Q, K), row numbers among all items.
        scores: float32 (Q, K), dot products.
    """

    rows: np.ndarray
    scores: np.ndarray


def nearest_neighbours(
    queries: np.ndarray,
    items: np.ndarray | Iterable[np.ndarray],
    k: int,
    *,
    without: np.ndarray | None = None,
    device: str | torch.device = "cpu",
    query_block: int = BLOCK,
    item_block: int = _TILE,
) -> Neighbours:
    """The k items of the largest dot product with each query, exactly; of equal scores the lower row is better.

    Items are read once, in order. Memory holds the queries, the answers, and (query_block, item_block) scores.

    Args:
        queries: float (Q, E), used as float32.
        items: float (N, E), or arrays (n, E) that follow each other, such as `Store.vector_shards()`; used as float32.
        k: neighbours per query; with fewer items, K is their number.
        without: bool (N,), items to leave out.
        device: where scores are computed; it changes no result.
        query_block, item_block: rows per tile; they change no result.
    Raises:
        ShapeError: widths differ, an array is no matrix, or `without` has another length than the items.
        InputError: a vector is not finite, or too large for float32 sums.
        ConfigError: k or a block is below 1.
    """
    for name, number in (("k", k), ("query_block", query_block), ("item_block", item_block)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise ConfigError(f"{name} must be a whole number, at least 1, not {number!r:.40}")
    wanted = torch.from_numpy(_checked(queries, np.shape(queries)[-1] if np.ndim(queries) == 2 else None))
    best = _Best(len(wanted), int(k))
    device, first = torch.device(device), 0
    with _exact_products():
        for tile in _tiles(items, item_block, wanted.shape[1]):
            shown = np.arange(len(tile)) if without is None else np.flatnonzero(~without[first : first + len(tile)])
            visible = torch.from_numpy(tile if len(shown) == len(tile) else tile[shown]).to(device)
            best.grow(len(shown))
            for top in range(0, len(wanted), query_block):
                rows = slice(top, top + query_block)
                best.update(rows.start, wanted[rows].to(device), visible, first + shown)
            first += len(tile)
    if without is not None and len(without) != first:
        raise ShapeError(f"`without` has {len(without)} entries, but there are {first} items")
    return Neighbours(best.rows, best.scores)


def exact_scores(queries: Any, items: Any) -> np.ndarray:
    """Dot products of M pairs of vectors: the same bits for any M, in NumPy and on any device that knows float64.

    Args:
        queries, items: float32 (M, E), row i with row i: both arrays, or both tensors.
    Returns:
        float32 (M,).
    """
    # Only elementwise operations: IEEE 754 fixes their results, unlike the order within a library's sum.
    terms = queries.astype(np.float64) if isinstance(queries, np.ndarray) else queries.double()
    terms *= items
    width = 1 << (terms.shape[1].bit_length() - 1) if terms.shape[1] else 0
    if rest := terms.shape[1] - width:
        terms[:, :rest] += terms[:, width:]
    while width > 1:
        width //= 2
        terms[:, :width] += terms[:, width : 2 * width]
    sums = terms[:, 0] if terms.shape[1] else np.zeros(len(terms))
    return (sums if isinstance(sums, np.ndarray) else sums.cpu().numpy()).astype(np.float32)


def similarity_blocks(
    queries: np.ndarray, items: np.ndarray, block: int = BLOCK
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Dot products of all queries with all items, up to (block, 8192) of them at a time.

    They are summed in float64 and rounded to float32, so that equal vectors have equal scores in whatever block they
    lie: ties are ties.

    Args:
        queries: float (Q, E). items: float (G, E); both may be mapped from disk.
        block: queries at a time.
    Yields:
        the queries' rows, the items' rows, float32 (q, g); of one block of queries all items, then the next block.
    Raises:
        ShapeError: the two differ in E, or one is no matrix.
    """
    check_vectors(queries, items)
    for top in range(0, len(queries), block):
        rows = slice(top, min(top + block, len(queries)))
        some = np.asarray(queries[rows], np.float64)
        for left in range(0, len(items), _WIDE):
            columns = slice(left, min(left + _WIDE, len(items)))
            yield rows, columns, (some @ np.asarray(items[columns], np.float64).T).astype(np.float32)


def check_vectors(queries: np.ndarray, items: np.ndarray) -> None:
    """Raise ShapeError unless both are matrices of the same width."""
    if queries.ndim != 2 or items.ndim != 2 or queries.shape[1] != items.shape[1]:
        raise ShapeError(f"embeddings of shapes {queries.shape} and {items.shape} do not fit: (N, E) and (M, E)")


class _Best:
    """The best items of each query so far.

    Attributes:
        rows: int64 (Q, K). scores: float32 (Q, K), best first; K is the number of items seen, at most k.
    """

    def __init__(self, num_queries: int, k: int) -> None:
        self._k, self._seen = k, 0
        self.rows = np.empty((num_queries, 0), np.int64)
        self.scores = np.empty((num_queries, 0), np.float32)

    def grow(self, num_items: int) -> None:
        """Make room for so many more items."""
        self._seen += num_items
        if more := min(self._k, self._seen) - self.scores.shape[1]:
            count = len(self.scores)
            self.rows = np.concatenate([self.rows, np.full((count, more), -1)], axis=1)
            self.scores = np.concatenate([self.scores, np.full((count, more), -np.inf, np.float32)], axis=1)

    def update(self, first: int, queries: torch.Tensor, items: torch.Tensor, numbers: np.ndarray) -> None:
        """Take in a tile.

        Args:
            first: number of the first query. queries: float32 (B, E). items: float32 (T, E).
            numbers: int64 (T,), the items' row numbers, above all that were seen before.
        """
        if not len(queries) or not len(items):
            return
        floor, approximate = self._floor(first, queries, items)
        # Most rows of a late tile have none; where several thousand equal vectors give too many, fewer rows at a time.
        having = (approximate.amax(dim=1) >= floor).nonzero()[:, 0]
        some = approximate if len(having) == len(queries) else approximate[having]
        hits = (some >= floor[having, None]).nonzero()
        del some, approximate
        if len(queries) > 1 and len(hits) > _MAX_CANDIDATES:
            half = len(queries) // 2
            self.update(first, queries[:half], items, numbers)
            self.update(first + half, queries[half:], items, numbers)
            return
        where, columns = having[hits[:, 0]], hits[:, 1]
        scores = _scores_of(queries, items, where, columns)
        rows = first + where.cpu().numpy()
        better = scores > self.scores[rows, -1]  # an equal one has the higher row
        self._merge(rows[better], numbers[columns.cpu().numpy()[better]], scores[better])

    def _floor(self, first: int, queries: torch.Tensor, items: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Below which no approximate score (B,) can be among the best, and the approximate scores (B, T)."""
        reach = torch.linalg.vector_norm(queries, dim=1) * torch.linalg.vector_norm(items, dim=1).max()
        if not bool((reach < _LARGEST).all()):
            raise InputError("vectors are too large for float32 sums; scale them to unit norm")
        # |float32 sum - exact sum| <= E u |q| |x| in any order of summation; twice that covers all other roundings.
        slack = 2 * (queries.shape[1] + 8) * _UNIT_ROUNDOFF * reach + _TINY
        approximate = queries @ items.T
        worst = torch.from_numpy(self.scores[first : first + len(queries), -1]).to(queries.device)
        floor = worst - slack
        k = self.scores.shape[1]
        if len(items) >= k and bool((worst == -torch.inf).any()):
            floor = torch.maximum(floor, approximate.topk(k, dim=1).values[:, -1] - 2 * slack)
        return floor, approximate

    def _merge(self, queries: np.ndarray, numbers: np.ndarray, scores: np.ndarray) -> None:
        """Put M candidates among the best: query rows, item rows and scores."""
        touched, where = np.unique(queries, return_inverse=True)
        k = self.scores.shape[1]
        where = np.concatenate([np.arange(len(touched)).repeat(k), where])
        scores = np.concatenate([self.scores[touched].ravel(), scores])
        numbers = np.concatenate([self.rows[touched].ravel(), numbers])
        order = np.lexsort((numbers, -scores, where))
        counts = np.bincount(where, minlength=len(touched))
        place = np.arange(len(order)) - (counts.cumsum() - counts).repeat(counts)
        kept = order[place < k]
        self.scores[touched] = scores[kept].reshape(-1, k)
        self.rows[touched] = numbers[kept].reshape(-1, k)


def _scores_of(queries: torch.Tensor, items: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> np.ndarray:
    """Exact scores of M pairs, float32: rows of the queries with rows of the items."""
    pairs = zip(rows.split(_PAIRS), columns.split(_PAIRS), strict=True)
    if queries.device.type == "cuda":
        scores = [exact_scores(queries[some], items[others]) for some, others in pairs]
    else:  # NumPy starts no threads for these small pieces, and Apple's GPUs know no float64
        one, other = queries.cpu().numpy(), items.cpu().numpy()
        scores = [exact_scores(one[some.cpu().numpy()], other[others.cpu().numpy()]) for some, others in pairs]
    return np.concatenate(scores)


def _checked(vectors: np.ndarray, width: int | None) -> np.ndarray:
    """float32 (n, E), contiguous."""
    if np.ndim(vectors) != 2 or vectors.shape[1] != width:
        raise ShapeError(f"embeddings of shape {np.shape(vectors)} do not fit: (n, {width or 'E'}) is needed")
    found = np.array(vectors, np.float32, order="C")  # a copy: a mapped file is read once, and torch may write
    if not np.isfinite(found).all():
        raise InputError("embeddings hold NaN or infinity; are the weights sound?")
    return found


def _tiles(items: np.ndarray | Iterable[np.ndarray], rows: int, width: int) -> Iterator[np.ndarray]:
    for shard in [items] if isinstance(items, np.ndarray) else items:
        if np.ndim(shard) != 2:
            raise ShapeError(f"embeddings of shape {np.shape(shard)} do not fit: (n, {width}) is needed")
        for start in range(0, len(shard), rows):
            yield _checked(shard[start : start + rows], width)
        if not len(shard) and shard.shape[1] != width:
            raise ShapeError(f"embeddings of shape {shard.shape} do not fit: (n, {width}) is needed")


@contextlib.contextmanager
def _exact_products() -> Iterator[None]:
    """Matrix products in float32 proper: no TF32 and no bfloat16, which the error bound does not cover."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
