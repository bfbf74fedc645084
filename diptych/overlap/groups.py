"""Near-duplicates inside a store: pairs at or above a threshold, their groups, and which rows to keep.

    groups = duplicate_groups(store, threshold=0.95)
    kept = groups.kept()                      # bool (N,): the first of each group
    for pairs in similar_pairs(store, threshold=0.95): ...

The store is joined with itself tile by tile, each pair once. A product with an error bound (embed/selection.py) decides
nearly all pairs; those within its bound of the threshold are scored exactly. So the result is the same for any tiling.

N images that all look alike make N (N - 1) / 2 pairs. Groups do not need them: a pair inside one group is dropped at
once, a tile whose rows are all in one group is skipped without a product, and one tile's pairs at most are in memory.
So 100,000 blank images cost a few tiles. `similar_pairs` yields every pair, and stops with an error at `max_pairs`.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diptych.embed.executor import Executor, map_shards
from diptych.embed.neighbours import exact_products, pair_scores, tiles
from diptych.embed.selection import Block, Selection, check_finite, make_selection
from diptych.embed.store import Store
from diptych.errors import ConfigError

_STRIPE = 16_384  # rows that are joined with all later ones while the store is read once
_QUERIES = 1024
_TILE = 4096
_PIECE = 1 << 16  # pairs scored exactly at a time
_MANY = 0.1  # share of a tile's pairs that lie inside one group
MAX_PAIRS = 10_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of rows at or above a threshold.

    Attributes:
        first, second: int64 (M,), rows with first < second.
        scores: float32 (M,), dot products.
    """

    first: np.ndarray
    second: np.ndarray
    scores: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Rows that are linked by pairs at or above a threshold, directly or over other rows.

    Attributes:
        group: int64 (N,): the smallest row of each row's group; a row without a duplicate is its own group.
    """

    group: np.ndarray

    @property
    def num_redundant(self) -> int:
        """Rows that would be left out if one of each group were kept."""
        return len(self.group) - len(np.unique(self.group))

    def members(self) -> Iterator[np.ndarray]:
        """The rows, int64, of each group with two or more of them, by their smallest row."""
        order = np.argsort(self.group, kind="stable")
        _, starts, counts = np.unique(self.group[order], return_index=True, return_counts=True)
        return (order[start : start + count] for start, count in zip(starts, counts, strict=True) if count > 1)

    def kept(self, size: Callable[[np.ndarray], np.ndarray] | None = None) -> np.ndarray:
        """bool (N,): one row of each group is True.

        Args:
            size: numbers (n,) of rows, int64 (n,), such as the images' pixels; the row with the largest is kept, and of
                equal ones the smallest row. Without it, the smallest row of each group.
        """
        rows = np.arange(len(self.group))
        if size is None:
            return self.group == rows
        order = np.lexsort((rows, -np.asarray(size(rows), np.float64), self.group))
        kept = np.zeros(len(rows), bool)
        kept[order[np.unique(self.group[order], return_index=True)[1]]] = True
        return kept


def duplicate_groups(
    store: Store,
    threshold: float,
    *,
    num_processes: int = 1,
    executor: Executor = map_shards,
    precision: str = "fp32",
    stripe: int = _STRIPE,
) -> Groups:
    """Groups of near-duplicates of a store: the connected components of all pairs with a score >= threshold.

    Args:
        store: store of a detector's vectors.
        threshold: lowest score of a pair.
        num_processes: each joins one stripe at a time with one torch thread.
        executor: maps the join over the stripes.
        precision: how pairs are selected, "fp32" or "int8"; it does not change the result.
        stripe: rows that are joined with all later ones while the store is read once; it does not change the result.
    Raises:
        ConfigError: the threshold is not finite, or a setting is wrong.
        InputError: a vector is not finite.
    """
    join = _Join(store, _checked(threshold, stripe), precision, stripe)
    starts, forest = range(0, len(store), stripe), _Forest(len(store))
    if num_processes == 1 and executor is map_shards:  # later stripes use the groups of earlier ones
        for start in starts:
            join.link(start, forest)
    else:
        for _, (first, second) in executor(join, starts, num_processes=num_processes):
            forest.link(first, second)
    return Groups(forest.roots(np.arange(len(store))))


def group_pairs(count: int, pairs: np.ndarray) -> Groups:
    """The groups that pairs of rows make of `count` rows.

    Args:
        pairs: int64 (M, 2).
    """
    forest = _Forest(count)
    forest.link(pairs[:, 0], pairs[:, 1])
    return Groups(forest.roots(np.arange(count)))


def similar_pairs(
    store: Store, threshold: float, *, precision: str = "fp32", stripe: int = _STRIPE, max_pairs: int = MAX_PAIRS
) -> Iterator[Pairs]:
    """All pairs of a store with a score >= threshold, each once, tile by tile.

    Args:
        max_pairs: pairs in all after which the join stops with an error. The other arguments are those of
            `duplicate_groups`.
    Raises:
        ConfigError: there are more than `max_pairs`, for example because thousands of images are blank.
    """
    count = 0
    for tile in _Join(store, _checked(threshold, stripe), precision, stripe).tiles():
        pairs = tile.all_pairs(max_pairs - count)
        count += len(pairs.first)
        if count > max_pairs:
            raise ConfigError(
                f"more than {max_pairs:,} pairs of {store.folder} have a score of at least {threshold}: raise the "
                "threshold or max_pairs, or use duplicate_groups, which does not need the pairs"
            )
        if len(pairs.first):
            yield pairs


class _Forest:
    """Groups of rows under union; a group's root is its smallest row."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count, dtype=np.int64)

    def roots(self, rows: np.ndarray) -> np.ndarray:
        """The smallest row of each row's group."""
        found = self._parent[rows]
        while not np.array_equal(higher := self._parent[found], found):
            found = higher
        self._parent[rows] = found
        return found

    def link(self, first: np.ndarray, second: np.ndarray) -> None:
        """Join the groups of paired rows."""
        roots, places = np.unique(self.roots(np.concatenate([first, second])), return_inverse=True)
        ends = places.reshape(2, -1)
        graph = coo_array((np.ones(ends.shape[1], np.int8), (ends[0], ends[1])), shape=(len(roots), len(roots)))
        _, label = connected_components(graph, directed=False)
        smallest = np.full(len(roots), len(self._parent))
        np.minimum.at(smallest, label, roots)
        self._parent[roots] = smallest[label]


@dataclasses.dataclass(frozen=True, eq=False)
class _Join:
    """The join of a store with itself. Executors pass it to their processes."""

    store: Store
    threshold: float
    precision: str
    stripe: int

    def __call__(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Links between rows and roots, int64, that make the groups of a stripe's pairs."""
        forest = _Forest(len(self.store))
        self.link(start, forest)
        roots = forest.roots(rows := np.arange(len(self.store)))
        linked = roots != rows
        return rows[linked], roots[linked]

    def link(self, start: int, forest: _Forest) -> None:
        """Join the groups of a stripe's pairs."""
        for tile in self.tiles_of(start):
            roots = forest.roots(np.arange(tile.first, tile.end)), forest.roots(tile.columns)
            if (roots[0] == roots[0][0]).all() and (roots[1] == roots[0][0]).all():
                continue
            tile.link(forest)

    def tiles(self) -> Iterator["_Tile"]:
        """Every pair of tiles once."""
        for start in range(0, len(self.store), self.stripe):
            yield from self.tiles_of(start)

    def tiles_of(self, start: int) -> Iterator["_Tile"]:
        """The tiles of a stripe's rows with these and all later rows."""
        end = min(start + self.stripe, len(self.store))
        queries = torch.from_numpy(self.store.vectors(np.arange(start, end)))
        check_finite(queries)
        selection, column = make_selection(queries, self.precision), start
        with exact_products():
            for items in tiles(self._from(start), _TILE, queries.shape[1]):
                selection.set_items(torch.from_numpy(items))
                columns = np.arange(column, column + len(items))
                column += len(items)
                for first in range(start, min(end, column), _QUERIES):
                    yield _Tile(selection, start, first, min(first + _QUERIES, end), columns, self.threshold)

    def _from(self, row: int) -> Iterator[np.ndarray]:
        """Vectors of all shards from a row on."""
        for shard, start in zip(self.store.shards, self.store.starts.tolist(), strict=False):
            if start + shard.num_rows > row:
                yield shard.vectors[max(0, row - start) :]


@dataclasses.dataclass(frozen=True, eq=False)
class _Tile:
    """Some rows of a stripe against one tile of the store; only pairs with row < column count.

    Attributes:
        selection: the stripe's rows as queries, and the tile's items. stripe_start: row of the first query.
        first, end: rows. columns: int64 (T,), rows of the items. threshold: lowest score.
    """

    selection: Selection
    stripe_start: int
    first: int
    end: int
    columns: np.ndarray
    threshold: float

    def all_pairs(self, most: int) -> Pairs:
        """All pairs; a few more than `most` if there are more."""
        rows, columns, _ = self._candidates()
        pairs, count = [Pairs(rows[:0], columns[:0], np.empty(0, np.float32))], 0
        for start in range(0, len(rows), _PIECE):
            piece = slice(start, start + _PIECE)
            scores = self._exact(rows[piece], columns[piece])
            hits = scores.astype(np.float64) >= self.threshold
            pairs.append(Pairs(rows[piece][hits], columns[piece][hits], scores[hits]))
            if (count := count + int(hits.sum())) > most:
                break
        first, second, scores = (
            np.concatenate([getattr(piece, name) for piece in pairs]) for name in ("first", "second", "scores")
        )
        return Pairs(first, second, scores)

    def link(self, forest: _Forest) -> None:
        """Join the groups of all pairs: first of those that need no exact score, then of the doubtful ones."""
        rows, columns, sure = self._candidates(forest)
        self._link_all(forest, rows[sure], columns[sure])
        rows, columns = rows[~sure], columns[~sure]
        while len(rows):
            apart = forest.roots(rows) != forest.roots(columns)
            rows, columns = rows[apart], columns[apart]
            piece = slice(0, _PIECE)
            hits = self._exact(rows[piece], columns[piece]).astype(np.float64) >= self.threshold
            if hits.any():
                forest.link(rows[piece][hits], columns[piece][hits])
            rows, columns = rows[_PIECE:], columns[_PIECE:]

    def _link_all(self, forest: _Forest, rows: np.ndarray, columns: np.ndarray) -> None:
        """Join the groups of up to B * T pairs. Each round takes a pair of each row and of each column."""
        # So a round halves the groups that still have to be joined (Boruvka's algorithm), and sorts B + T pairs.
        while len(rows):
            first_of_row, first_of_column = np.full(self.end - self.first, -1), np.full(len(self.columns), -1)
            places = np.arange(len(rows))
            first_of_row[rows - self.first] = places
            first_of_column[columns - self.columns[0]] = places
            chosen = np.concatenate([first_of_row, first_of_column])
            chosen = chosen[chosen >= 0]
            forest.link(rows[chosen], columns[chosen])
            apart = forest.roots(rows) != forest.roots(columns)
            rows, columns = rows[apart], columns[apart]

    def _hide_joined(self, block: Block, forest: _Forest) -> None:
        """Take pairs inside one group out of a tile where there are many."""
        roots = forest.roots(np.arange(self.first, self.end)), forest.roots(self.columns)
        (names, counts), (others, other_counts) = (np.unique(side, return_counts=True) for side in roots)
        _, left, right = np.intersect1d(names, others, assume_unique=True, return_indices=True)
        if (counts[left] * other_counts[right]).sum() > block.approximate.numel() * _MANY:
            same = torch.from_numpy(roots[0])[:, None] == torch.from_numpy(roots[1])
            block.approximate.masked_fill_(same, block.lowest)

    def _candidates(self, forest: _Forest | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs (M,) that may reach the threshold, with row < column, and whether they surely do.

        With a forest, pairs inside one group may be left out.
        """
        block = self.selection.scores(self.first - self.stripe_start, self.end - self.stripe_start)
        if forest is not None:
            self._hide_joined(block, forest)
        lowest = np.full(self.end - self.first, self.threshold)
        maxima, limit, certain = block.group_maxima(), block.limit(lowest), block.certain(lowest)
        rows, groups = (maxima >= limit[:, None]).nonzero().unbind(1)
        scores = block.in_groups()[rows, :, groups]
        hits = (scores >= limit[rows, None]).nonzero()
        sure = (scores[hits[:, 0], hits[:, 1]] >= certain[rows[hits[:, 0]]]).numpy()
        first = rows[hits[:, 0]].numpy() + self.first
        second = self.columns[(hits[:, 1] * maxima.shape[1] + groups[hits[:, 0]]).numpy()]
        once = first < second
        return first[once], second[once], sure[once]

    def _exact(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Exact scores, float32 (M,), of pairs of this tile."""
        if not len(rows):
            return np.empty(0, np.float32)
        places = torch.from_numpy(rows - self.stripe_start), torch.from_numpy(columns - self.columns[0])
        return pair_scores(self.selection.queries, self.selection.items, *places)


def _checked(threshold: float, stripe: int) -> float:
    if not np.isfinite(threshold):
        raise ConfigError(f"the threshold must be a finite number, not {threshold!r:.40}")
    if isinstance(stripe, bool) or not isinstance(stripe, int | np.integer) or stripe < 1:
        raise ConfigError(f"stripe must be a whole number, at least 1, not {stripe!r:.40}")
    return float(threshold)
