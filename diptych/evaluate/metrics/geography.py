"""How far a guessed place is from the true one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import InputError, ShapeError

EARTH_RADIUS_KM = 6371.0088  # the mean radius (IUGG)
RADII_KM = (1, 25, 200, 750, 2500)  # street, city, region, country, continent


def great_circle_km(places: ArrayLike, others: ArrayLike) -> np.ndarray:
    """Distance of each place from the other, on a sphere of the Earth's mean radius.

    Args:
        places, others: float (N, 2), latitude in [-90, 90] and longitude in [-180, 180], degrees.
    Returns:
        float64 (N,), kilometers.
    Raises:
        ShapeError: the shapes differ or are no (N, 2).
        InputError: a place is not on the globe.
    """
    here, there = (_checked(side) for side in (places, others))
    if here.shape != there.shape:
        raise ShapeError(f"{here.shape} places cannot be compared with {there.shape}")
    latitude, longitude = np.radians(here).T
    other_latitude, other_longitude = np.radians(there).T
    # Haversine: exact for near places too, where the cosine's own formula cancels.
    across = np.cos(latitude) * np.cos(other_latitude) * np.sin((longitude - other_longitude) / 2) ** 2
    half = np.sin((latitude - other_latitude) / 2) ** 2 + across
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


def share_within(kilometres: ArrayLike, radii: Sequence[float] = RADII_KM) -> dict[float, float]:
    """For each radius in kilometers the share of distances (N,) that are at most so long.

    Raises:
        InputError: there is no distance, or one is NaN or negative.
    Source: CLIP paper, table 17.
    """
    distances = np.asarray(kilometres, dtype=np.float64)
    if distances.ndim != 1 or not distances.size or not (distances >= 0).all():
        raise InputError("distances must be one row of numbers of at least 0")
    return {radius: float(np.mean(distances <= radius)) for radius in radii}


def _checked(places: ArrayLike) -> np.ndarray:
    found = np.asarray(places, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] != 2:
        raise ShapeError(f"places must have the shape (N, 2), latitude and longitude; got {found.shape}")
    wrong = ~(np.abs(found) <= (90, 180)).all(axis=1)
    if wrong.any():
        raise InputError(f"place {int(wrong.argmax())} is not on the globe: {found[wrong.argmax()].tolist()}")
    return found
