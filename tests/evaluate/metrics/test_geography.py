"""Distances on the globe: known ones, and scikit-learn's."""

import numpy as np
import pytest
from sklearn.metrics.pairwise import haversine_distances

from diptych.errors import InputError, ShapeError
from diptych.evaluate import great_circle_km, share_within
from diptych.evaluate.metrics.geography import EARTH_RADIUS_KM


def test_distances_that_are_known():
    quarter = np.pi / 2 * EARTH_RADIUS_KM
    places = [[0, 0], [0, 0], [0, 179.5], [90, 10], [10, 10], [-45, 20]]
    others = [[90, 0], [0, 90], [0, -179.5], [90, -70], [10, 10], [45, -160]]
    expected = [quarter, quarter, np.pi / 180 * EARTH_RADIUS_KM, 0, 0, 2 * quarter]
    assert great_circle_km(places, others) == pytest.approx(expected, abs=1e-6)
    # Paris to London: some 344 km.
    assert great_circle_km([[48.8566, 2.3522]], [[51.5074, -0.1278]])[0] == pytest.approx(343.6, abs=0.5)


def test_distances_against_scikit_learn():
    rng = np.random.default_rng(0)
    places, others = (rng.uniform((-90, -180), (90, 180), size=(100, 2)) for _ in range(2))
    expected = np.diag(haversine_distances(np.radians(places), np.radians(others))) * EARTH_RADIUS_KM
    assert great_circle_km(places, others) == pytest.approx(expected)


def test_shares_within_the_papers_radii():
    shares = share_within([0.5, 1.0, 24, 300, 3000])
    assert shares == pytest.approx({1: 0.4, 25: 0.6, 200: 0.6, 750: 0.8, 2500: 0.8})


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: great_circle_km([[91, 0]], [[0, 0]]), InputError, "place 0 is not on the globe"),
        (lambda: great_circle_km([[0, 0]], [[0, np.nan]]), InputError, "not on the globe"),
        (lambda: great_circle_km([[0, 0]], [[0, 0], [1, 1]]), ShapeError, "cannot be compared"),
        (lambda: great_circle_km([0, 0], [0, 0]), ShapeError, "latitude and longitude"),
        (lambda: share_within([]), InputError, "distances"),
        (lambda: share_within([np.nan]), InputError, "distances"),
    ],
)
def test_what_is_no_place_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
