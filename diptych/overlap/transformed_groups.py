"""The recipe of imagededup's benchmark on transformed images: groups of one photograph and five changed versions.

From each photograph: a random crop of 7/8 of each side, the mirror image, the image upside down, a rotation by 25
degrees, and a resize to a square. All pairs inside a group are duplicates, all others are not; precision and recall are
those of pairs. The corners that the rotation leaves are black; imagededup's page does not say what its authors did.

Source: imagededup, documentation, page "Benchmarks", "Transformed dataset".
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from diptych.embed.encoder import Encoder
from diptych.overlap.copy_benchmark import encode_in_batches
from diptych.overlap.copy_scores import precision_recall
from diptych.overlap.exact_check import check_gray, gray_image
from diptych.overlap.image_views import AS_IT_IS, VIEWS

ANGLE = 25
_KEPT = 7 / 8


@dataclasses.dataclass(frozen=True)
class PairQuality:
    """Precision and recall of pairs at a threshold; `precision` is None if no pair reaches it."""

    threshold: float
    precision: float | None
    recall: float


def transformed_group(image: Image.Image, rng: np.random.Generator) -> dict[str, Image.Image]:
    """The photograph and its five changed versions, by name."""
    width, height = round(image.width * _KEPT), round(image.height * _KEPT)
    left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    side = min(image.size)
    return {
        "original": image,
        "crop": image.crop((left, top, left + width, top + height)),
        "mirrored": ImageOps.mirror(image),
        "upside down": ImageOps.flip(image),
        "rotated": image.rotate(ANGLE, Image.Resampling.BICUBIC),
        "square": image.resize((side, side), Image.Resampling.BICUBIC),
    }


def pair_scores(encoder: Encoder, images: Sequence[Image.Image], views: Sequence[str]) -> np.ndarray:
    """Scores of all pairs, float32 (N, N): the largest cosine of a view of one image with the other as it is."""
    plain = encode_in_batches(encoder, images)
    scores = plain @ plain.T
    for view in views:
        if view != AS_IT_IS:
            np.maximum(
                scores, encode_in_batches(encoder, [VIEWS[view](image) for image in images]) @ plain.T, out=scores
            )
    return np.maximum(scores, scores.T)


def checked_scores(images: Sequence[Image.Image], scores: np.ndarray, num_candidates: int = 10) -> np.ndarray:
    """Scores of the exact check, float32 (N, N), for each image's `num_candidates` best others; -1 for other pairs.

    Args:
        scores: of `pair_scores`.
    """
    gray = [gray_image(image) for image in images]
    others = scores - 3 * np.eye(len(images), dtype=scores.dtype)  # no image is its own candidate
    best = np.argsort(-others, axis=1, kind="stable")[:, :num_candidates]
    pairs = {(min(row, other), max(row, other)) for row, others in enumerate(best.tolist()) for other in others}
    checked = np.full(scores.shape, -1.0, np.float32)
    for first, second in sorted(pairs):
        checked[first, second] = checked[second, first] = check_gray(gray[first], gray[second]).score
    return checked


def pair_quality(scores: np.ndarray, group: np.ndarray, threshold: float) -> PairQuality:
    """Precision and recall of the pairs at or above a threshold.

    Args:
        scores: float (N, N), symmetric. group: int64 (N,), the group of each image.
        threshold: the least score of a duplicate.
    """
    upper = np.triu_indices(len(group), 1)
    accepted, same = scores[upper] >= threshold, group[upper[0]] == group[upper[1]]
    right = int((accepted & same).sum())
    return PairQuality(
        threshold, right / int(accepted.sum()) if accepted.any() else None, right / max(1, int(same.sum()))
    )


def choose_threshold(scores: np.ndarray, group: np.ndarray, precision: float) -> float:
    """The threshold with the largest recall at this precision; infinity if no threshold reaches it."""
    upper = np.triu_indices(len(group), 1)
    same = group[upper[0]] == group[upper[1]]
    return precision_recall(scores[upper], same, same).recall_at(precision)[1]
