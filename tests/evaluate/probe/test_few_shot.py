"""Few-shot classifiers on small synthetic vectors: draws, penalties, and the two ends of what lies between."""

import itertools

import numpy as np
import pytest
from scipy.special import log_softmax

from diptych.errors import DataError, ShapeError
from diptych.evaluate.probe import few_shot
from diptych.evaluate.probe.few_shot import (
    CLASSIFIERS,
    FIXED_PENALTY,
    FIXED_SHARE,
    PENALTIES,
    SHARES,
    SHOTS,
    draw_ranks,
    drawn_rows,
    fit_few_shot,
    interpolated,
    places_in_class,
    possible_shots,
)
from diptych.evaluate.probe.logistic import fit_logistic

C, D = 4, 12
CENTRES = np.random.default_rng(99).normal(size=(C, D))


def clouds(per_class=16, seed=0, noise=0.35):
    """Unit vectors (N, D) around C centres, labels, and rough zero-shot weights (C, D) of a logit_scale of 20."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(C), per_class)
    vectors = CENTRES[labels] + D**0.5 * noise * rng.normal(size=(len(labels), D))
    guess = CENTRES + 1.5 * np.random.default_rng(98).normal(size=(C, D))
    return unit(vectors), labels, 20 * unit(guess)


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def drawn(keys, labels, shots, seed):
    return [keys[row] for row in drawn_rows(draw_ranks(keys, labels, seed), labels, shots)]


class TestDraws:
    labels = np.array([0, 1, 2] * 20 + [2] * 5)
    keys = tuple(f"picture {number}" for number in range(65))

    def test_k_of_each_class_and_all_that_a_smaller_class_has(self):
        for shots in SHOTS:
            rows = drawn_rows(draw_ranks(self.keys, self.labels, 0), self.labels, shots)
            counts = np.bincount(self.labels[rows]).tolist()
            assert counts == [min(shots, 20), min(shots, 20), min(shots, 25)]
            assert (np.diff(self.labels[rows]) >= 0).all()

    def test_a_draw_holds_every_smaller_one_in_the_same_order(self):
        for less, more in itertools.pairwise(SHOTS):
            small, large = (drawn(self.keys, self.labels, shots, 3) for shots in (less, more))
            assert [key for key in large if key in small] == small

    def test_the_order_of_the_files_does_not_matter(self):
        order = np.random.default_rng(0).permutation(65)
        shuffled = [self.keys[row] for row in order]
        for shots in (1, 4, 16):
            assert drawn(shuffled, self.labels[order], shots, 7) == drawn(self.keys, self.labels, shots, 7)

    def test_samples_that_are_added_do_not_change_the_order_of_the_others(self):
        fewer = drawn(self.keys[:50], self.labels[:50], 128, 5)
        assert [key for key in drawn(self.keys, self.labels, 128, 5) if key in fewer] == fewer

    def test_the_seed_decides_and_draws_are_even(self):
        assert drawn(self.keys, self.labels, 4, 0) == drawn(self.keys, self.labels, 4, 0)
        assert drawn(self.keys, self.labels, 4, 0) != drawn(self.keys, self.labels, 4, 1)
        first = [drawn(self.keys, self.labels, 1, seed)[0] for seed in range(2000)]
        counts = np.array([first.count(key) for key in self.keys[:60:3]])
        assert counts.sum() == 2000 and (np.abs(counts - 100) < 40).all()  # binomial(2000, 1/20): 4 deviations

    def test_keys_that_are_no_text_are_drawn_too(self):
        assert drawn(["a\udcff", "b"], np.array([0, 1]), 1, 0) == ["a\udcff", "b"]

    def test_places_in_class(self):
        assert places_in_class(np.array([2, 0, 2, 2, 0])).tolist() == [0, 0, 1, 2, 1]

    def test_the_smallest_class_says_how_far_the_curve_goes(self):
        assert possible_shots(self.labels) == (1, 2, 4, 8, 16)
        assert possible_shots(np.array([0, 0, 0, 1, 1])) == (1, 2)
        assert possible_shots(np.repeat([0, 1, 2], [9, 2, 40])) == (1, 2)
        assert possible_shots(np.array([0, 0, 3, 3])) == (1, 2)  # classes 1 and 2 have no example at all
        assert possible_shots(np.array([0, 1]), (4, 8)) == (4,)  # the smallest one wanted, with what there is

    @pytest.mark.parametrize("labels", [[], [1, 1, 1]])
    def test_one_class_alone_cannot_be_learned(self, labels):
        with pytest.raises(DataError, match="two or more"):
            possible_shots(np.array(labels))

    def test_keys_and_labels_must_fit(self):
        with pytest.raises(ShapeError):
            draw_ranks(self.keys, self.labels[1:], 0)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
@pytest.mark.parametrize("shots", [1, 4, 16])
def test_each_classifier_learns_and_is_the_same_every_time(classifier, shots):
    vectors, labels, zero_shot = clouds(shots)
    unseen, truth, _ = clouds(100, seed=1)
    one, two = (fit_few_shot(classifier, vectors, labels, C, shots, zero_shot=zero_shot) for _ in range(2))
    assert np.array_equal(one.weights, two.weights) and np.array_equal(one.bias, two.bias)
    learned = (one.scores(unseen).argmax(axis=1) == truth).mean()
    guessed = ((unseen @ zero_shot.T).argmax(axis=1) == truth).mean()
    assert guessed > 0.35  # of the zero-shot weights alone; chance is 0.25
    assert learned > (0.3 if classifier == "probe" else guessed - 0.02) + 0.1 * (shots > 1)


def chosen_by_hand(vectors, labels, shots, zero_shot):
    """Penalty and share with the lowest cross-entropy, summed over what is held out in turn."""
    places = np.array([np.sum(labels[:row] == label) for row, label in enumerate(labels)])
    folds = [places % 4 == fold for fold in range(4 if shots < 16 else 1)]
    scale = np.square(vectors - vectors.mean(axis=0)).sum(axis=1).mean()

    def loss(weights, bias, held):
        found = log_softmax(vectors[held].astype(float) @ weights.T + bias, axis=1)
        return -found[np.arange(held.sum()), labels[held]].sum()

    penalties = np.array(PENALTIES) * scale
    fits = [(held, fit_logistic(vectors[~held], labels[~held], C, penalties, tolerance=1e-5)) for held in folds]
    best = np.argmin(
        [sum(loss(own[i].weights, own[i].bias, held) for held, own in fits) for i in range(len(penalties))]
    )
    shares = [
        sum(loss((1 - s) * zero_shot + s * own[best].weights, s * own[best].bias, held) for held, own in fits)
        for s in SHARES
    ]
    return penalties[best], SHARES[int(np.argmin(shares))]


@pytest.mark.parametrize("shots", [5, 8, 16])
def test_penalty_and_share_are_those_of_the_lowest_loss_on_what_is_held_out(shots):
    found, expected = [], []
    for seed in range(6):
        vectors, labels, zero_shot = clouds(shots, seed=seed, noise=0.5 + 0.1 * (seed % 4))
        zero_shot = zero_shot if seed % 3 == 0 else (3 + 2 * seed) * unit(CENTRES)
        kept = np.ones(len(labels), bool)
        kept[np.flatnonzero(labels == 1)[5:]] = False  # a class with fewer examples: folds of several sizes
        vectors, labels = vectors[kept], labels[kept]
        fit = fit_few_shot("interpolated", vectors, labels, C, shots, zero_shot=zero_shot)
        found.append((fit.penalty, fit.share))
        expected.append(chosen_by_hand(vectors, labels, shots, zero_shot))
    assert found == [pytest.approx(one, rel=1e-5) for one in expected]
    assert len({share for _, share in found}) > 2 and len({round(penalty, 5) for penalty, _ in found}) > 2


def test_how_the_solver_is_asked(monkeypatch):
    """What is learned must be sure to be near its minimum; what is only tried need not."""
    asked = []
    solve = few_shot.fit_logistic
    monkeypatch.setattr(few_shot, "fit_logistic", lambda *most, **more: asked.append(more) or solve(*most, **more))
    vectors, labels, _ = clouds(16)
    fit_few_shot("probe", vectors, labels, C, 16, device="cpu")
    usual = {"toward": None, "intercept": True, "max_iterations": 300, "tolerance": 1e-5, "device": "cpu"}
    assert asked == [{**usual, "certify": False}, {**usual, "certify": True}]


def test_vectors_far_from_the_origin_have_the_scale_of_their_differences():
    vectors, labels, _ = clouds(500)
    near, far = (fit_few_shot("probe", vectors + away, labels, C, 1).penalty for away in (0, np.float32(3000)))
    assert far == pytest.approx(near, rel=1e-4)


@pytest.mark.parametrize("shots", [1, 3])
def test_below_four_examples_nothing_is_chosen(shots):
    vectors, labels, zero_shot = clouds(shots)
    scale = ((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1).mean()
    for classifier in CLASSIFIERS:
        fit = fit_few_shot(classifier, vectors, labels, C, shots, zero_shot=zero_shot)
        assert fit.choice == "fixed" and fit.penalty == pytest.approx(FIXED_PENALTY * scale, rel=1e-5)
        assert fit.share == (FIXED_SHARE if classifier == "interpolated" else None)


def test_the_probe_is_scikit_learns_at_the_same_penalty():
    from sklearn.linear_model import LogisticRegression

    vectors, labels, _ = clouds(16)
    vectors = 30 * vectors  # features have no unit norm
    fit = fit_few_shot("probe", vectors, labels, C, 16)
    theirs = LogisticRegression(C=1 / fit.penalty, tol=1e-8, max_iter=5000).fit(vectors.astype(np.float64), labels)
    assert fit.choice == "a quarter held out"
    ours, expected = fit.scores(vectors), theirs.decision_function(vectors)
    ours, expected = (one - one.mean(axis=1, keepdims=True) for one in (ours, expected))
    assert np.abs(ours - expected).max() < 0.02 * np.abs(expected).max()


def test_without_a_bias_the_solver_is_scikit_learns_too():
    from sklearn.linear_model import LogisticRegression

    vectors, labels, _ = clouds(16)
    vectors = vectors + 0.5  # a mean far from 0, which a bias would take up
    (fit,) = fit_logistic(vectors, labels, C, [0.3], intercept=False)
    theirs = LogisticRegression(C=1 / 0.3, fit_intercept=False, tol=1e-10, max_iter=5000).fit(vectors, labels)
    assert not fit.bias.any() and np.allclose(fit.weights, theirs.coef_, atol=2e-3)
    (with_bias,) = fit_logistic(vectors, labels, C, [0.3])
    assert not np.allclose(with_bias.weights, theirs.coef_, atol=2e-2)


def test_the_choice_does_not_depend_on_the_units_of_the_vectors():
    vectors, labels, _ = clouds(4, noise=0.7)
    small, large = (fit_few_shot("probe", size * vectors, labels, C, 4) for size in (1, 1024))
    assert large.penalty == pytest.approx(1024**2 * small.penalty, rel=1e-4)
    assert np.allclose(1024 * large.weights, small.weights, rtol=1e-2, atol=1e-2 * np.abs(small.weights).max())


def test_a_huge_penalty_towards_zero_shot_gives_exactly_the_zero_shot_classifier(monkeypatch):
    vectors, labels, zero_shot = clouds(2)
    monkeypatch.setattr(few_shot, "FIXED_PENALTY", 1e12)
    fit = fit_few_shot("zero-shot-initialised", vectors, labels, C, 2, zero_shot=zero_shot)
    assert np.array_equal(fit.weights, zero_shot) and not fit.bias.any()
    unseen = clouds(50, seed=1)[0]
    assert np.array_equal(fit.scores(unseen), unseen @ zero_shot.T)


def test_the_penalty_towards_zero_shot_grows_where_zero_shot_is_right():
    vectors, labels, _ = clouds(4, noise=0.7)
    right, wrong = 20 * unit(CENTRES), 20 * unit(CENTRES[[1, 2, 3, 0]])
    trusting, doubting = (
        fit_few_shot("zero-shot-initialised", vectors, labels, C, 4, zero_shot=weights) for weights in (right, wrong)
    )
    assert trusting.choice == doubting.choice == "4-fold cross-validation"
    assert trusting.penalty > 1000 > 1 > doubting.penalty
    assert np.abs(trusting.weights - right).max() < 0.01  # the paper's observation: the search ends at zero-shot itself


def test_the_ends_of_an_interpolation_are_exact():
    vectors, labels, zero_shot = clouds(8)
    probe = fit_few_shot("probe", vectors, labels, C, 8)
    none, whole = interpolated(zero_shot, probe, 0.0), interpolated(zero_shot, probe, 1.0)
    assert np.array_equal(none.weights, zero_shot) and not none.bias.any()
    assert np.array_equal(whole.weights, probe.weights) and np.array_equal(whole.bias, probe.bias)
    half = interpolated(zero_shot, probe, 0.5)
    assert np.allclose(half.scores(vectors), (vectors @ zero_shot.T + probe.scores(vectors)) / 2, atol=1e-4)


def test_the_share_follows_what_zero_shot_is_worth():
    vectors, labels, _ = clouds(8, noise=0.5)
    right, wrong = 8 * unit(CENTRES), 20 * unit(CENTRES[[1, 2, 3, 0]])
    shares = [fit_few_shot("interpolated", vectors, labels, C, 8, zero_shot=one).share for one in (right, wrong)]
    assert shares[0] <= 0.5 and shares[1] == 1


def test_zero_shot_weights_must_fit():
    vectors, labels, zero_shot = clouds(1)
    for wrong in (None, zero_shot[:, 1:], zero_shot[1:]):
        with pytest.raises(ShapeError, match="zero-shot-initialised needs zero-shot weights"):
            fit_few_shot("zero-shot-initialised", vectors, labels, C, 1, zero_shot=wrong)
    with pytest.raises(ShapeError, match="do not fit weights"):
        fit_few_shot("probe", vectors, labels, C, 1).scores(vectors[:, 1:])


def test_classes_without_an_example_do_not_lead_the_choice_astray():
    """Six of 600 classes have examples, which an encoder without error gives one vector each."""
    shown = np.array([0, 1, 200, 300, 598, 599])
    known = unit(np.random.default_rng(5).normal(size=(600, 24)))
    labels = np.repeat(shown, 4)
    fit = fit_few_shot("probe", known[labels], labels, 600, 4)
    assert fit.penalty < 0.1 and np.array_equal(fit.scores(known[shown]).argmax(axis=1), shown)
    few = fit_few_shot("probe", known[labels], np.repeat(np.arange(6), 4), 6, 4)
    assert few.penalty == pytest.approx(fit.penalty)
    assert np.allclose(fit.weights[shown], few.weights, atol=2e-3 * np.abs(few.weights).max())
