"""Nearest neighbours: exact by definition, and the same for every tiling, sharding and order of summation."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from diptych.embed import neighbours, selection
from diptych.embed.neighbours import exact_scores, nearest_neighbours
from diptych.embed.selection import SELECTIONS
from diptych.errors import ConfigError, InputError, ShapeError


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def reference(queries, items, k):
    """Rows by score, then by number; scores as correctly rounded sums, row by row."""
    scores = np.array([[math.fsum(q.astype(float) * x.astype(float)) for x in items] for q in queries], np.float32)
    order = [np.lexsort((np.arange(len(items)), -row))[:k] for row in scores]
    return np.array(order).reshape(len(queries), -1), scores


def near_ties(count=400, dim=48, seed=0):
    """Unit vectors, many of them equal, and many that differ from another in the last bit of one number."""
    rng = np.random.default_rng(seed)
    base = unit(rng.normal(size=(count // 8, dim)))
    items = base[rng.integers(len(base), size=count)]
    changed = rng.random(count) < 0.5
    columns = rng.integers(dim, size=count)
    items[changed, columns[changed]] = np.nextafter(items[changed, columns[changed]], np.float32(2))
    return base, items


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("k", [1, 7, 60])
def test_equals_the_sorted_list_of_exact_scores(k, name):
    queries, items = near_ties()
    order, scores = reference(queries, items, k)
    found = nearest_neighbours(queries, items, k, item_block=64, selection=name)
    assert np.array_equal(found.scores, np.take_along_axis(scores, order, axis=1))
    assert np.array_equal(found.rows, order)


@pytest.mark.parametrize("k", [1, 10, 500])
@pytest.mark.parametrize(("query_block", "item_block"), [(1, 1), (3, 7), (50, 64), (7, 399), (1000, 1000)])
def test_no_tiling_and_no_sharding_changes_a_bit(k, query_block, item_block):
    queries, items = near_ties(200 if item_block == 1 else 400, seed=1)
    whole = nearest_neighbours(queries, items, k)
    shards = [items[:0], items[:1], items[1:150], items[150:150], items[150:], items[:0]]
    for parts in (items, shards, iter(shards)):
        found = nearest_neighbours(queries, parts, k, query_block=query_block, item_block=item_block)
        assert np.array_equal(found.rows, whole.rows) and np.array_equal(found.scores, whole.scores)
    assert whole.rows.shape == (len(queries), min(k, len(items)))


def test_the_proposing_product_decides_nothing(monkeypatch):
    """Its sums may be wrong by as much as the bound says, in any direction."""
    queries, items = near_ties(seed=2)
    items = unit(items + 3e-4 * np.random.default_rng(0).normal(size=items.shape))  # scores of copies differ by 1e-6
    whole = nearest_neighbours(queries, items, 5)
    rng = torch.Generator().manual_seed(0)
    real = selection._Fp32._product

    def perturbed(self, rows, out):
        block = real(self, rows, out)
        out += (queries.shape[1] + 8) * 2.0**-24 * (2 * torch.rand(out.shape, generator=rng) - 1)
        return block

    monkeypatch.setattr(selection._Fp32, "_product", perturbed)
    found = nearest_neighbours(queries, items, 5, item_block=40)
    assert np.array_equal(found.rows, whole.rows) and np.array_equal(found.scores, whole.scores)


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("dim", [1, 5, 48, 300])
def test_approximate_scores_are_within_their_bound(name, dim):
    """And limits err on the safe side. Among the vectors are outliers, zeros, and some of very different lengths."""
    rng = np.random.default_rng(dim)
    queries, items = (rng.normal(size=(count, dim)) * 10.0 ** rng.integers(-9, 9, (count, 1)) for count in (40, 130))
    queries[3], items[5], items[7, 0] = 0, 0, 1e11
    queries, items = queries.astype(np.float32), items.astype(np.float32)
    for part in (items, items[10:74], items[5:6]):
        made = selection.make_selection(torch.from_numpy(queries), name)
        made.set_items(torch.from_numpy(part))
        block = made.scores(2, 40)
        exact = queries[2:].astype(np.float64) @ part.T.astype(np.float64)
        approximate = block.approximate.numpy() * block.unit[:, None]
        assert (np.abs(approximate - exact) <= block.slack[:, None]).all()
        lowest = rng.normal(size=38) * np.abs(exact).max(axis=1)
        above, surely = (
            (block.approximate >= limit[:, None]).numpy() for limit in (block.limit(lowest), block.certain(lowest))
        )
        assert above[exact >= lowest[:, None]].all() and (exact >= lowest[:, None])[surely].all()


def test_the_bound_of_int8_covers_the_worst_direction():
    """Items that are whole steps, and point where rounding moved the query: nearly the whole bound is reached."""
    queries = unit(np.random.default_rng(0).normal(size=(20, 96)))
    steps = np.abs(queries).max(axis=1, keepdims=True) / 127
    items = (np.sign(queries / steps - np.round(queries / steps)) / 96**0.5).astype(np.float32)
    for first, second in ((queries, items), (items, queries[:1])):
        made = selection.make_selection(torch.from_numpy(first), "int8")
        made.set_items(torch.from_numpy(second))
        block = made.scores(0, len(first))
        errors = np.abs(block.approximate.numpy() * block.unit[:, None] - first.astype(float) @ second.T.astype(float))
        assert (errors <= block.slack[:, None]).all() and (errors.max() > 0.7 * block.slack).any()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 127, 128, 4096, 5000])
def test_int8_selects_all_that_fp32_does(count):
    rng = np.random.default_rng(count)
    queries, items = unit(rng.normal(size=(70, 96))), unit(rng.normal(size=(count, 96)))
    items[rng.integers(count, size=20)] = queries[:20]  # found, and they make equal items
    whole = nearest_neighbours(queries, items, 5)
    found = nearest_neighbours(queries, items, 5, selection="int8", query_block=33)
    assert np.array_equal(found.rows, whole.rows) and np.array_equal(found.scores, whole.scores)


def test_a_processor_whose_int8_products_overflow_is_refused(monkeypatch):
    def saturated(left, right, out=None):
        return (left.int() @ right.int()).clamp(-(2**15), 2**15 - 1)

    selection._int8_products_are_exact.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", saturated)
    with pytest.raises(ConfigError, match="saturate"):
        nearest_neighbours(np.eye(3), np.eye(3), 1, selection="int8")
    selection._int8_products_are_exact.cache_clear()


def test_equal_vectors_tie_and_the_lower_row_is_better():
    items = np.repeat(unit(np.random.default_rng(0).normal(size=(1, 512))), 30, axis=0)
    found = nearest_neighbours(items, items, 4, query_block=7, item_block=11)
    assert np.array_equal(found.rows, np.tile(np.arange(4), (30, 1))) and len(np.unique(found.scores)) == 1


def test_thousands_of_equal_vectors_need_no_more_memory(monkeypatch):
    monkeypatch.setattr(neighbours, "_MAX_CANDIDATES", 100)
    items = np.repeat(np.eye(3, dtype=np.float32), 50, axis=0)
    found = nearest_neighbours(np.eye(3, dtype=np.float32), items, 60)
    assert found.rows[1].tolist() == [*range(50, 100), *range(10)]


@pytest.mark.parametrize("dim", [1, 2, 3, 7, 8, 100, 768])
def test_scores_are_sums_of_exact_products(dim):
    rng = np.random.default_rng(dim)
    one, other = rng.normal(size=(2, 50, dim)).astype(np.float32)
    exact = [
        sum(Fraction(float(a)) * Fraction(float(b)) for a, b in zip(*pair, strict=True))
        for pair in zip(one, other, strict=True)
    ]
    scores = exact_scores(one, other)
    assert np.allclose(scores, np.array([float(score) for score in exact]), rtol=1e-6)
    assert np.array_equal(exact_scores(torch.from_numpy(one), torch.from_numpy(other)), scores)
    assert np.array_equal(exact_scores(other, one), scores)
    assert np.array_equal(np.concatenate([exact_scores(one[i : i + 1], other[i : i + 1]) for i in range(50)]), scores)


def test_items_left_out_are_as_if_they_were_not_there():
    queries, items = near_ties(seed=3)
    without = np.random.default_rng(0).random(len(items)) < 0.7
    without[:130] = True
    kept = np.flatnonzero(~without)
    found = nearest_neighbours(queries, items, 9, without=without, item_block=64)
    assert np.array_equal(found.rows, kept[nearest_neighbours(queries, items[kept], 9).rows])
    everything = nearest_neighbours(queries, items, 9, without=np.ones(len(items), bool))
    assert everything.rows.shape == (50, 0)


def test_nothing_to_ask_and_nothing_to_find():
    assert nearest_neighbours(np.ones((0, 3)), np.eye(3), 2).rows.shape == (0, 2)
    assert nearest_neighbours(np.eye(3), np.ones((0, 3)), 2).rows.shape == (3, 0)
    assert nearest_neighbours(np.eye(3), [], 2).rows.shape == (3, 0)


@pytest.mark.parametrize(
    ("queries", "items", "options", "kind", "words"),
    [
        (np.eye(2), np.eye(3), {}, ShapeError, "do not fit"),
        (np.eye(2), np.ones((0, 3)), {}, ShapeError, "do not fit"),
        (np.eye(2), [np.eye(2), np.eye(3)], {}, ShapeError, "do not fit"),
        (np.ones(2), np.eye(2), {}, ShapeError, "do not fit"),
        (np.eye(2), np.eye(2), {"without": np.zeros(3, bool)}, ShapeError, "3 entries, but there are 2"),
        (np.array([[np.nan, 1]]), np.eye(2), {}, InputError, "NaN"),
        (np.eye(2), np.array([[np.inf, 1]]), {}, InputError, "NaN or infinity"),
        (np.full((1, 2), 1e20), np.full((1, 2), 1e20), {}, InputError, "too large"),
        (np.eye(2), np.eye(2), {"k": 0}, ConfigError, "k must be"),
        (np.eye(2), np.eye(2), {"item_block": 0}, ConfigError, "item_block must be"),
        (np.eye(2), np.eye(2), {"selection": "int4"}, ConfigError, "fp32 or int8, not 'int4'"),
    ],
)
def test_what_cannot_be_searched_is_an_error(queries, items, options, kind, words):
    with pytest.raises(kind, match=words):
        nearest_neighbours(queries, items, **{"k": 1, **options})


def test_a_process_wide_precision_changes_nothing_and_stays():
    queries, items = near_ties(seed=4)
    whole = nearest_neighbours(queries, items, 5)
    torch.set_float32_matmul_precision("medium")
    try:
        assert np.array_equal(nearest_neighbours(queries, items, 5).rows, whole.rows)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_bits():
    queries, items = near_ties(4000, 512)
    here, there = (nearest_neighbours(queries, items, 20, device=device) for device in ("cpu", "cuda"))
    assert np.array_equal(here.rows, there.rows) and np.array_equal(here.scores, there.scores)
