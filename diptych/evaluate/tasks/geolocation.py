"""Where a photograph was taken: the place of its nearest neighbour among photographs whose place is known (table 17).

The paper says neither which a million photographs these were, nor which similarity and distance: here they are the
card's training split, the cosine of embeddings, and the great circle. Not zero-shot, and no text is needed.

Source: CLIP paper, appendix E.4.
"""

from collections.abc import Sequence

import numpy as np

from diptych.data.cards.card import Card
from diptych.data.cards.opening import open_card
from diptych.embed.encoder import Encoder
from diptych.errors import DataError, InputError
from diptych.evaluate.encoded import Encoded, encode_set
from diptych.evaluate.metrics.comparison import bootstrap
from diptych.evaluate.metrics.geography import RADII_KM, great_circle_km
from diptych.evaluate.metrics.score import COUNTED, RESAMPLED, Score
from diptych.evaluate.metrics.similarity import nearest
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.evaluate.results import make_result
from diptych.evaluate.tasks.task import Setting, Task
from diptych.records import Result

PROTOCOL = "nearest neighbour"


def distance_scores(kilometres: np.ndarray, radii: Sequence[float] = RADII_KM, *, seed: int = 0) -> dict[str, Score]:
    """Shares of guesses within each radius, and the median error.

    Args:
        kilometres: float (N,), from each guess to the true place.
        seed: of the median's resamples.
    Returns:
        "within_1_km", ...: fractions with Clopper-Pearson intervals; "median_error_km": kilometres, with a bootstrap
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


def _measure(encoder: Encoder, card: Card, setting: Setting) -> list[Result]:
    sides = []
    for split in ("train", "test"):
        benchmark = open_card(card, setting.data, split)
        encoded = encode_set(encoder, benchmark, cache=setting.cache, num_workers=setting.num_workers)
        sides.append((encoded, places_of(encoded, f"{card.name}/{split}")))
    (reference, known), (queries, places) = sides
    guesses = known[nearest(queries.vectors, reference.vectors)]
    return [
        make_result(
            *("geolocation", card.name, "test", metric, value),
            protocol=PROTOCOL,
            encoder=encoder,
            fingerprint=benchmark.fingerprint,
            settings={"reference": len(known), "reference_fingerprint": reference.fingerprint},
        )
        for metric, value in distance_scores(great_circle_km(guesses, places), seed=setting.seed).items()
    ]


GEOLOCATION = Task(
    "geolocation",
    lambda card: card.task == "geolocation",
    lambda card: ("train", "test"),
    _measure,
    needs_texts=False,
)
"""Shares of photographs that are placed within 1, 25, 200, 750 and 2500 km."""
