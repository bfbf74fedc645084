"""Distances between guessed and true places."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import InputError, ShapeError

EARTH_RADIUS_KM = 6371.0088  # the mean radius (IUGG)
RADII_KM = (1, 25, 200, 750, 2500)  # street, city, region, country, continent


def great_circle_km(places: ArrayLike, others: ArrayLike) -> np.ndarray:
    """Great-circle distance of each pair of places, on a sphere of the Earth's mean radius.

    Args:
        places, others: float (N, 2), latitude in [-90, 90] and longitude in [-180, 180], degrees.
    Returns:
        float64 (N,), kilometers.
    Raises:
        ShapeError: the shapes differ or are not (N, 2).
        InputError: a place is not on the globe.
    """
    here, there = (_checked(side) for side in (places, others))
    if here.shape != there.shape:
        raise ShapeError(f"{here.shape} places cannot be compared with {there.shape}")
    latitude, longitude = np.radians(here).T
    other_latitude, other_longitude = np.radians(there).T
    # The haversine formula is also exact for near places, where the cosine formula loses digits.
    across = np.cos(latitude) * np.cos(other_latitude) * np.sin((longitude - other_longitude) / 2) ** 2
    half = np.sin((latitude - other_latitude) / 2) ** 2 + across
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half, 0, 1)))


def share_within(kilometres: ArrayLike, radii: Sequence[float] = RADII_KM) -> dict[float, float]:
    """For each radius in kilometers, the share of distances (N,) that do not exceed it.

    Raises:
        InputError: there is no distance, or one is NaN or negative.
    Source: CLIP paper, table 17.
    """
    distances = np.asarray(kilometres, dtype=np.float64)
    if distances.ndim != 1 or not distances.size or not (distances >= 0).all():
        raise InputError("distances must be one row of numbers of at least 0")
    return {radius: float(np.mean(distances <= radius)) for radius in radii}


def _checked(places: ArrayLike) -> np.ndarray:
    degrees = np.asarray(places, dtype=np.float64)
    if degrees.ndim != 2 or degrees.shape[1] != 2:
        raise ShapeError(f"places must have the shape (N, 2), latitude and longitude; got {degrees.shape}")
    invalid = ~(np.abs(degrees) <= (90, 180)).all(axis=1)
    if invalid.any():
        raise InputError(f"place {int(invalid.argmax())} is not on the globe: {degrees[invalid.argmax()].tolist()}")
    return degrees
