"""Approximate search: scores are exact, and the recall that it states is the one that an exact search finds."""

import sys

import numpy as np
import pytest
from vector_stores import all_scores, clustered, make_store, sorted_best, unit

from diptych.embed.neighbours import nearest_neighbours
from diptych.errors import ConfigError, ShapeError
from diptych.overlap.approximate import approximate_neighbours, build_index, measured_recall

pytest.importorskip("faiss")

ITEMS = clustered(6000, seed=1, centres=300, spread=0.8)
QUERIES = clustered(150, seed=2, centres=300, spread=0.8)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "store", ITEMS, [1000, 0, 2000, 3000])


def test_scores_are_exact_and_the_recall_is_what_an_exact_search_finds(store):
    index = build_index(store)
    recalls = []
    for num_probes in (1, 8, 10_000):
        found = approximate_neighbours(QUERIES, store, 5, index=index, num_probes=num_probes, num_sampled=1000)
        rows, scores = found.neighbours.rows, found.neighbours.scores
        table = all_scores(QUERIES, ITEMS)
        assert np.array_equal(scores, np.take_along_axis(table, rows, axis=1))
        assert (np.diff(scores, axis=1) <= 0).all() and all(len(set(row)) == 5 for row in rows.tolist())
        best = np.take_along_axis(table, sorted_best(table, 5), axis=1)
        assert found.recall == (scores >= best[:, -1:]).mean() and found.num_sampled == 150
        assert found.first_recall == (scores[:, 0] == best[:, 0]).mean()
        assert found.num_probes == min(num_probes, found.num_lists)
        recalls.append(found.recall)
    assert recalls[0] < recalls[1] < recalls[2] and recalls[2] > 0.99 and recalls[0] < 0.8


def test_the_recall_of_a_sample_is_near_that_of_all_queries(store):
    index = build_index(store)
    all_of_them = approximate_neighbours(QUERIES, store, 5, index=index, num_probes=4, num_sampled=150)
    sampled = [
        approximate_neighbours(QUERIES, store, 5, index=index, num_probes=4, num_sampled=60, seed=seed)
        for seed in (0, 0, 1, 2)
    ]
    assert sampled[0].recall == sampled[1].recall and len({one.recall for one in sampled}) > 1
    assert all(one.num_sampled == 60 and abs(one.recall - all_of_them.recall) < 0.12 for one in sampled)
    assert all(np.array_equal(one.neighbours.rows, all_of_them.neighbours.rows) for one in sampled)


def test_with_all_lists_it_is_the_exact_search(store):
    found = approximate_neighbours(QUERIES, store, 3, num_probes=10_000, index=build_index(store, num_lists=7))
    exact = nearest_neighbours(QUERIES, ITEMS, 3)
    assert (found.neighbours.rows == exact.rows).mean() > 0.99  # 8 bits choose the candidates


def test_copies_are_found_as_they_are_and_mirrored(store):
    mirrored = unit(np.random.default_rng(5).normal(size=QUERIES.shape))
    mirrored[:40] = ITEMS[:400:10]
    found = approximate_neighbours([QUERIES, mirrored], store, 5)
    wanted = np.maximum(all_scores(QUERIES, ITEMS), all_scores(mirrored, ITEMS))
    assert np.array_equal(found.neighbours.scores[:40, 0], wanted[:40].max(axis=1))
    assert np.allclose(found.neighbours.scores[:40, 0], 1)
    assert found.recall_above(0.999) == (1.0, int((wanted.max(axis=1) >= 0.999).sum()))
    few = approximate_neighbours(QUERIES, store, 5, num_probes=1)
    reached = [scores.max(axis=1) >= 0.8 for scores in (few.neighbours.scores, all_scores(QUERIES, ITEMS))]
    assert few.recall_above(0.8) == (reached[0].sum() / reached[1].sum(), reached[1].sum())
    assert reached[0].sum() < reached[1].sum() and np.isnan(few.recall_above(2)[0])


def test_lists_with_too_few_rows_are_filled_exactly(tmp_path):
    """Two far groups of 3 and 300 rows in lists of their own: the 5 best of the small one lie in both."""
    axes = np.eye(8)
    rng = np.random.default_rng(0)
    vectors = unit(np.concatenate([axes[:1]] * 3 + [axes[1:2]] * 300) + 0.01 * rng.normal(size=(303, 8)))
    store = make_store(tmp_path / "store", vectors)
    found = approximate_neighbours(vectors[:3], store, 5, num_probes=1, index=build_index(store, num_lists=2))
    exact = nearest_neighbours(vectors[:3], vectors, 5)
    assert np.array_equal(found.neighbours.rows, exact.rows) and found.recall == 1


@pytest.mark.parametrize("count", [0, 1, 3, 60])
def test_small_stores_and_more_neighbours_than_rows(tmp_path, count):
    store = make_store(tmp_path / "store", ITEMS[:count], [count] if count else [])
    found = approximate_neighbours(QUERIES[:4], store, 100)
    assert np.array_equal(found.neighbours.rows, nearest_neighbours(QUERIES[:4], ITEMS[:count], 100).rows)
    assert found.recall == 1 or count == 0
    nothing = approximate_neighbours(QUERIES[:0], store, 2)
    assert nothing.neighbours.rows.shape == (0, min(2, count)) and np.isnan(nothing.recall)


def test_recall_solved_by_hand():
    exact = np.array([[0.9, 0.8, 0.7], [0.9, 0.5, 0.5]], np.float32)
    found = np.array([[0.9, 0.7, 0.6], [0.5, 0.5, 0.5]], np.float32)  # an equal score is as good
    assert measured_recall(found, exact) == (5 / 6, 1 / 2)


def test_wrong_settings_are_errors(store, tmp_path, monkeypatch):
    other = make_store(tmp_path / "other", ITEMS[:10])
    for options in ({"k": 0}, {"num_probes": 0}, {"num_sampled": 0}, {"index": build_index(other)}):
        with pytest.raises(ConfigError):
            approximate_neighbours(QUERIES, store, **{"k": 5, **options})
    for num_lists in (0, 11, True):
        with pytest.raises(ConfigError, match="num_lists"):
            build_index(other, num_lists=num_lists)
    for queries in (QUERIES[:, :3], [], [QUERIES, QUERIES[:3]]):
        with pytest.raises(ShapeError, match="do not fit"):
            approximate_neighbours(queries, store, 5)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"pip install 'diptych\[overlap\]'"):
        build_index(store)
