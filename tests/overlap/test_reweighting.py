"""Clean with Overlap's class frequencies: by hand, and its interval by simulation."""

import numpy as np
import pytest
from scipy import stats

from diptych.errors import ShapeError
from diptych.overlap.contamination import NO_CLEAN, NO_OVERLAP
from diptych.overlap.proportions import LEVEL
from diptych.overlap.reweighting import NO_SHARED_CLASS, class_frequencies, reweighted_gap


def rows(*groups):
    """From (class, overlaps, right, wrong), rows of correct, overlap and labels."""
    cells = [(right, overlap, label) for label, overlap, a, b in groups for right in [True] * a + [False] * b]
    correct, overlap, labels = zip(*cells, strict=True)
    return np.array(correct), np.array(overlap), np.array(labels)


# Class 3 is easy, class 7 hard; 8 of 10 copies of these two are easy. Class 9 has copies alone, class 1 none.
MIXED = rows(
    *((3, True, 7, 1), (7, True, 1, 1), (9, True, 0, 6)),
    *((3, False, 9, 1), (7, False, 3, 27), (1, False, 5, 5)),
)


def test_frequencies_counted_by_hand():
    found = class_frequencies(MIXED[2], MIXED[1])
    assert found.classes.tolist() == [1, 3, 7, 9]
    assert (found.overlap.tolist(), found.clean.tolist()) == ([0, 8, 2, 6], [10, 10, 30, 0])
    assert found.shared.tolist() == [False, True, True, False]
    assert found.distance == pytest.approx((0.2 + abs(0.5 - 0.2) + abs(0.125 - 0.6) + 0.375) / 2)
    assert class_frequencies([1, 1], [True, True]).distance is None


def test_reweighting_by_hand():
    found = reweighted_gap(*MIXED)
    assert (found.num_classes, found.num_shared, found.covered) == (3, 2, 10 / 16)
    assert found.overlap == 0.8 and found.clean == pytest.approx(0.8 * 0.9 + 0.2 * 0.1)
    assert found.gap == pytest.approx(0.06) and found.interval[0] < 0.06 < found.interval[1]
    assert found.effective_clean <= 1 / (0.8**2 / 10 + 0.2**2 / 30) and found.reason is None


def test_a_class_with_few_clean_images_makes_the_interval_wide():
    """9 of 10 copies lie in a class of 6 Clean images; the 600 of the other class cannot make up for them."""
    found = reweighted_gap(*rows((0, True, 45, 45), (1, True, 5, 5), (0, False, 3, 3), (1, False, 300, 300)))
    assert 6 < found.effective_clean < 6 / 0.81
    assert found.gap == 0.0
    # A normal interval at 99.5 % of 7.4 images is the least that it can be.
    assert found.interval[1] - found.interval[0] > 2 * 2.8 * np.sqrt(0.25 / 7.4)


def test_equal_frequencies_change_nothing():
    found = reweighted_gap(*rows((0, True, 3, 2), (1, True, 1, 4), (0, False, 30, 20), (1, False, 20, 30)))
    assert found.clean == pytest.approx(0.5) and found.covered == 1.0


def test_the_order_and_the_names_of_classes_do_not_matter():
    order = np.random.default_rng(0).permutation(len(MIXED[0]))
    shuffled = [values[order] for values in MIXED]
    shuffled[2] = 1000 - shuffled[2]
    assert reweighted_gap(*shuffled).interval == pytest.approx(reweighted_gap(*MIXED).interval)


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ([(0, False, 3, 3)], NO_OVERLAP),
        ([(0, True, 3, 3)], NO_CLEAN),
        ([(0, True, 3, 3), (1, False, 3, 3)], NO_SHARED_CLASS),
    ],
)
def test_where_nothing_can_be_compared_the_reason_is_named(groups, reason):
    found = reweighted_gap(*rows(*groups))
    assert found.reason == reason and found.gap is found.interval is found.clean is None and found.covered == 0.0


def test_rows_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="class frequencies need"):
        class_frequencies([0.5, 1.0], [True, False])
    with pytest.raises(ShapeError, match="class frequencies need"):
        class_frequencies([0, 1], [True])
    with pytest.raises(ShapeError, match="correct must be a bool row of 2"):
        reweighted_gap([1, 0], [True, False], [0, 0])


@pytest.mark.parametrize("level", [0.9, LEVEL])
@pytest.mark.parametrize("effect", [0.0, 0.05])
@pytest.mark.parametrize(
    ("num_classes", "per_class", "num_copies"), [(40, 50, 200), (100, 10, 150), (10, 12, 30), (100, 4, 60)]
)
def test_the_interval_covers_where_classes_differ_in_difficulty(num_classes, per_class, num_copies, effect, level):
    """Copies lie in easy classes. The raw difference is larger than the effect, the re-weighted one is not."""
    rng = np.random.default_rng(num_classes + num_copies)
    rates = np.linspace(0.1, 0.9, num_classes)
    share = rates**2 / (rates**2).sum()
    copies = rng.multinomial(num_copies, share)
    labels = np.concatenate([np.repeat(np.arange(num_classes), copies), np.repeat(np.arange(num_classes), per_class)])
    overlap = np.arange(len(labels)) < num_copies
    chance = rates[labels] + effect * overlap
    draws = 300
    missed = raw = 0
    for _ in range(draws):
        correct = rng.random(len(labels)) < chance
        found = reweighted_gap(correct, overlap, labels, level=level)
        missed += not found.interval[0] <= effect <= found.interval[1]
        raw += correct[overlap].mean() - correct[~overlap].mean() > effect
    assert missed <= stats.binom(draws, 1 - level).ppf(0.9999)
    assert raw > 0.9 * draws


def test_the_interval_is_not_much_wider_than_a_normal_one():
    labels = np.repeat(np.arange(20), 200)
    overlap = np.arange(4000) % 200 < 40
    correct = np.random.default_rng(0).random(4000) < 0.5
    low, high = reweighted_gap(correct, overlap, labels).interval
    normal = stats.norm.ppf(1 - (1 - LEVEL) / 2) * np.sqrt(0.25 / 800 + 0.25 / 3200)
    assert 1 < (high - low) / (2 * normal) < 1.5
