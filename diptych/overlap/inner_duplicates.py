"""Duplicates inside training data: by the detector's cosine, or by the exact check of each image's neighbours.

Images are linked at or above a threshold, directly or over other images. That suits photographs. Where many images look
alike without being copies, such as products on white ground, links join strangers to large groups: by the cosine below
0.99, and by the check where outlines agree.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from diptych.embed.neighbours import exact_scores, nearest_neighbours
from diptych.overlap.checked_pairs import check_pairs
from diptych.overlap.groups import duplicate_groups, group_pairs
from diptych.overlap.remove import DUPLICATE, Removed
from diptych.overlap.training_index import TrainingIndex

LEAST_INNER_COSINE = 0.8
"""Training images below this cosine are not checked: copies inside one collection are mostly light changes."""
NUM_NEIGHBOURS = 5
_QUERIES = 4096


def inner_duplicates(index: TrainingIndex, threshold: float, but: Collection[str] = ()) -> Iterator[Removed]:
    """Every training image but the first of each group of near-duplicates, in the order of the index.

    Args:
        threshold: images are linked if their cosine is at least this, directly or over other images.
        but: keys of images that are removed anyway; the first of the others stays.
    """
    for rows in duplicate_groups(index.store, threshold).members():
        keys = index.store.keys(rows)
        left = [place for place, key in enumerate(keys) if key not in but]
        if len(left) < 2:
            continue
        vectors = index.store.vectors(rows[left])
        scores = exact_scores(vectors, np.broadcast_to(vectors[:1], vectors.shape))
        for place, score in zip(left[1:], scores[1:].tolist(), strict=True):
            yield Removed(keys[place], DUPLICATE, "", keys[left[0]], score)


def checked_duplicates(
    index: TrainingIndex, threshold: float, path: Path, *, but: Collection[str] = (), num_processes: int = 1
) -> Iterator[Removed]:
    """As `inner_duplicates`, with the scores of the exact check.

    Checked are each image's NUM_NEIGHBOURS nearest images with a cosine of at least LEAST_INNER_COSINE. The score of a
    removed image is the best of its links. Call it again to resume.

    Args:
        threshold: images are linked if the check's score is at least this.
        path: file of the checked pairs.
    Raises:
        ConfigError: OpenCV is not installed.
        DataError: the file is damaged, is used by another process, or cannot be written.
    """
    store = index.store
    links = np.concatenate([np.empty((0, 2), np.int64), *_proposed(index)])
    links = np.unique(np.sort(links, axis=1), axis=0)
    first, second = store.keys(links[:, 0]), store.keys(links[:, 1])
    shards = index.source_shards(links[:, 1]).tolist()
    pairs = dict(zip(zip(first, second, strict=True), shards, strict=True))
    checked = check_pairs(pairs, index.source, index.source, path, num_processes)
    scores = np.array([checked[pair] for pair in zip(first, second, strict=True)])
    links, scores = links[scores >= threshold], scores[scores >= threshold]
    best = np.full(len(store), -np.inf)
    for side in links.T:
        np.maximum.at(best, side, scores)
    for rows in group_pairs(len(store), links).members():
        left = [(key, row) for key, row in zip(store.keys(rows), rows.tolist(), strict=True) if key not in but]
        for key, row in left[1:]:
            yield Removed(key, DUPLICATE, "", left[0][0], float(best[row]))


def _proposed(index: TrainingIndex) -> Iterator[np.ndarray]:
    """Pairs of rows, int64 (M, 2), of images and their nearest other images; pairs may occur twice."""
    for start in range(0, len(index), _QUERIES):
        rows = np.arange(start, min(start + _QUERIES, len(index)))
        found = nearest_neighbours(index.store.vectors(rows), index.store.vector_shards(), NUM_NEIGHBOURS + 1)
        place, rank = np.nonzero(found.scores >= np.float32(LEAST_INNER_COSINE))
        pairs = np.stack([rows[place], found.rows[place, rank]], axis=1)
        yield pairs[pairs[:, 0] != pairs[:, 1]]
