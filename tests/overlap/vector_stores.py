"""Stores of given vectors, and the neighbours that a sorted list of float64 sums gives, for the tests of a search."""

import shutil

import numpy as np
import torch

from diptych.embed.engine import EncodedBatch
from diptych.embed.shard_writer import ShardWriter
from diptych.embed.store import StoreManifest, open_store, shard_name
from diptych.records import Sample


def unit(vectors):
    """The vectors with unit norm, in float32."""
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(count, dim=32, seed=0, centres=20, spread=0.3):
    """Unit vectors around some centres; every tenth is equal to another."""
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(99).normal(size=(centres, dim))
    vectors = unit(middles[rng.integers(centres, size=count)] + spread * rng.normal(size=(count, dim)))
    vectors[::10] = vectors[rng.integers(count, size=len(vectors[::10]))]
    return vectors


def add_shards(folder, vectors, sizes, first=0):
    """Write the vectors as shards of the given sizes, the first of which is number `first`."""
    start = 0
    for number, size in enumerate(sizes, first):
        path = folder / shard_name(number, 0)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        keys = tuple(f"{number}/{row}" for row in range(size))
        with ShardWriter(path, vectors.shape[1]) as writer:
            if size:
                samples = tuple(Sample(key, b"") for key in keys)
                part = torch.from_numpy(vectors[start : start + size])
                writer.add(EncodedBatch(np.arange(size), samples, part))
            writer.finish(size, is_last=True)
        start += size


def make_store(folder, vectors, sizes=None, model="detector", mark="version 1", fingerprint="train"):
    """A store of the vectors, float32 (N, E), in shards of the given sizes."""
    folder.mkdir(parents=True)
    StoreManifest(fingerprint=fingerprint, model=model, model_fingerprint=mark, dim=vectors.shape[1]).write(folder)
    add_shards(folder, vectors, [len(vectors)] if sizes is None else sizes)
    return open_store(folder)


def all_scores(queries, items):
    """float32 (Q, N): sums in float64 of exact products."""
    return (queries.astype(np.float64) @ items.astype(np.float64).T).astype(np.float32)


def sorted_best(scores, k):
    """Rows (Q, k) by score, then by number, of a table of scores."""
    numbers = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.lexsort((numbers, -scores), axis=1)[:, :k]
