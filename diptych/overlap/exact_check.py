"""An exact check of a candidate pair: lay one image over the other, then correlate their pixels.

A detector's score says how alike two images look. Two different photographs of one scene can look very alike, but no
affine map lays one over the other so that details agree. The check looks for that map:

1. Registration: SIFT features of both images, matched, and an affine map by RANSAC. The identity, for copies of a
   whole frame with too few features, is the second proposal. Both are tried with the query mirrored, too. The best
   proposal is refined by ECC, which maximises the correlation of the pixels directly.
2. Correlation, of the area that both images show: each pixel minus the mean of its surroundings, over their standard
   deviation. This removes colour casts, contrast and shading, in which different photographs agree by chance.

It takes about 0.1 s a pair on one core, which suits the few candidates that a search leaves.

Source: SIFT: Lowe (2004); ECC: Evangelidis and Psarakis (2008); all through OpenCV.
"""

import dataclasses
import importlib
from typing import Any

import numpy as np
from PIL import Image

from diptych.data.decoding import decode_image
from diptych.embed.encoder import ImageInput
from diptych.errors import ConfigError

_SIDE = 192  # pixels of the long side at which images are compared; smaller images are enlarged
_NUM_FEATURES = 500
_RATIO = 0.85  # of the distances to the best and the second best match
_TOLERANCE = 4.0  # pixels between a feature and its image under the map
_LEAST_INLIERS = 5
_LEAST_OVERLAP = 24 * 24  # pixels
_MAX_SCALE, _MAX_STRETCH = 5.0, 2.5
_WINDOW = 2.5  # standard deviation, in pixels, of the surroundings of a pixel
_LEAST_DETAIL = 1e-3  # mean square; blank areas have rounding errors alone, which agree
_NOISE = 2.0  # grey values; surroundings with less structure count for nothing

VERSION = 1
"""Changes whenever a pair may get another score."""
LEAST_COPY_SCORE = 0.15
"""Photographs with at least this score are copies: different ones reach 0.12, and nearly all copies more than 0.2.

Frames of one film and digits of one shape do fit over each other; for them the score says little.
"""
CERTAIN = 0.3
"""Far above what different photographs reach; nothing else is tried then."""


@dataclasses.dataclass(frozen=True)
class PairCheck:
    """How well a query lies over a reference.

    Attributes:
        score: correlation of the details in the shared area, in [-1, 1]; 0 if no map was found.
        share: the shared area, as a fraction of the image that it covers more, in [0, 1].
        mirrored: whether the query had to be mirrored.
    """

    score: float
    share: float
    mirrored: bool


def check_pair(query: ImageInput, reference: ImageInput) -> PairCheck:
    """Whether two images show the same photograph.

    Args:
        query, reference: of any size; images of 32 pixels are enlarged first. The result hardly depends on which is
            which.
    Raises:
        ConfigError: OpenCV is not installed.
        ImageError: an image cannot be decoded.
    """
    return check_gray(gray_image(query), gray_image(reference))


def gray_image(image: ImageInput) -> np.ndarray:
    """An image as `check_gray` takes it: uint8 (height, width), long side 192.

    Raises:
        ImageError: it cannot be decoded.
    """
    decoded = decode_image(image).convert("L")
    factor = _SIDE / max(decoded.size)
    size = (max(8, round(decoded.width * factor)), max(8, round(decoded.height * factor)))
    return np.asarray(decoded.resize(size, Image.Resampling.BICUBIC))


def check_gray(query: np.ndarray, reference: np.ndarray) -> PairCheck:
    """`check_pair` of images from `gray_image`, which serve for many pairs.

    Raises:
        ConfigError: OpenCV is not installed.
    """
    cv2 = _opencv()
    target, turned = _Prepared(cv2, reference), _Prepared(cv2, query)
    check, matrix = _best_map(cv2, turned, target, mirrored=False)
    if check.score < CERTAIN:
        mirror = turned.mirrored(cv2)
        other, other_matrix = _best_map(cv2, mirror, target, mirrored=True)
        if other.score > check.score:
            check, matrix, turned = other, other_matrix, mirror
    refined = _by_pixels(cv2, turned.grey, target.grey, matrix)
    if refined is None:
        return check
    score, share = _correlation(cv2, turned.grey, target.grey, refined)
    return PairCheck(score, share, check.mirrored) if score > check.score else check


class _Prepared:
    """An image as the check uses it.

    Attributes:
        grey: uint8 (height, width), long side `_SIDE`.
        points, descriptors: SIFT features, float32 (n, 2) and (n, 128); `descriptors` is None if there is none.
    """

    def __init__(self, cv2: Any, grey: np.ndarray) -> None:
        self.grey = grey
        sift = cv2.SIFT_create(nfeatures=_NUM_FEATURES, contrastThreshold=0.02)
        keypoints, self.descriptors = sift.detectAndCompute(grey, None)
        self.points = np.array([keypoint.pt for keypoint in keypoints], np.float32).reshape(-1, 2)

    def mirrored(self, cv2: Any) -> "_Prepared":
        return _Prepared(cv2, np.ascontiguousarray(self.grey[:, ::-1]))


def _best_map(cv2: Any, query: _Prepared, target: _Prepared, *, mirrored: bool) -> tuple[PairCheck, np.ndarray]:
    """The best of the proposed maps with its check."""
    proposals = [_stretch(query.grey.shape, target.grey.shape)]
    proposals += [matrix for matrix in [_by_features(cv2, query, target)] if matrix is not None]
    checks = [PairCheck(*_correlation(cv2, query.grey, target.grey, matrix), mirrored) for matrix in proposals]
    best = max(range(len(checks)), key=lambda index: checks[index].score)
    return checks[best], proposals[best]


def _stretch(shape: tuple[int, ...], onto: tuple[int, ...]) -> np.ndarray:
    """The affine map, float64 (2, 3), that stretches one whole image onto another."""
    return np.array([[onto[1] / shape[1], 0.0, 0.0], [0.0, onto[0] / shape[0], 0.0]])


def _by_features(cv2: Any, query: _Prepared, target: _Prepared) -> np.ndarray | None:
    """An affine map by matched features, float64 (2, 3); None if too few agree on one."""
    if query.descriptors is None or target.descriptors is None or min(len(query.points), len(target.points)) < 4:
        return None
    pairs = cv2.BFMatcher().knnMatch(query.descriptors, target.descriptors, k=2)
    good = [first for first, second in pairs if first.distance < _RATIO * second.distance]
    if len(good) < _LEAST_INLIERS:
        return None
    from_points = query.points[[match.queryIdx for match in good]]
    to_points = target.points[[match.trainIdx for match in good]]
    cv2.setRNGSeed(0)  # RANSAC draws at random; each call draws the same
    matrix, inliers = cv2.estimateAffine2D(
        from_points, to_points, method=cv2.RANSAC, ransacReprojThreshold=_TOLERANCE, maxIters=2000
    )
    if matrix is None or int(inliers.sum()) < _LEAST_INLIERS or not _is_plausible(matrix):
        return None
    return matrix


def _by_pixels(cv2: Any, query: np.ndarray, target: np.ndarray, matrix: np.ndarray) -> np.ndarray | None:
    """The map refined by ECC, float64 (2, 3); None if it does not converge."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)
    start = cv2.invertAffineTransform(matrix).astype(np.float32)  # ECC's map leads from the target to the query
    inside = np.full(query.shape, 255, np.uint8)
    try:
        _, found = cv2.findTransformECC(target, query, start, cv2.MOTION_AFFINE, criteria, inside, 5)
    except cv2.error:  # it did not converge, or the images do not overlap
        return None
    refined = cv2.invertAffineTransform(found.astype(np.float64))
    return refined if np.isfinite(refined).all() and _is_plausible(refined) else None


def _is_plausible(matrix: np.ndarray) -> bool:
    """Whether a map is one that people make: not turned over, of moderate scale and stretch."""
    if np.linalg.det(matrix[:, :2]) <= 0:
        return False
    large, small = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(large < _MAX_SCALE and small > 1 / _MAX_SCALE and large < _MAX_STRETCH * small)


def _correlation(cv2: Any, query: np.ndarray, target: np.ndarray, matrix: np.ndarray) -> tuple[float, float]:
    """Correlation of details in the shared area, and the shared area's share."""
    size = (target.shape[1], target.shape[0])
    laid = cv2.warpAffine(query, matrix, size, flags=cv2.INTER_AREA if matrix[0, 0] < 1 else cv2.INTER_LINEAR)
    covered = cv2.warpAffine(np.ones(query.shape, np.float32), matrix, size, flags=cv2.INTER_LINEAR) > 0.99
    area = float(covered.sum())
    if area < _LEAST_OVERLAP:
        return 0.0, 0.0
    query_area = query.size * abs(float(np.linalg.det(matrix[:, :2])))
    share = min(1.0, area / min(query_area, float(target.size)))
    weight = covered.astype(np.float32)
    first, second = _details(cv2, laid, weight), _details(cv2, target, weight)
    first, second = first[covered].astype(np.float64), second[covered].astype(np.float64)
    least, other = sorted([float((first**2).mean()), float((second**2).mean())])
    if least < _LEAST_DETAIL:
        return 0.0, share
    return float((first * second).mean() / np.sqrt(least * other)), share


def _details(cv2: Any, grey: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Each pixel minus the weighted mean of its surroundings, over their standard deviation; float32."""

    def around(values: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(values * weight, (0, 0), _WINDOW) / total

    pixels = grey.astype(np.float32)
    total = np.maximum(cv2.GaussianBlur(weight, (0, 0), _WINDOW), 1e-3)
    mean = around(pixels)
    variance = np.maximum(around(pixels * pixels) - mean * mean, 0)
    return (pixels - mean) / np.sqrt(variance + _NOISE**2)


def _opencv() -> Any:
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError as error:
        raise ConfigError(f"the exact check needs OpenCV: pip install 'diptych[overlap]' ({error})") from error
    cv2.setNumThreads(1)  # images this small gain nothing by threads, and threads do not survive a fork
    return cv2
