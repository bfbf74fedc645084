"""Exact nearest neighbors among any number of vectors, tile by tile, on the CPU or a GPU.

A score depends only on its two vectors. Products of float32 numbers are exact in float64; `exact_scores` adds them in a
fixed order and rounds the sum to float32. Equal scores are ordered by row number. The result is therefore the same for
every tile size, sharding and device, and equal vectors always tie.

A float32 or int8 matrix product only selects candidates: all items within its error bound of the k-th best score.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from diptych.embed.selection import Block, Selection, check_finite, make_selection
from diptych.errors import ConfigError, ShapeError

BLOCK = 1024
_WIDE = 8192
_TILE = 4096
_LARGE_TILE = 16_384
_FEW = 64
_PAIRS = 1024  # pairs scored at a time; their float64 terms fit into a processor's cache
_MAX_CANDIDATES = 1 << 22  # per tile and block of queries


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
    item_block: int | None = None,
    selection: str = "fp32",
) -> Neighbours:
    """The k items with the largest dot product for each query, exactly. Equal scores are ordered by row number.

    Items are read once, in order. Memory holds the queries, the results, and (query_block, item_block) scores.

    Args:
        queries: float (Q, E), used as float32.
        items: float (N, E), or consecutive arrays (n, E), such as `Store.vector_shards()`; used as float32.
        k: neighbors per query; K = min(k, number of items).
        without: bool (N,), items to leave out.
        device: computes the scores; it does not change the result.
        query_block, item_block: rows per tile; they do not change the result.
        selection: "fp32", or "int8" (on the CPU), which select the candidates; it does not change the result.
    Raises:
        ShapeError: widths differ, an array is not a matrix, or the length of `without` is not the number of items.
        InputError: a vector is not finite, or too large for float32 sums.
        ConfigError: k or a block is below 1, or `selection` is unknown or does not run on this device.
    """
    device = torch.device(device)
    if (
        item_block is None
    ):  # a processor's cache holds the scores of a small tile; a GPU and few queries need large ones
        item_block = _TILE if device.type == "cpu" and len(queries) > _FEW else _LARGE_TILE
    for name, number in (("k", k), ("query_block", query_block), ("item_block", item_block)):
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise ConfigError(f"{name} must be a whole number, at least 1, not {number!r:.40}")
    query_rows = torch.from_numpy(_checked(queries, np.shape(queries)[-1] if np.ndim(queries) == 2 else None))
    check_finite(query_rows)
    best, first = _Best(make_selection(query_rows.to(device), selection), int(k)), 0
    with exact_products():
        for tile in tiles(items, item_block, query_rows.shape[1]):
            kept = np.arange(len(tile)) if without is None else np.flatnonzero(~without[first : first + len(tile)])
            best.add(tile if len(kept) == len(tile) else tile[kept], first + kept, query_block)
            first += len(tile)
    if without is not None and len(without) != first:
        raise ShapeError(f"`without` has {len(without)} entries, but there are {first} items")
    return Neighbours(best.rows, best.scores)


def exact_scores(queries: Any, items: Any) -> np.ndarray:
    """Dot products of M pairs of vectors, bit-identical for any M, in NumPy and on any device with float64.

    Args:
        queries, items: float32 (M, E), paired row by row; both arrays or both tensors.
    Returns:
        float32 (M,).
    """
    # Only elementwise operations, whose results IEEE 754 defines; the order inside a library's sum is not defined.
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

    They are summed in float64 and rounded to float32, so that equal vectors have equal scores in every block.

    Args:
        queries: float (Q, E). items: float (G, E). Both may be mapped from disk.
        block: queries per block.
    Yields:
        query rows, item rows, float32 scores (q, g); all items for one block of queries, then the next block.
    Raises:
        ShapeError: the two differ in E, or one is not a matrix.
    """
    check_vectors(queries, items)
    for top in range(0, len(queries), block):
        rows = slice(top, min(top + block, len(queries)))
        block_queries = np.asarray(queries[rows], np.float64)
        for left in range(0, len(items), _WIDE):
            columns = slice(left, min(left + _WIDE, len(items)))
            yield rows, columns, (block_queries @ np.asarray(items[columns], np.float64).T).astype(np.float32)


def check_vectors(queries: np.ndarray, items: np.ndarray) -> None:
    """Raise ShapeError unless both are matrices of the same width."""
    if queries.ndim != 2 or items.ndim != 2 or queries.shape[1] != items.shape[1]:
        raise ShapeError(f"embeddings of shapes {queries.shape} and {items.shape} do not fit: (N, E) and (M, E)")


class _Best:
    """The best items of each query so far.

    Attributes:
        rows: int64 (Q, K). scores: float32 (Q, K), best first; K is the number of items seen, at most k.
    """

    def __init__(self, selection: Selection, k: int) -> None:
        self._selection, self._k, self._seen = selection, k, 0
        self.rows = np.empty((len(selection.queries), 0), np.int64)
        self.scores = np.empty((len(selection.queries), 0), np.float32)

    def add(self, items: np.ndarray, numbers: np.ndarray, query_block: int) -> None:
        """Merge a tile of items into the best of all queries.

        Args:
            items: float32 (T, E). numbers: int64 (T,), their row numbers, higher than those of all earlier tiles.
            query_block: queries at a time.
        """
        if not len(items):
            return
        self._grow(len(items))
        self._selection.set_items(torch.from_numpy(items).to(self._selection.queries.device))
        for first in range(0, len(self.scores), query_block):
            self._update(first, min(first + query_block, len(self.scores)), numbers)

    def _grow(self, num_items: int) -> None:
        """Make room for `num_items` more items."""
        self._seen += num_items
        if more := min(self._k, self._seen) - self.scores.shape[1]:
            count = len(self.scores)
            self.rows = np.concatenate([self.rows, np.full((count, more), -1)], axis=1)
            self.scores = np.concatenate([self.scores, np.full((count, more), -np.inf, np.float32)], axis=1)

    def _update(self, first: int, end: int, numbers: np.ndarray) -> None:
        """Merge the current tile into the best of queries `first` to `end` (exclusive)."""
        block = self._selection.scores(first, end)
        maxima = block.group_maxima()
        limit = block.limit(self._floor(first, end, block, maxima))
        # In a late tile few groups of columns have a candidate.
        hit_rows, hit_groups = (maxima >= limit[:, None]).nonzero().unbind(1)
        hits = (block.in_groups()[hit_rows, :, hit_groups] >= limit[hit_rows, None]).nonzero()
        if end - first > 1 and len(hits) > _MAX_CANDIDATES:  # thousands of equal vectors
            half = (first + end) // 2
            self._update(first, half, numbers)
            self._update(half, end, numbers)
            return
        rows, columns = hit_rows[hits[:, 0]], hits[:, 1] * maxima.shape[1] + hit_groups[hits[:, 0]]
        scores = pair_scores(self._selection.queries[first:end], self._selection.items, rows, columns)
        query_rows = first + rows.cpu().numpy()
        better = scores > self.scores[query_rows, -1]  # an equal score loses: its item has the higher row number
        self._merge(query_rows[better], numbers[columns.cpu().numpy()[better]], scores[better])

    def _floor(self, first: int, end: int, block: Block, maxima: torch.Tensor) -> np.ndarray:
        """The lowest exact score, float64 (B,), that can be among the best."""
        worst, k = self.scores[first:end, -1].astype(np.float64), self.scores.shape[1]
        if block.approximate.shape[1] >= k and bool((worst == -np.inf).any()):
            table = maxima if maxima.shape[1] >= k else block.approximate
            kth = table.topk(k, dim=1).values[:, -1].cpu().numpy() * block.unit
            worst = np.maximum(worst, kth - block.slack)
        return worst

    def _merge(self, queries: np.ndarray, numbers: np.ndarray, scores: np.ndarray) -> None:
        """Merge M candidates (query rows, item rows and scores) into the best."""
        changed, group = np.unique(queries, return_inverse=True)
        k = self.scores.shape[1]
        group = np.concatenate([np.arange(len(changed)).repeat(k), group])
        scores = np.concatenate([self.scores[changed].ravel(), scores])
        numbers = np.concatenate([self.rows[changed].ravel(), numbers])
        order = np.lexsort((numbers, -scores, group))
        counts = np.bincount(group, minlength=len(changed))
        rank = np.arange(len(order)) - (counts.cumsum() - counts).repeat(counts)
        kept = order[rank < k]
        self.scores[changed] = scores[kept].reshape(-1, k)
        self.rows[changed] = numbers[kept].reshape(-1, k)


def pair_scores(queries: torch.Tensor, items: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> np.ndarray:
    """Exact scores (M,) float32 of M pairs: queries[rows] with items[columns]."""
    pairs = zip(rows.split(_PAIRS), columns.split(_PAIRS), strict=True)
    if queries.device.type == "cuda":
        scores = [exact_scores(queries[left], items[right]) for left, right in pairs]
    else:  # NumPy starts no threads for these small pieces, and Apple's GPUs have no float64
        query_rows, item_rows = queries.cpu().numpy(), items.cpu().numpy()
        scores = [exact_scores(query_rows[left.cpu().numpy()], item_rows[right.cpu().numpy()]) for left, right in pairs]
    return np.concatenate(scores)


def _checked(vectors: np.ndarray, width: int | None) -> np.ndarray:
    """The vectors as float32 (n, E), contiguous."""
    if np.ndim(vectors) != 2 or vectors.shape[1] != width:
        raise ShapeError(f"embeddings of shape {np.shape(vectors)} do not fit: (n, {width or 'E'}) is needed")
    # A copy, because a mapped file should be read once and torch requires a writable array.
    return np.array(vectors, np.float32, order="C")


def _default_tile(device: torch.device, queries: np.ndarray) -> int:
    """A processor's cache holds the scores of many queries and a small tile; else a large one has less overhead."""
    return _TILE if device.type == "cpu" and np.ndim(queries) and len(queries) > _FEW else _LARGE_TILE


def tiles(items: np.ndarray | Iterable[np.ndarray], rows: int, width: int) -> Iterator[np.ndarray]:
    """Consecutive copies, float32 (up to `rows`, `width`), of one array or of several.

    Raises:
        ShapeError: an array is not a matrix of that width.
    """
    for shard in [items] if isinstance(items, np.ndarray) else items:
        if np.ndim(shard) != 2:
            raise ShapeError(f"embeddings of shape {np.shape(shard)} do not fit: (n, {width}) is needed")
        for start in range(0, len(shard), rows):
            yield _checked(shard[start : start + rows], width)
        if not len(shard) and shard.shape[1] != width:
            raise ShapeError(f"embeddings of shape {shard.shape} do not fit: (n, {width}) is needed")


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Inside the block, compute matrix products in full float32: the error bound does not cover TF32 and bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
