"""The plan and the estimates, by a simulated reviewer who knows the truth."""

import numpy as np
import pytest

from diptych.errors import InputError
from diptych.overlap.judgements import Pair
from diptych.overlap.review_plan import choose_threshold, next_pairs, precision_at, recall_at
from diptych.overlap.score_bands import RankedPairs


def pairs_of(scores) -> list[Pair]:
    return [Pair("set", str(number), "near", float(np.float32(score))) for number, score in enumerate(scores)]


def world(n: int, share: float, seed: int) -> tuple[list[Pair], dict]:
    """Pairs, and the truth: duplicates near 1, others around 0.5, overlapping a little."""
    rng = np.random.default_rng(seed)
    copies = rng.random(n) < share
    pairs = pairs_of(np.where(copies, 1 - abs(rng.normal(0, 0.08, n)), rng.normal(0.5, 0.1, n).clip(-1, 1)))
    made = np.where(copies, "duplicate", "different").tolist()
    return pairs, {pair.identity: decision for pair, decision in zip(pairs, made, strict=True)}


def review(ranked: RankedPairs, truth: dict, num_judgements: int = 40) -> dict:
    decisions: dict = {}
    while asked := next_pairs(ranked, decisions, num_judgements=num_judgements):
        assert asked[0].identity not in decisions
        decisions[asked[0].identity] = truth[asked[0].identity]
    return decisions


def true_rates(pairs: list[Pair], truth: dict, threshold: float) -> tuple[float, float]:
    flagged = [truth[pair.identity] == "duplicate" for pair in pairs if pair.score >= threshold]
    every = sum(decision == "duplicate" for decision in truth.values())
    return sum(flagged) / len(flagged) if flagged else 1.0, sum(flagged) / every if every else 1.0


@pytest.mark.parametrize("n, share", [(2000, 0.05), (5000, 0.2)])
def test_a_few_dozen_judgements_find_a_good_threshold_and_the_intervals_cover(n, share):
    found, covered = [], []
    for seed in range(25):
        pairs, truth = world(n, share, seed)
        ranked = RankedPairs(pairs, seed)
        decisions = review(ranked, truth)
        assert len(decisions) == 40
        choice = choose_threshold(ranked, decisions)
        precision, recall = true_rates(pairs, truth, choice.threshold)
        found.append((precision, recall))
        chosen = (
            choice.precision_low <= precision <= choice.precision_high,
            choice.recall_low <= recall <= choice.recall_high,
        )
        fixed = []
        for threshold in (0.9, 0.8, 0.7):
            for rate, true in zip(
                (precision_at(ranked, decisions, threshold), recall_at(ranked, decisions, threshold)),
                true_rates(pairs, truth, threshold),
                strict=True,
            ):
                fixed.append(rate.low <= true <= rate.high)
        covered.append((*chosen, *fixed))
    assert np.mean(found, 0) == pytest.approx([1, 1], abs=0.05) and np.min(found) > 0.7
    assert (np.mean(covered, 0) >= 0.92).all()


def test_the_estimates_of_a_fixed_threshold_have_no_large_bias():
    errors = []
    for seed in range(40):
        pairs, truth = world(1000, 0.1, seed)
        ranked = RankedPairs(pairs, seed)
        decisions = review(ranked, truth, 100)
        true = true_rates(pairs, truth, 0.65)
        errors.append(precision_at(ranked, decisions, 0.65).value - true[0])
    assert abs(np.mean(errors)) < 0.03


def test_a_hand_solved_case():
    """20 pairs in bands of 16 and 4; all of the first are judged, half of the second."""
    pairs = pairs_of(np.linspace(1, 0.05, 20))
    decisions = {pair.identity: "duplicate" for pair in pairs[:16]} | {p.identity: "different" for p in pairs[16:18]}
    choice = choose_threshold(pairs, decisions)
    assert (choice.threshold, choice.num_judged) == (pairs[15].score, 18)
    assert choice.precision == choice.precision_low == choice.precision_high == 1
    high = 1 - (0.025 / 2) ** (1 / 2)  # Clopper-Pearson of 0 of 2 at 97.5 %
    assert (choice.recall, choice.recall_high) == (1, 1)
    assert choice.recall_low == pytest.approx(16 / (16 + 4 * high))
    decisions[pairs[17].identity] = "unsure"
    assert choose_threshold(pairs, decisions).recall == pytest.approx(16 / (16 + 4 / 2))


def test_everything_judged_gives_the_exact_threshold():
    pairs, truth = world(60, 0.3, 3)
    decisions = review(RankedPairs(pairs), truth, 60)
    assert len(decisions) == 60
    choice = choose_threshold(pairs, decisions, 1.0)
    precision, recall = true_rates(pairs, truth, choice.threshold)
    assert choice.precision == precision == 1
    assert choice.recall == pytest.approx(recall)
    lower = max(pair.score for pair in pairs if pair.score < choice.threshold)
    assert true_rates(pairs, truth, lower)[0] < 1 or true_rates(pairs, truth, lower)[1] == recall


def test_an_unsure_pair_counts_against_the_threshold():
    pairs = pairs_of([0.9] * 10 + [0.1] * 10)
    decisions = {pair.identity: "duplicate" for pair in pairs[:9]}
    decisions[pairs[9].identity] = "unsure"
    assert precision_at(pairs, decisions, 0.9).value == pytest.approx(0.9)
    assert choose_threshold(pairs, decisions).threshold > pairs[0].score
    assert choose_threshold(pairs, decisions, 0.9).threshold == pairs[0].score


def test_no_duplicate_at_all():
    pairs, truth = world(500, 0.0, 0)
    decisions = review(RankedPairs(pairs), truth)
    choice = choose_threshold(pairs, decisions)
    best = np.float32(max(pair.score for pair in pairs))
    assert np.float32(choice.threshold) > best and choice.threshold < best + 1e-6
    assert (choice.precision, choice.precision_low, choice.recall, choice.recall_low) == (1, 0, 1, 0)


def test_everything_is_a_duplicate_and_all_scores_are_equal():
    pairs = pairs_of([1.0] * 300)
    truth = {pair.identity: "duplicate" for pair in pairs}
    decisions = review(RankedPairs(pairs), truth)
    choice = choose_threshold(pairs, decisions)
    assert (choice.threshold, choice.precision, choice.recall) == (1, 1, 1)
    assert 0.85 < choice.precision_low < 1


def test_the_order_depends_on_seed_and_decisions_alone():
    pairs, truth = world(400, 0.1, 5)
    orders = [list(review(RankedPairs(ps, seed), truth)) for ps, seed in ((pairs, 1), (pairs[::-1], 1), (pairs, 2))]
    assert orders[0] == orders[1] != orders[2]
    ranked = RankedPairs(pairs, 1)
    decisions = {identity: truth[identity] for identity in orders[0][:13]}
    assert [pair.identity for pair in next_pairs(ranked, decisions, count=1)] == [orders[0][13]]
    assert len({pair.identity for pair in next_pairs(ranked, decisions, count=7)} - set(decisions)) == 7


def test_bands_keep_equal_scores_together():
    ranked = RankedPairs(pairs_of([1.0] * 5 + [0.9] * 40 + [0.8] * 3 + list(np.linspace(0.7, 0.1, 100))))
    assert [(band.start, band.end) for band in ranked.bands({})] == [(0, 5), (5, 45), (45, 90), (90, 148)]
    truth = {pair.identity: "duplicate" if pair.score > 0.85 else "different" for pair in ranked.pairs}
    assert choose_threshold(ranked, review(ranked, truth)).threshold == pytest.approx(0.9)


def test_decisions_about_other_pairs_are_ignored():
    pairs, truth = world(100, 0.5, 5)
    decisions = review(RankedPairs(pairs), truth)
    others = {("set", key, "another"): "different" for _, key, _ in truth}
    assert choose_threshold(pairs, decisions | others) == choose_threshold(pairs, decisions)


def test_what_cannot_be_estimated():
    pairs = pairs_of([0.9, 0.8])
    with pytest.raises(InputError, match="no pair is judged"):
        choose_threshold(pairs, {})
    with pytest.raises(InputError, match="least_precision is 0"):
        choose_threshold(pairs, {pairs[0].identity: "unsure"}, 0)
    assert precision_at(pairs, {}, 0.5) is None and recall_at(pairs, {pairs[0].identity: "duplicate"}, 0.9) is None
    assert recall_at(pairs, {pairs[0].identity: "duplicate"}, 1.0).value == 0
    for wrong in ([], [*pairs, pairs[0]], [Pair("a", "b", "c", float("nan"))], [pairs[0], Pair("a", "b", "c", 0.5)]):
        with pytest.raises(InputError):
            RankedPairs(wrong)
