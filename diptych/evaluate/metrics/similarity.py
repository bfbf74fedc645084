"""Similarities of many vectors with many others, a block at a time: memory stays flat in the size of both sides."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from diptych.embed.about import required_logit_scale
from diptych.embed.encoder import Encoder
from diptych.errors import InputError, ShapeError
from diptych.evalsets.benchmark import Benchmark
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.evaluate.zero_shot.classifier import zero_shot_logits

BLOCK = 1024
_WIDE = 8192


def similarity_blocks(
    queries: np.ndarray, items: np.ndarray, block: int = BLOCK
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Dot products of all queries with all items, up to (block, 8192) of them at a time.

    They are summed in float64 and rounded to float32: equal vectors have equal scores in whatever block they lie, so
    that ties are ties and a ranking does not depend on the size of the blocks.

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


def nearest(
    queries: np.ndarray, items: np.ndarray, block: int = BLOCK, *, without: np.ndarray | None = None
) -> np.ndarray:
    """The item of the largest dot product with each query, exactly; of equal ones the lower index.

    Args:
        queries: float (Q, E). items: float (G, E), G at least 1.
        without: bool (G,), items that are not to be found, as if they were not there.
    Returns:
        int64 (Q,).
    Raises:
        ShapeError: the two differ in E.
        InputError: there is no item, or a vector is not finite.
    """
    if not len(items) or (without is not None and without.all()):
        raise InputError("there is nothing to be near to: the reference set is empty")
    best = np.full(len(queries), -np.inf, np.float32)
    found = np.zeros(len(queries), np.int64)
    for rows, columns, table in similarity_blocks(queries, items, block):
        if not np.isfinite(table).all():
            raise InputError("embeddings hold NaN or infinity; are the weights sound?")
        if without is not None:
            table[:, without[columns]] = -np.inf
        place = table.argmax(axis=1)
        value = table[np.arange(len(table)), place]
        better = value > best[rows]  # not where it is equal: an earlier block has the lower index
        best[rows] = np.where(better, value, best[rows])
        found[rows] = np.where(better, place + columns.start, found[rows])
    return found


def class_probabilities(
    encoder: Encoder, benchmark: Benchmark, vectors: np.ndarray, *, cache: Path | None = None, block: int = BLOCK
) -> Iterator[tuple[slice, np.ndarray]]:
    """Zero-shot probabilities of a set's classes, by all its names and templates.

    Args:
        vectors: float32 (N, E), the pictures' embeddings.
        cache: the classifier is kept below it; None keeps nothing.
    Yields:
        rows and float32 (n, C).
    """
    names = benchmark.names or benchmark.class_names
    texts = class_embeddings(encoder, names, benchmark.templates, cache_folder=cache and cache / "classifiers")
    scale = required_logit_scale(encoder)
    for start in range(0, len(vectors), block):
        rows = slice(start, min(start + block, len(vectors)))
        some = torch.from_numpy(np.array(vectors[rows], np.float32))
        yield rows, zero_shot_logits(some, texts, scale).softmax(dim=1).numpy()


def check_vectors(queries: np.ndarray, items: np.ndarray) -> None:
    """Raise ShapeError unless both are matrices of the same width."""
    if queries.ndim != 2 or items.ndim != 2 or queries.shape[1] != items.shape[1]:
        raise ShapeError(f"embeddings of shapes {queries.shape} and {items.shape} do not fit: (N, E) and (M, E)")
