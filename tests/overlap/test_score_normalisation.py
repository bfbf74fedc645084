"""Augmented vectors give the normalised scores by dot product, and one threshold then fits planted hubs."""

import numpy as np
import pytest

from diptych.embed.neighbours import nearest_neighbours
from diptych.errors import ConfigError, ShapeError
from diptych.overlap.score_normalisation import ScoreNormalisation


def unit(rng, *shape):
    vectors = rng.standard_normal(shape)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def test_a_case_solved_by_hand():
    background = np.array([[1, 0], [0.6, 0.8], [0, 1], [-1, 0]], np.float32)
    normalisation = ScoreNormalisation(background, num_neighbours=2, beta=0.5)
    queries = np.array([[1, 0], [0, 1]], np.float32)  # best two: 1 and 0.6; 1 and 0.8
    assert normalisation.penalties(queries) == pytest.approx([0.4, 0.45])
    assert normalisation.augment_queries(queries) == pytest.approx(np.array([[1, 0, -0.4], [0, 1, -0.45]]))
    references = np.array([[0.8, 0.6]], np.float32)
    assert normalisation.augment_references(references) == pytest.approx(np.array([[0.8, 0.6, 1]]))
    scores = normalisation.augment_queries(queries) @ normalisation.augment_references(references).T
    assert scores[:, 0] == pytest.approx([0.8 - 0.4, 0.6 - 0.45])


def test_search_finds_the_same_references_with_lower_scores():
    rng = np.random.default_rng(0)
    queries, references, background = unit(rng, 30, 16), unit(rng, 200, 16), unit(rng, 100, 16)
    normalisation = ScoreNormalisation(background, num_neighbours=7, beta=1.3)
    plain = nearest_neighbours(queries, references, 5)
    lowered = nearest_neighbours(
        normalisation.augment_queries(queries), normalisation.augment_references(references), 5
    )
    expected = np.sort(queries @ background.T, axis=1)[:, -7:].mean(axis=1) * 1.3
    assert (plain.rows == lowered.rows).all()
    assert np.allclose(plain.scores - lowered.scores, expected[:, None], atol=1e-5)


def test_it_tells_copies_from_images_that_resemble_everything():
    """Half of the queries are near a cluster of look-alikes (no copies), half are noisy copies of isolated images."""
    rng = np.random.default_rng(1)
    centre, isolated = unit(rng, 64), unit(rng, 50, 64)

    def look_alikes(count):
        vectors = centre + 0.08 * rng.standard_normal((count, 64))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    copies = isolated + 0.12 * rng.standard_normal(isolated.shape).astype(np.float32)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    queries, references = np.concatenate([copies, look_alikes(50)]), np.concatenate([isolated, look_alikes(100)])
    normalisation = ScoreNormalisation(np.concatenate([look_alikes(50), unit(rng, 200, 64)]))
    plain = (queries @ references.T).max(axis=1)
    lowered = (normalisation.augment_queries(queries) @ normalisation.augment_references(references).T).max(axis=1)
    assert plain[:50].mean() < plain[50:].mean()  # cosines put the look-alikes first
    assert lowered[:50].min() > lowered[50:].max()


def test_beta_0_changes_nothing():
    rng = np.random.default_rng(2)
    queries, background = unit(rng, 3, 8), unit(rng, 20, 8)
    assert (ScoreNormalisation(background, beta=0).augment_queries(queries)[:, -1] == 0).all()


def test_wrong_settings_are_refused():
    background = np.eye(3, dtype=np.float32)
    with pytest.raises(ConfigError, match="background of 3 images"):
        ScoreNormalisation(background, num_neighbours=4)
    with pytest.raises(ConfigError, match="num_neighbours is 0"):
        ScoreNormalisation(background, num_neighbours=0)
    for beta in (-1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="beta"):
            ScoreNormalisation(background, 2, beta)
    with pytest.raises(ShapeError, match=r"\(B, E\)"):
        ScoreNormalisation(background[0], 1)
    with pytest.raises(ShapeError, match="width 3"):
        ScoreNormalisation(background, 2).augment_references(np.ones((2, 4), np.float32))
