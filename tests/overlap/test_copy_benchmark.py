"""An encoder that knows the truth scores 1 and a random one 0; precision and recall are right on hand-solved cases."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from pictures import noise, painting
from PIL import Image

from diptych.errors import ConfigError
from diptych.overlap.copy_benchmark import (
    HARD_RULE,
    VIEWS,
    Answers,
    Contender,
    Photo,
    answer_copies,
    build_benchmark,
    check_answers,
    copies,
)
from diptych.overlap.copy_scores import precision_recall, report_answers, summarise
from diptych.overlap.score_normalisation import ScoreNormalisation
from diptych.overlap.transformed_groups import (
    checked_scores,
    choose_threshold,
    pair_quality,
    pair_scores,
    transformed_group,
)

RULES = ("mirror", "strong crop", "overlaid text")


def digest(image: Image.Image) -> bytes:
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()


class RandomEncoder:
    """A vector drawn for each different image."""

    name = "random"

    def vector(self, image: Image.Image) -> np.ndarray:
        seed = int.from_bytes(digest(image)[:8], "little")
        return np.random.default_rng(seed).standard_normal(32)

    def encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        vectors = torch.from_numpy(np.stack([self.vector(image) for image in images])).float()
        return torch.nn.functional.normalize(vectors, dim=1)


class OracleEncoder(RandomEncoder):
    """Knows which photograph each copy shows: its vector is that of the photograph."""

    name = "oracle"

    def __init__(self, benchmark, mirrored_only: bool = False) -> None:
        self.originals = {}
        for rule in RULES:
            for severity in (1, 2, 3):
                for photo, copy in zip(benchmark.queried, copies(benchmark, rule, severity), strict=True):
                    seen = VIEWS["mirrored"](copy) if mirrored_only else copy
                    self.originals[digest(seen)] = photo.image

    def vector(self, image: Image.Image) -> np.ndarray:
        return super().vector(self.originals.get(digest(image), image))


@pytest.fixture(scope="module")
def benchmark():
    photos = [Photo(f"photo {seed}", noise(64, 48, seed), label=seed % 4) for seed in range(40)]
    return build_benchmark(photos, num_queried=20, num_distractors=4, size=32)


def test_half_of_the_queried_photographs_are_in_the_database(benchmark):
    keys = [photo.key for photo in benchmark.database]
    assert len(set(keys)) == len(keys) == 10 + 20 + 5 * 4 and len(benchmark.hard) == 5 * 4
    assert [keys[row] for row in benchmark.original[::2]] == [photo.key for photo in benchmark.queried[::2]]
    assert (benchmark.original[1::2] == -1).all()
    assert not {photo.key for photo in benchmark.queried[1::2]} & set(keys)
    assert not {photo.key for photo in benchmark.hard} & set(keys)


def test_others_of_the_class_are_counted():
    photos = [Photo(f"{label} {number}", noise(8, 8), label) for label in range(2) for number in range(4)]
    others = [Photo(f"other {number}", noise(8, 8), 0) for number in range(6)]
    made = build_benchmark(photos, others, num_queried=8, num_distractors=1)
    in_database = [photo.label for photo in made.database if photo.label is not None]
    expected = [
        in_database.count(photo.label) - (row >= 0) for photo, row in zip(made.queried, made.original, strict=True)
    ]
    assert made.same_class == pytest.approx(np.mean(expected))
    assert build_benchmark([Photo(str(n), noise(8, 8)) for n in range(4)], num_queried=4).same_class is None


def test_the_oracle_finds_every_copy_and_the_random_encoder_none(benchmark):
    contenders = [Contender("oracle", OracleEncoder(benchmark)), Contender("random", RandomEncoder(), ("as_it_is",))]
    answers = answer_copies(benchmark, contenders, rules=RULES)
    report = report_answers(benchmark, answers["oracle"])
    for pool, num_severities in (("pooled", 3), ("usual", 1)):
        num_queries = 20 * len(RULES) * num_severities
        assert report[pool]["num_queries"] == num_queries and report[pool]["num_present"] == num_queries // 2
        for precision in ("90", "99", "99.9"):
            assert report[pool][f"recall_at_{precision}"] == {
                "value": 1.0,
                "interval": [1.0, 1.0],
                "threshold": pytest.approx(1.0, abs=1e-5),
            }
    cells = [cell for rule in report["by_rule"].values() for cell in rule.values()]
    assert len(cells) == 9 and all(cell["recall"] == cell["precision"] == 1 for cell in cells)
    assert set(report["false_alarms"].values()) == {0.0} and len(report["false_alarms"]) == 5
    summary = summarise(answers["random"].of())
    assert summary["recall_at_90"]["value"] < 0.05 and summary["nearest_right"] < 0.15


def test_a_view_finds_what_the_plain_query_does_not(benchmark):
    encoder = OracleEncoder(benchmark, mirrored_only=True)
    contenders = [Contender("both", encoder), Contender("plain", encoder, views=("as_it_is",))]
    answers = answer_copies(benchmark, contenders, rules=RULES[:2], severities=[2])
    assert answers["both"].of().right.sum() == 20
    assert answers["plain"].of().right.sum() < 5


def test_normalised_scores_are_the_dot_products_of_augmented_vectors(benchmark):
    encoder = OracleEncoder(benchmark)
    background = encoder.encode_images([noise(20, 20, seed) for seed in range(100, 130)]).numpy()
    normalisation = ScoreNormalisation(background, 3)
    contenders = [Contender("plain", encoder, ("as_it_is",)), Contender("lower", encoder, ("as_it_is",), normalisation)]
    answers = answer_copies(benchmark, contenders, rules=RULES[:1], severities=[1])
    vectors = encoder.encode_images(list(copies(benchmark, RULES[0], 1))).numpy()
    plain, lower = answers["plain"].of(), answers["lower"].of()
    assert (plain.nearest == lower.nearest).all()
    assert np.allclose(plain.score - lower.score, normalisation.penalties(vectors), atol=1e-5)


def test_the_exact_check_finds_the_copies_among_the_candidates(benchmark):
    pytest.importorskip("cv2")
    contenders = [Contender("oracle", OracleEncoder(benchmark))]
    answers = answer_copies(benchmark, contenders, rules=["mirror"], severities=[2])["oracle"].of()
    answers = answers.where(np.arange(8))
    wrong, other = ((answers.nearest + step) % len(benchmark.database) for step in (1, 2))
    later = dataclasses.replace(
        answers,
        nearest=wrong,
        right=np.zeros(8, bool),
        candidates=np.stack([wrong, wrong, answers.nearest, other], axis=1),
    )
    for before, num_candidates in ((answers, 1), (later, 2)):
        checked = check_answers(benchmark, before, num_candidates=num_candidates)
        assert (checked.right == answers.right).all() and checked.right.sum() == 4
        assert checked.score[checked.right].min() > 0.5 > 0.15 > checked.score[~checked.right].max()
    assert not check_answers(benchmark, later, num_candidates=1).right.any()


def test_hard_queries_are_checked_as_they_are(benchmark):
    pytest.importorskip("cv2")
    hard = answer_copies(benchmark, [Contender("random", RandomEncoder())], rules=["mirror"], severities=[1])["random"]
    hard = hard.where(hard.rule == HARD_RULE).where(np.array([0, 4]))  # blank and black images
    assert (check_answers(benchmark, hard, num_candidates=1).score < 0.15).all()


# ------------------------------------------------------------------ precision and recall


def test_a_curve_solved_by_hand():
    score = np.array([0.9, 0.8, 0.8, 0.7, 0.6, 0.5])
    right = np.array([True, True, False, True, False, False])
    present = np.array([True, True, True, True, False, False])
    curve = precision_recall(score, right, present)
    assert curve.thresholds.tolist() == [0.9, 0.8, 0.7, 0.6, 0.5]
    assert curve.precision == pytest.approx([1, 2 / 3, 3 / 4, 3 / 5, 3 / 6])
    assert curve.recall == pytest.approx([1 / 4, 2 / 4, 3 / 4, 3 / 4, 3 / 4])
    assert curve.recall_at(0.99) == (0.25, 0.9)
    assert curve.recall_at(0.75) == (0.75, 0.7)  # precision rises again below 0.8
    assert curve.recall_at(0.5) == (0.75, 0.7)  # the highest of equal recalls
    assert precision_recall(score, np.zeros(6, bool), present).recall_at(0.1) == (0.0, float("inf"))


def test_weights_are_repetitions():
    rng = np.random.default_rng(0)
    score, present = rng.integers(0, 8, 40) / 8, rng.random(40) < 0.6
    right, weight = present & (rng.random(40) < 0.7), rng.integers(0, 4, 40)
    repeated = np.repeat(np.arange(40), weight)
    weighted = precision_recall(score, right, present, weight)
    plain = precision_recall(score[repeated], right[repeated], present[repeated])
    seen = np.isin(weighted.thresholds, plain.thresholds)
    assert np.allclose(weighted.recall[seen], plain.recall) and np.allclose(weighted.precision[seen], plain.precision)


def answers_of(score, right, present, photo) -> Answers:
    count = len(score)
    rule, zeros = np.full(count, "mirror"), np.zeros(count, np.int64)
    return Answers(
        rule,
        zeros + 2,
        np.asarray(photo),
        np.asarray(present),
        zeros,
        np.asarray(right),
        np.asarray(score),
        zeros[:, None],
    )


def test_intervals_cover_the_recall_of_the_population():
    """Photographs of which each copy is found with a rate of its own: copies of one photograph fail together."""
    covered, rng = 0, np.random.default_rng(1)
    for _ in range(30):
        found = np.repeat(rng.beta(1, 1, 60) < 0.5, 10)  # all ten copies of a photograph, or none: recall 0.5
        answers = answers_of(np.where(found, 1.0, 0.0), found, np.ones(600, bool), np.repeat(np.arange(60), 10))
        low, high = summarise(answers, (0.99,))["recall_at_99"]["interval"]
        covered += low <= 0.5 <= high
    assert covered >= 29


# ------------------------------------------------------------------ imagededup's recipe


def test_the_recipe_makes_the_five_versions():
    photo = noise(64, 48, 5)
    group = transformed_group(photo, np.random.default_rng(0))
    assert list(group) == ["original", "crop", "mirrored", "upside down", "rotated", "square"]
    assert [image.size for image in group.values()] == [(64, 48), (56, 42), (64, 48), (64, 48), (64, 48), (48, 48)]


def test_pairs_solved_by_hand():
    group = np.array([0, 0, 0, 1, 1])
    scores = np.zeros((5, 5))
    for i, j, score in [(0, 1, 0.9), (0, 2, 0.5), (1, 2, 0.3), (3, 4, 0.8), (0, 3, 0.6), (2, 4, 0.3)]:
        scores[i, j] = scores[j, i] = score
    quality = pair_quality(scores, group, 0.5)
    assert quality.precision == pytest.approx(3 / 4) and quality.recall == pytest.approx(3 / 4)
    assert pair_quality(scores, group, 2.0).precision is None
    assert choose_threshold(scores, group, 0.99) == 0.8
    assert choose_threshold(scores, group, 0.7) == 0.5


def test_views_join_the_pairs_that_they_explain():
    """A random encoder gives equal images a score of 1, so that with all views flipped versions are found."""
    group = transformed_group(noise(64, 48, 5), np.random.default_rng(0))
    images = [group[name] for name in ("original", "mirrored", "upside down")]
    plain = pair_scores(RandomEncoder(), images, ("as_it_is",))
    assert (plain[np.triu_indices(3, 1)] < 0.9).all()
    flipped = pair_scores(RandomEncoder(), images, tuple(VIEWS))
    assert np.allclose(flipped, 1, atol=1e-5)
    others = pair_scores(RandomEncoder(), [noise(9, 9, seed) for seed in range(4)], ("as_it_is", "mirrored"))
    assert (others == others.T).all()  # whichever image of a pair is mirrored


def test_the_check_scores_the_candidates_of_each_image():
    """Nothing is known of the pairs but a wrong order: the check parts copies from others among the candidates."""
    pytest.importorskip("cv2")
    images = [painting(1), painting(1).crop((10, 5, 150, 110)), painting(2), painting(3)]
    scores = np.array([[1, 0.1, 0.9, 0.8], [0.1, 1, 0.2, 0.3], [0.9, 0.2, 1, 0.7], [0.8, 0.3, 0.7, 1]])
    everything = checked_scores(images, scores, 3)
    assert everything[0, 1] == everything[1, 0] > 0.5 and np.diag(everything).max() == -1
    assert everything[np.triu_indices(4, 1)][1:].max() < 0.2
    assert checked_scores(images, scores, 1)[0, 1] == -1  # for none of the two the other is the best candidate


def test_wrong_settings_are_refused(benchmark):
    photos = [Photo(f"{number}", noise(8, 8)) for number in range(5)]
    with pytest.raises(ConfigError, match=r"num_queried is 6; it must be in 4 ... 5"):
        build_benchmark(photos, num_queried=6)
    with pytest.raises(ConfigError, match="1 photographs share a key"):
        build_benchmark([*photos, photos[0]], num_queried=4)
    with pytest.raises(ConfigError, match="same name"):
        answer_copies(benchmark, [Contender("a", RandomEncoder()), Contender("a", RandomEncoder())])
