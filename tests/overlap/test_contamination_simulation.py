"""Simulations: with planted effects of known size the intervals cover, and without any the tests hold their level."""

import numpy as np
import pytest

from diptych.overlap.contamination import Subsets, analyse
from diptych.overlap.detection_error import Rate, correct_for_detector
from diptych.overlap.proportions import binomial_p, difference_limits, fisher_p

# (images, overlapping, rate of Clean, rate of Overlap): few and many, near 0, 1/2 and 1.
SETTINGS = [
    (400, 3, 0.5, 0.5),
    (400, 20, 0.9, 0.99),
    (2000, 40, 0.05, 0.3),
    (10_000, 500, 0.63, 0.66),
    (60, 30, 0.8, 0.2),
]
DRAWS = 4000


def draws(setting, seed=0):
    n, n_overlap, clean, overlap = setting
    rng = np.random.default_rng(seed)
    return rng.binomial(n_overlap, overlap, DRAWS), rng.binomial(n - n_overlap, clean, DRAWS)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("level", [0.9, 0.995])
def test_intervals_of_a_planted_effect_cover(setting, level):
    n, n_overlap, clean, overlap = setting
    right_overlap, right_clean = draws(setting)
    low, high = difference_limits(right_overlap, n_overlap, right_clean, n - n_overlap, level)
    covered = np.mean((low <= overlap - clean) & (overlap - clean <= high))
    assert covered >= level - 3 * np.sqrt(level * (1 - level) / DRAWS)


@pytest.mark.parametrize("setting", SETTINGS)
def test_without_an_effect_the_exact_test_holds_its_level(setting):
    n, n_overlap, clean, _ = setting
    right_overlap, right_clean = draws((n, n_overlap, clean, clean), seed=1)
    rejected = np.mean(
        [
            fisher_p(int(first), n_overlap, int(first + second), n) < 0.05
            for first, second in zip(right_overlap[:1000], right_clean[:1000], strict=True)
        ]
    )
    assert rejected <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000)


def test_without_an_effect_the_papers_test_holds_its_level_if_clean_is_large():
    n, n_overlap, clean = 50_000, 500, 0.7
    right_overlap, right_clean = draws((n, n_overlap, clean, clean), seed=2)
    p = binomial_p(right_overlap, n_overlap, right_clean / (n - n_overlap))
    assert np.mean(p < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / DRAWS)


def test_a_large_planted_effect_is_found():
    right_overlap, right_clean = draws((10_000, 300, 0.6, 0.8), seed=3)
    p = binomial_p(right_overlap, 300, right_clean / 9700)
    assert np.mean(p < 1e-3) > 0.99


@pytest.mark.parametrize(("share", "precision", "recall"), [(0.05, 0.95, 0.8), (0.2, 0.9, 0.6)])
def test_intervals_corrected_for_the_detector_cover(share, precision, recall):
    """Images, copies, verdicts and judgements are drawn; true contamination and gap lie in the stated intervals."""
    n, overlap, clean, hits_value, hits_gap = 5000, 0.9, 0.7, 0, 0
    wrong = (
        share * recall * (1 - precision) / precision / (1 - share)
    )  # rate of false verdicts among images without copy
    rng, repeats = np.random.default_rng(4), 150
    for _ in range(repeats):
        copies = rng.random(n) < share
        flagged = np.where(copies, rng.random(n) < recall, rng.random(n) < wrong)
        right = rng.random(n) < np.where(copies, overlap, clean)
        counts = Subsets(n, int(flagged.sum()), int(right.sum()), int((right & flagged).sum()))
        judged = Rate.of_counts(int(copies[rng.choice(np.flatnonzero(flagged), 60)].sum()), 60)
        planted = Rate.of_counts(int(rng.binomial(200, recall)), 200)
        found = correct_for_detector(analyse(counts), judged, planted)
        hits_value += found.interval[0] <= share <= found.interval[1]
        hits_gap += found.gap_interval is None or found.gap_interval[0] <= overlap - clean <= found.gap_interval[1]
    for hits, level in ((hits_value, found.level), (hits_gap, found.effect_level)):
        assert hits / repeats >= level - 3 * np.sqrt(level * (1 - level) / repeats)


def test_rates_of_judged_strata_cover():
    """Three bands of scores with true precisions 0.2, 0.9 and 1: a dozen judgements each."""
    sizes, rates, trials = (40, 100, 400), (0.2, 0.9, 1.0), 12
    truth = np.dot(sizes, rates) / sum(sizes)
    rng, repeats, hits = np.random.default_rng(5), 600, 0
    for _ in range(repeats):
        rate = Rate.of_strata(
            [(int(rng.binomial(trials, p)), trials, size) for p, size in zip(rates, sizes, strict=True)]
        )
        hits += rate.low <= truth <= rate.high
    assert hits / repeats >= rate.level - 3 * np.sqrt(rate.level * (1 - rate.level) / repeats)
