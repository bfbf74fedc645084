"""Geolocation: the place of a photograph's nearest neighbor among photographs with known places (table 17).

The paper does not state its million reference photographs, its similarity or its distance. Here they are the card's
training split, the cosine of embeddings, and the great-circle distance. The task is not zero-shot and needs no texts. A
test photograph among the reference photographs would reveal its own place, so it is left out and counted in the Result.

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
from diptych.evaluate.metrics.comparison import bootstrap
from diptych.evaluate.metrics.geography import RADII_KM, great_circle_km
from diptych.evaluate.metrics.score import COUNTED, RESAMPLED, Score
from diptych.evaluate.metrics.similarity import nearest
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.evaluate.scored_results import make_result
from diptych.evaluate.tasks.task import Measurement, Setting, Task

logger = logging.getLogger(__name__)

PROTOCOL = "nearest_neighbour"
_ALIKE = 0.999  # cosine from which two images may be identical; identical ones have 1, up to bf16 rounding


def distance_scores(kilometres: np.ndarray, radii: Sequence[float] = RADII_KM, *, seed: int = 0) -> dict[str, Score]:
    """The shares of guesses within each radius, and the median error.

    Args:
        kilometres: float (N,), distance of each guess from the true place.
        seed: seed of the median's resamples.
    Returns:
        "within_1_km", ...: fractions with Clopper-Pearson intervals; "median_error_km": kilometers, with a bootstrap
        interval if there are at least two photographs.
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
        DataError: a photograph has no place, or one that is not a number.
    """
    places = np.empty((len(encoded.keys), 2))
    for row, (key, facts) in enumerate(zip(encoded.keys, encoded.metadata, strict=True)):
        try:
            places[row] = float(facts["latitude"]), float(facts["longitude"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{where}: {key!r} has no latitude and longitude in degrees ({error}); "
                "add them to the metadata of each photograph"
            ) from error
    return places


def same_pictures(queries: Encoded, query_source: Source, reference: Encoded, reference_source: Source) -> np.ndarray:
    """Find the reference photographs that are also queries: those with identical bytes.

    Keys are not compared: two sets may number their photographs alike, and one photograph may have two names. Vectors
    do not suffice either, since photographs of one burst are almost equal; they only select the files to read again. A
    copy that was re-encoded or resized has other bytes and is kept.

    Returns:
        bool (G,), one per reference photograph.
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
    """SHA-256 digests of the images with these keys; a repeated key has several."""
    digests: dict[str, set[bytes]] = {}
    for sample in source.get_all(set(keys)):
        image = sample.image
        content = image if isinstance(image, bytes) else str(image.shape).encode() + image.tobytes()
        digests.setdefault(sample.key, set()).add(hashlib.sha256(content).digest())
    return digests


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
    version=2,  # 1 left test photographs in the reference
    needs_texts=False,
)
"""Shares of photographs placed within 1, 25, 200, 750 and 2500 km."""
