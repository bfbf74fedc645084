"""Where a photograph was taken: the place of its nearest neighbor among photographs whose place is known (table 17).

The paper says neither which a million photographs these were, nor which similarity and distance: here they are the
card's training split, the cosine of embeddings, and the great circle. Not zero-shot, and no text is needed. A reference
photograph that is one of those to be placed would give its answer away, so it is left out, and counted in the Result.

Source: CLIP paper, appendix E.4.
"""

import hashlib
import logging
from collections.abc import Iterable, Sequence

import numpy as np

from diptych.data.source import Source
from diptych.embed.encoder import Encoder
from diptych.embed.neighbours import similarity_blocks
from diptych.errors import DataError, InputError
from diptych.evalsets.card import Card
from diptych.evaluate.encoded_set import Encoded, encode_set
from diptych.evaluate.make_result import make_result
from diptych.evaluate.metrics.comparison import bootstrap
from diptych.evaluate.metrics.geography import RADII_KM, great_circle_km
from diptych.evaluate.metrics.score import COUNTED, RESAMPLED, Score
from diptych.evaluate.metrics.similarity import nearest
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.evaluate.tasks.task import Measurement, Setting, Task

logger = logging.getLogger(__name__)

PROTOCOL = "nearest_neighbour"
_ALIKE = 0.999  # cosine above which two images may be one; an equal one has 1, but for the rounding of bf16


def distance_scores(kilometres: np.ndarray, radii: Sequence[float] = RADII_KM, *, seed: int = 0) -> dict[str, Score]:
    """Shares of guesses within each radius, and the median error.

    Args:
        kilometres: float (N,), from each guess to the true place.
        seed: of the median's resamples.
    Returns:
        "within_1_km", ...: fractions with Clopper-Pearson intervals; "median_error_km": kilometers, with a bootstrap
        interval from two photographs on.
    Raises:
        InputError: there is no distance, or one is NaN or negative.
    """
    errors = np.asarray(kilometres, np.float64)
    if errors.ndim != 1 or not errors.size or not (errors >= 0).all():
        raise InputError("distances must be one row of numbers of at least 0")
    n, scores = len(errors), {}
    for radius in radii:
        near = int((errors <= radius).sum())
        scores[f"within_{radius:g}_km"] = Score(near / n, n, *clopper_pearson(near, n), COUNTED)
    median = float(np.median(errors))
    if n > 1:
        low, high = bootstrap(lambda rows: float(np.median(errors[rows])), n, seed=seed)
        scores["median_error_km"] = Score(median, n, low, high, RESAMPLED)
    else:
        scores["median_error_km"] = Score(median, n)
    return scores


def places_of(encoded: Encoded, where: str = "the set") -> np.ndarray:
    """Latitude and longitude of each photograph, float64 (N, 2), degrees.

    Raises:
        DataError: a photograph has none, or one that is no number.
    """
    places = np.empty((len(encoded.keys), 2))
    for row, (key, known) in enumerate(zip(encoded.keys, encoded.metadata, strict=True)):
        try:
            places[row] = float(known["latitude"]), float(known["longitude"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{where}: {key!r} has no latitude and longitude in degrees ({error}); name them beside each photograph"
            ) from error
    return places


def same_pictures(queries: Encoded, query_source: Source, reference: Encoded, reference_source: Source) -> np.ndarray:
    """Which reference photographs are among the queries: those of equal content, byte by byte.

    Keys decide nothing: two sets may count their photographs alike, and one photograph may have two names. Nor do
    vectors, since photographs of one burst are all but equal; but they say which few files need to be read again. A
    copy that was encoded anew, or is smaller, has other bytes and stays.

    Returns:
        bool (G,), by the reference's rows.
    """
    asked, alike = np.zeros(len(queries.keys), bool), np.zeros(len(reference.keys), bool)
    for rows, columns, table in similarity_blocks(queries.vectors, reference.vectors):
        close = table >= _ALIKE
        asked[rows] |= close.any(axis=1)
        alike[columns] |= close.any(axis=0)
    same = np.zeros(len(reference.keys), bool)
    if alike.any():
        contents = _contents(query_source, (queries.keys[row] for row in np.flatnonzero(asked)))
        known = set().union(*contents.values())
        theirs = _contents(reference_source, (reference.keys[row] for row in np.flatnonzero(alike)))
        for row in np.flatnonzero(alike):
            same[row] = bool(theirs.get(reference.keys[row], set()) & known)
    return same


def _contents(source: Source, keys: Iterable[str]) -> dict[str, set[bytes]]:
    """SHA-256 of the images of these keys; a key that comes twice has both."""
    found: dict[str, set[bytes]] = {}
    for sample in source.get_all(set(keys)):
        image = sample.image
        content = image if isinstance(image, bytes) else str(image.shape).encode() + image.tobytes()
        found.setdefault(sample.key, set()).add(hashlib.sha256(content).digest())
    return found


def _measure(encoder: Encoder, card: Card, setting: Setting) -> Measurement:
    sides = []
    for split in ("train", "test"):
        benchmark = setting.open(card, split)
        encoded = encode_set(encoder, benchmark, cache=setting.cache, num_workers=setting.num_workers)
        sides.append((encoded, places_of(encoded, f"{card.name}/{split}"), benchmark.source))
    (reference, known, reference_source), (queries, places, source) = sides
    same = same_pictures(queries, source, reference, reference_source)
    excluded = int(same.sum())
    if excluded == len(same):
        raise DataError(f"{card.name}: all {excluded} reference photographs are the test's own; others are needed")
    if excluded:
        logger.warning("%s: %d of %d reference photographs are the test's; left out", card.name, excluded, len(same))
    guesses = known[nearest(queries.vectors, reference.vectors, without=same)]
    results = [
        make_result(
            *("geolocation", card.name, "test", metric, value),
            protocol=PROTOCOL,
            encoder=encoder,
            fingerprint=benchmark.fingerprint,
            settings={
                "reference": len(known) - excluded,
                "reference_excluded": excluded,
                "reference_fingerprint": reference.fingerprint,
            },
        )
        for metric, value in distance_scores(great_circle_km(guesses, places), seed=setting.seed).items()
    ]
    return Measurement(results)


GEOLOCATION = Task(
    "geolocation",
    lambda card: card.task == "geolocation",
    lambda card: ("train", "test"),
    _measure,
    version=2,  # 1 left the test's own photographs in the reference
    needs_texts=False,
)
"""Shares of photographs that are placed within 1, 25, 200, 750 and 2500 km."""
