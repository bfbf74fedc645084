"""Groups of near-duplicates: those of the table of all scores, each pair once, for any tiling and many equal images."""

import time

import numpy as np
import pytest
from vector_stores import all_scores, clustered, make_store, unit

from diptych.errors import ConfigError, InputError
from diptych.overlap import groups
from diptych.overlap.groups import Groups, duplicate_groups, similar_pairs

VECTORS = clustered(600, dim=24, seed=5, centres=150, spread=0.45)


def expected_pairs(vectors, threshold):
    scores = all_scores(vectors, vectors)
    first, second = np.nonzero(np.triu(scores.astype(np.float64) >= threshold, 1))
    return first, second, scores[first, second]


def expected_groups(vectors, threshold):
    """The smallest row that can be reached, by repeated steps over all pairs."""
    first, second, _ = expected_pairs(vectors, threshold)
    group = np.arange(len(vectors))
    while True:
        lower = group.copy()
        np.minimum.at(lower, second, group[first])
        np.minimum.at(lower, first, group[second])
        if np.array_equal(lower, group):
            return group
        group = lower


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("threshold", [0.7, 0.9, 0.97, 1.5, -2.0])
@pytest.mark.parametrize(("sizes", "stripe"), [([600], 10_000), ([1, 0, 299, 300], 100), ([90] * 6 + [60], 257)])
def test_groups_and_pairs_are_those_of_all_scores(tmp_path, monkeypatch, sizes, stripe, threshold, precision):
    if stripe < 10_000:
        monkeypatch.setattr(groups, "_TILE", 64)
        monkeypatch.setattr(groups, "_QUERIES", 37)
        monkeypatch.setattr(groups, "_PIECE", 2)
    store = make_store(tmp_path / "store", VECTORS, sizes)
    options = {"precision": precision, "stripe": stripe}
    found = duplicate_groups(store, threshold, **options)
    assert np.array_equal(found.group, expected_groups(VECTORS, threshold))
    pairs = list(similar_pairs(store, threshold, **options))
    joined = [np.concatenate([getattr(tile, name) for tile in pairs] or [[]]) for name in ("first", "second", "scores")]
    order = np.lexsort((joined[1], joined[0]))
    for ours, theirs in zip(joined, expected_pairs(VECTORS, threshold), strict=True):
        assert np.array_equal(ours[order], theirs)


@pytest.mark.parametrize("num_processes", [2, 3])
def test_processes_change_nothing(tmp_path, num_processes):
    store = make_store(tmp_path / "store", VECTORS, [200] * 3)
    found = duplicate_groups(store, 0.9, num_processes=num_processes, stripe=70)
    assert np.array_equal(found.group, expected_groups(VECTORS, 0.9))


def test_scores_at_the_threshold_count_and_the_next_lower_ones_do_not(tmp_path):
    """The threshold is a score, the next float32 above or below it, or lies between: rounding decides nothing."""
    store = make_store(tmp_path / "store", VECTORS)
    _, _, scores = expected_pairs(VECTORS, 0.9)
    for score in np.unique(scores)[:4]:
        above = np.nextafter(score, np.float32(2))
        for threshold in (float(score), float(above), (float(score) + float(above)) / 2):
            found = duplicate_groups(store, threshold)
            assert np.array_equal(found.group, expected_groups(VECTORS, threshold))


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_blank_images_that_all_look_alike_cost_a_few_tiles(tmp_path, monkeypatch, noise):
    """30,000 of them make 450 million pairs. Before and after them are images that have no duplicate."""
    rng = np.random.default_rng(0)
    blank = unit(np.ones((1, 64)) + noise * rng.normal(size=(30_000, 64)))
    others = unit(rng.normal(size=(200, 64)))
    store = make_store(tmp_path / "store", np.concatenate([others[:100], blank, others[100:]]), [10_000] * 3 + [200])
    products, real = [], groups._Tile.link
    monkeypatch.setattr(groups._Tile, "link", lambda self, forest: products.append(1) or real(self, forest))
    start = time.perf_counter()
    found = duplicate_groups(store, 0.95)
    assert time.perf_counter() - start < 60
    wanted = np.arange(30_200)
    wanted[100:30_100] = 100
    assert np.array_equal(found.group, wanted)
    assert found.num_redundant == 29_999 and found.kept().sum() == 201
    assert len(products) < 60  # of 130
    with pytest.raises(ConfigError, match="more than 1,000 pairs"):
        list(similar_pairs(store, 0.95, max_pairs=1000))


def test_doubtful_pairs_of_equal_images_are_scored_only_until_they_are_in_one_group(tmp_path, monkeypatch):
    """The threshold is their exact score, so that no approximate score decides."""
    vectors = np.repeat(VECTORS[:1], 5000, axis=0)
    store, scored, real = make_store(tmp_path / "store", vectors), [], groups._Tile._exact
    monkeypatch.setattr(groups._Tile, "_exact", lambda self, rows, _: scored.append(len(rows)) or real(self, rows, _))
    threshold = float(next(similar_pairs(make_store(tmp_path / "two", vectors[:2]), 0.9)).scores[0])
    scored.clear()
    assert (duplicate_groups(store, threshold).group == 0).all()
    assert sum(scored) < 1_500_000  # of 12 million
    above = float(np.nextafter(np.float32(threshold), np.float32(2)))
    small = make_store(tmp_path / "small", vectors[:300])
    assert duplicate_groups(small, above).num_redundant == 0


def test_members_and_which_of_them_is_kept():
    """Solved by hand: rows 0, 2 and 5 are alike, and so are 3 and 4."""
    found = Groups(np.array([0, 1, 0, 3, 3, 0]))
    assert [rows.tolist() for rows in found.members()] == [[0, 2, 5], [3, 4]]
    assert found.num_redundant == 3
    assert np.flatnonzero(found.kept()).tolist() == [0, 1, 3]
    pixels = np.array([10, 5, 90, 7, 7, 90])
    assert np.flatnonzero(found.kept(lambda rows: pixels[rows])).tolist() == [1, 2, 3]  # the smallest of equal ones


def test_chains_are_one_group(tmp_path):
    """Each image is like the next one only; the first and the last differ."""
    angles = np.linspace(0, np.pi / 2, 50)
    vectors = unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))[np.random.default_rng(0).permutation(50)]
    found = duplicate_groups(make_store(tmp_path / "store", vectors), float(np.cos(angles[1]) - 1e-6), stripe=7)
    assert (found.group == 0).all()


def test_nothing_and_wrong_settings(tmp_path):
    empty = make_store(tmp_path / "empty", VECTORS[:0], [])
    assert duplicate_groups(empty, 0.9).group.shape == (0,) and not list(similar_pairs(empty, 0.9))
    one = make_store(tmp_path / "one", VECTORS[:1])
    assert duplicate_groups(one, 0.9).kept().tolist() == [True]
    for threshold, options in [(np.nan, {}), (0.9, {"stripe": 0}), (0.9, {"precision": "fp16"})]:
        with pytest.raises(ConfigError):
            duplicate_groups(one, threshold, **options)
    broken = VECTORS[:3].copy()
    broken[1, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        make_store(tmp_path / "broken", broken)
