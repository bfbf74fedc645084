"""Cosines of an encoder's embeddings of different photographs, of copies, and of one texture resized in two ways.

A part of duplicates.py, which reads the photographs and prints the figures.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from diptych.embed.encoder import Encoder
from diptych.embed.neighbours import nearest_neighbours
from diptych.overlap.copy_benchmark import Photo, encode_in_batches
from diptych.overlap.distractors import make_distractors
from diptych.overlap.unseen_copies import make_copy

COPIES = {"crop to 35 % of the area": ("strong crop", 2), "gray": ("grey", 1)}
"""Copy -> its rule and severity. Gray of usual severity also loses contrast."""
NUM_TEXTURES = 60


def without_repetitions(photos: Sequence[Photo]) -> list[Photo]:
    """The photographs without those whose pixels an earlier one has: the same photograph is no different one."""
    kept: dict[tuple[Any, ...], Photo] = {}
    for photo in photos:
        kept.setdefault((photo.image.size, photo.image.tobytes()), photo)
    return list(kept.values())


def embedding_cosines(encoder: Encoder, photos: Sequence[Photo], *, seed: int = 0) -> dict[str, Any]:
    """How an encoder's cosines tell copies from different photographs.

    Args:
        encoder: only its `encode_images` is used.
        photos: N different photographs, at least 2.
        seed: of the copies and textures.
    Returns:
        most_similar_pair: the cosine and keys of the two different photographs with the largest cosine.
        best_other_p99: 99th percentile of each photograph's largest cosine with another one.
        copies: by kind, the median cosine of a copy with its original, and the share of copies for which another
            photograph is nearer to the original than the copy is.
        textures: median and lowest cosine of a texture resized by nearest neighbour with the same resized by Lanczos.
    """
    vectors = encode_in_batches(encoder, [photo.image for photo in photos])
    other, best_other = best_others(vectors)
    first = int(best_other.argmax())
    copies = {}
    for name, (rule, severity) in COPIES.items():
        made = [make_copy(photo.image, rule, severity, photo.key, seed=seed) for photo in photos]
        cosines = row_cosines(vectors, encode_in_batches(encoder, made))
        copies[name] = {
            "median_cosine": float(np.median(cosines)),
            "share_another_nearer": float((best_other > cosines).mean()),
        }
    of_textures = texture_cosines(encoder, min(photos[0].image.size), seed)
    return {
        "most_similar_pair": {
            "cosine": float(best_other[first]),
            "keys": [photos[first].key, photos[int(other[first])].key],
        },
        "best_other_p99": float(np.percentile(best_other, 99)),
        "copies": copies,
        "textures": {"median_cosine": float(np.median(of_textures)), "lowest_cosine": float(of_textures.min())},
    }


def best_others(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's nearest other row, int64 (N,), and its cosine, float64 (N,)."""
    nearest = nearest_neighbours(vectors, vectors, 2)
    place = (nearest.rows[:, 0] == np.arange(len(vectors))).astype(int)  # a row is its own nearest, except in a tie
    rows = np.arange(len(vectors))
    return nearest.rows[rows, place], nearest.scores[rows, place].astype(np.float64)


def row_cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float64 (N,), the dot product of each row of `first` with the same row of `second`."""
    return np.einsum("ne,ne->n", first.astype(np.float64), second.astype(np.float64))


def texture_cosines(encoder: Encoder, size: int, seed: int) -> np.ndarray:
    """Cosine of each texture of twice the size, resized to `size` by nearest neighbour, with itself by Lanczos."""
    textures = [image for _, image in make_distractors("texture", NUM_TEXTURES, 2 * size, seed=seed)]
    resized = [
        encode_in_batches(encoder, [image.resize((size, size), algorithm) for image in textures])
        for algorithm in (Image.Resampling.NEAREST, Image.Resampling.LANCZOS)
    ]
    return row_cosines(*resized)


def show_cosines(detectors: dict[str, dict[str, Any]]) -> None:
    """The figures for people."""
    for name, figures in detectors.items():
        pair, textures = figures["most_similar_pair"], figures["textures"]
        print(f"\n{name}")
        print(f"  most similar different photographs   {pair['cosine']:.3f}  ({', '.join(pair['keys'])})")
        print(f"  1 in 100 has another one above       {figures['best_other_p99']:.3f}")
        for kind, row in figures["copies"].items():
            nearer = f"another photograph is nearer: {100 * row['share_another_nearer']:.1f} %"
            print(f"  {kind + ', median':36} {row['median_cosine']:.3f}  {nearer}")
        lowest = f"lowest: {textures['lowest_cosine']:.3f}"
        print(f"  textures resized by two algorithms   {textures['median_cosine']:.3f}  {lowest}")
