"""Similarities of a set's vectors: nearest neighbors in a reference set, and class probabilities."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from diptych.embed.about import required_logit_scale
from diptych.embed.encoder import Encoder
from diptych.embed.neighbours import BLOCK, check_vectors, nearest_neighbours
from diptych.errors import InputError
from diptych.evalsets.benchmark import Benchmark
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.evaluate.zero_shot.classifier import zero_shot_logits


def nearest(
    queries: np.ndarray, items: np.ndarray, block: int = BLOCK, *, without: np.ndarray | None = None
) -> np.ndarray:
    """The item with the largest dot product for each query, exact; on ties the lower index.

    Args:
        queries: float (Q, E). items: float (G, E), G at least 1.
        without: bool (G,), items to ignore.
    Returns:
        int64 (Q,).
    Raises:
        ShapeError: queries and items differ in E.
        InputError: there is no item, or a vector is not finite.
    """
    if not len(items) or (without is not None and without.all()):
        raise InputError("there are no neighbors to find: the reference set is empty")
    check_vectors(queries, items)
    return nearest_neighbours(queries, items, 1, without=without, query_block=block).rows[:, 0]


def class_probabilities(
    encoder: Encoder, benchmark: Benchmark, vectors: np.ndarray, *, cache: Path | None = None, block: int = BLOCK
) -> Iterator[tuple[slice, np.ndarray]]:
    """Zero-shot probabilities of a set's classes, from all class names and templates.

    Args:
        vectors: float32 (N, E), the images' embeddings.
        cache: the classifier is cached in this folder; None caches nothing.
    Yields:
        A slice of rows, and their probabilities float32 (n, C).
    """
    names = benchmark.names or benchmark.class_names
    texts = class_embeddings(encoder, names, benchmark.templates, cache_folder=cache and cache / "classifiers")
    scale = required_logit_scale(encoder)
    for start in range(0, len(vectors), block):
        rows = slice(start, min(start + block, len(vectors)))
        block_vectors = torch.from_numpy(np.array(vectors[rows], np.float32))
        yield rows, zero_shot_logits(block_vectors, texts, scale).softmax(dim=1).numpy()
