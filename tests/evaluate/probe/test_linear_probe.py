"""The search over the lattice of penalties, and LinearProbe as an estimator, on small made features."""

import dataclasses

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

from diptych.errors import InputError, ShapeError
from diptych.evaluate.probe import linear_probe
from diptych.evaluate.probe.feature_tables import Chosen, Joined
from diptych.evaluate.probe.linear_probe import LinearProbe
from diptych.evaluate.probe.penalty_search import Judged, lattice, search_lattice, stratified_rows


def blobs(num_rows=300, width=10, num_classes=3, seed=0, noise=1.5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_rows)
    means = np.random.default_rng(99).standard_normal((num_classes, width))
    return (means[labels] + noise * rng.standard_normal((num_rows, width)) + 1).astype(np.float32), labels


# ---------------------------------------------------------------------- the search


def test_the_lattice_has_eight_steps_per_decade():
    assert [lattice(index) for index in (0, 48, 56, 96)] == pytest.approx([1e-6, 1, 10, 1e6])


def test_a_search_by_hand():
    asked = []

    def score(indices):
        asked.append(indices)
        return [Judged(-abs(index - 53)) for index in indices]

    search = search_lattice(score)
    # From 48 it looks at 40 and 56; from 56 at 52 and 60; from 52 at 50 and 54, from either at 51, 53 and 55.
    assert asked[0] == [0, 16, 32, 48, 64, 80, 96]
    assert asked[1:] == [[40, 56], [52, 60], [50, 54], [53, 55]]
    assert search.best.penalty == pytest.approx(10 ** (-6 + 53 / 8))
    assert search.best.score == 0
    assert len(search.trials) == 15
    assert [trial.score for trial in search.trials[:3]] == [-53, -37, -21]


def test_of_equal_scores_the_larger_penalty_wins():
    search = search_lattice(lambda indices: [Judged(1.0 if 20 <= index <= 50 else 0.0) for index in indices])
    assert search.best.penalty == pytest.approx(lattice(50))
    flat = search_lattice(lambda indices: [Judged(0.5)] * len(indices))
    assert flat.best.penalty == pytest.approx(1e6)


def test_of_equal_scores_the_lower_loss_wins_before_that():
    found = search_lattice(lambda indices: [Judged(float(20 <= one <= 70), abs(one - 37)) for one in indices]).best
    assert (found.penalty, found.score, found.loss) == (pytest.approx(lattice(37)), 1, 0)
    assert search_lattice(lambda indices: [Judged(one, one) for one in indices]).best.penalty == pytest.approx(1e6)


def test_few_validation_rows_that_all_are_right_do_not_choose_the_strongest_penalty():
    """With the strongest one the probe knows how frequent the classes are and no more."""
    rng = np.random.default_rng(0)
    centres = np.eye(3)[np.repeat([0, 1, 2], [40, 40, 4])]
    X, y = centres + 0.05 * rng.standard_normal((84, 3)), np.repeat([0, 1, 2], [40, 40, 4])
    probe = LinearProbe().fit(X[4:], y[4:], validation=(X[:4], y[:4]))
    assert probe.lambda_ < 1e3 and probe.score(X, y) == 1
    assert LinearProbe(penalty=1e6).fit(X, y).score(X, y) < 1


@pytest.mark.parametrize(("end", "first"), [(0, 1e-6), (96, 1e6)])
def test_at_an_end_of_the_lattice_nothing_beyond_is_tried(end, first):
    asked = []

    def score(indices):
        asked.extend(indices)
        return [Judged(-abs(index - end)) for index in indices]

    assert search_lattice(score).best.penalty == pytest.approx(first)
    assert min(asked) == 0 and max(asked) == 96 and len(asked) == len(set(asked)) == 11


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(InputError, match="NaN at lambda = 1e-06"):
        search_lattice(lambda indices: [Judged(float("nan"))] * len(indices))


def test_rows_held_out_are_a_fifth_of_each_class():
    labels = np.repeat([0, 1, 2, 3], [50, 10, 3, 2])
    kept, held = stratified_rows(labels, 0.2, seed=1)
    assert np.bincount(labels[held]).tolist() == [10, 2, 1, 1]
    assert sorted([*kept, *held]) == list(range(65)) and (np.diff(held) > 0).all()
    np.testing.assert_array_equal(stratified_rows(labels, 0.2, seed=1)[1], held)
    assert not np.array_equal(stratified_rows(labels, 0.2, seed=2)[1], held)
    with pytest.raises(InputError, match="only one row"):
        stratified_rows(np.array([0, 0, 1]), 0.2, seed=0)


# ---------------------------------------------------------------------- tables without copies


def test_parts_of_tables_are_what_numpy_gives():
    table = np.arange(60.0).reshape(20, 3)
    rows = np.array([1, 4, 5, 11, 19])
    joined = Joined(Chosen(table, rows), table[:4].astype(np.float32))
    expected = np.concatenate([table[rows], table[:4]])
    assert joined.shape == (9, 3) and len(joined) == 9 and joined.dtype == np.float64
    for part in (slice(None), slice(2, 7), slice(6, 20), slice(0, 2), np.array([0, 8, 3, 5])):
        np.testing.assert_array_equal(joined[part], expected[part])


# ---------------------------------------------------------------------- the estimator


@pytest.mark.parametrize("num_classes", [2, 4])
def test_as_scikit_learn_at_the_same_penalty(num_classes):
    features, labels = blobs(num_classes=num_classes)
    names = np.array(["ant", "bee", "cow", "dog"])[labels]
    probe = LinearProbe(penalty=2.0).fit(features, names)
    peer = LogisticRegression(C=0.5, tol=1e-8, max_iter=1000).fit(features.astype(float), names)
    assert probe.classes_.tolist() == peer.classes_.tolist()
    assert probe.coef_.shape == peer.coef_.shape and probe.intercept_.shape == peer.intercept_.shape
    np.testing.assert_allclose(probe.coef_, peer.coef_, atol=2e-3)
    np.testing.assert_allclose(probe.decision_function(features), peer.decision_function(features), atol=1e-2)
    np.testing.assert_allclose(probe.predict_proba(features), peer.predict_proba(features), atol=2e-3)
    assert (probe.predict(features) == peer.predict(features)).mean() > 0.99
    assert probe.score(features, names) == pytest.approx(peer.score(features, names), abs=0.01)
    assert probe.search_ is None and probe.lambda_ == 2.0


def test_the_search_on_given_rows_and_the_fit_to_all():
    features, labels = blobs(noise=4)
    more, more_labels = blobs(150, seed=1, noise=4)
    probe = LinearProbe().fit(features, labels, validation=(more, more_labels))
    scores = {trial.penalty: trial.score for trial in probe.search_.trials}
    for penalty in list(scores)[3:6]:
        peer = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=1000).fit(features.astype(float), labels)
        assert scores[penalty] == pytest.approx(peer.score(more, more_labels), abs=1 / 150 + 1e-9)
    assert probe.lambda_ == max(scores, key=lambda penalty: (scores[penalty], penalty))
    together = LinearProbe(probe.lambda_).fit(np.concatenate([features, more]), np.concatenate([labels, more_labels]))
    np.testing.assert_allclose(probe.coef_, together.coef_, atol=1e-3)
    assert 8 <= len(scores) <= 15


def test_the_search_on_rows_held_out_repeats_itself():
    features, labels = blobs(noise=4)
    first, second = LinearProbe().fit(features, labels), LinearProbe().fit(features, labels)
    np.testing.assert_array_equal(first.coef_, second.coef_)
    assert first.search_ == second.search_
    assert {trial.score * 60 % 1 for trial in first.search_.trials} == {0.0}  # of 60 rows held out
    assert LinearProbe(seed=5).fit(features, labels).search_ != first.search_


def test_a_metric_of_ones_own():
    features, labels = blobs(num_classes=2)
    seen = []

    def last_class(truth, scores):
        seen.append((truth.shape, scores.shape))
        return float(scores[:, 1].mean())

    LinearProbe(metric=last_class).fit(features, labels + 7)
    assert set(seen) == {((60,), (60, 2))}


def test_several_labels_per_row():
    features, labels = blobs(400, num_classes=4)
    present = (labels[:, None] == np.arange(4)) | (np.random.default_rng(0).random((400, 4)) < 0.1)
    probe = LinearProbe().fit(features, present)
    assert probe.classes_.tolist() == [0, 1, 2, 3] and probe.coef_.shape == (4, 10)
    assert probe.predict(features).dtype == bool and probe.predict_proba(features).shape == (400, 4)
    fixed = LinearProbe(3.0).fit(features, present)
    for column in range(4):
        peer = LogisticRegression(C=1 / 3, tol=1e-8, max_iter=1000).fit(features.astype(float), present[:, column])
        np.testing.assert_allclose(fixed.coef_[column], peer.coef_[0], atol=3e-3)


def test_a_score_with_several_labels_is_the_share_of_rows_that_are_right_in_all():
    features, labels = blobs(200, num_classes=3, noise=2)
    present = np.stack([labels == 0, labels != 1], axis=1)
    probe = LinearProbe(1.0).fit(features, present)
    assert probe.score(features, present) == accuracy_score(present, probe.predict(features))
    alone = [(probe.predict(features)[:, one] == present[:, one]).mean() for one in (0, 1)]
    assert 0.5 < probe.score(features, present) < min(alone) < 1


def test_the_search_with_several_labels_ranks_the_rows_that_have_them_first():
    """On rows that can be told apart the mean average precision is 1."""
    features, labels = blobs(200, num_classes=3, noise=0.1)
    present = np.stack([labels == 0, labels != 1], axis=1)
    for truth in (present, labels):
        probe = LinearProbe().fit(features, truth)
        assert probe.search_.best.score == 1 and probe.score(features, truth) == 1


def test_masked_labels_are_left_out():
    features, labels = blobs(200, num_classes=2)
    present = np.stack([labels == 0, labels == 1], axis=1)
    left_out = np.zeros((200, 2), bool)
    left_out[50:90, 1] = True
    probe = LinearProbe(1.0).fit(features, np.ma.masked_array(present, left_out))
    kept = ~left_out[:, 1]
    alone = LinearProbe(1.0).fit(features[kept], labels[kept])
    np.testing.assert_allclose(probe.coef_[1], alone.coef_[0], atol=2e-3)


def test_features_mapped_from_disk(tmp_path):
    features, labels = blobs()
    np.save(tmp_path / "features.npy", features)
    mapped = LinearProbe().fit(np.load(tmp_path / "features.npy", mmap_mode="r"), labels)
    np.testing.assert_array_equal(mapped.coef_, LinearProbe().fit(features, labels).coef_)


def test_it_clones_and_works_in_a_pipeline():
    features, labels = blobs()
    probe = LinearProbe(metric="accuracy", seed=3)
    again = clone(probe).set_params(seed=4)
    assert probe.get_params()["seed"] == 3 and again.get_params()["seed"] == 4
    assert repr(again) == "LinearProbe(metric='accuracy', seed=4)"
    assert make_pipeline(StandardScaler(), probe).fit(features, labels).score(features, labels) > 0.5
    with pytest.raises(InputError, match="no parameter 'C'"):
        probe.set_params(C=1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("probe", [LinearProbe(penalty=1.0), LinearProbe()], ids=["fixed", "searched"])
def test_scikit_learns_own_checks(probe):
    outcome = check_estimator(probe, on_skip=None, on_fail=None)
    failed = {check["check_name"]: str(check["exception"]) for check in outcome if check["status"] == "failed"}
    assert failed == {}
    assert sum(check["status"] == "passed" for check in outcome) > 40


def test_unusable_input_is_refused():
    features, labels = blobs(60)
    broken = features.copy()
    broken[3, 1] = np.inf
    with pytest.raises(InputError, match="infinity"):
        LinearProbe().fit(broken, labels)
    with pytest.raises(InputError, match="one class"):
        LinearProbe().fit(features, np.zeros(60))
    with pytest.raises(InputError, match="only one row"):
        LinearProbe().fit(features, np.r_[labels[:-1], 9])
    with pytest.raises(ShapeError, match="60 rows"):
        LinearProbe().fit(features, labels[:-1])
    with pytest.raises(ShapeError, match="bool"):
        LinearProbe().fit(features, np.stack([labels, labels], axis=1))
    with pytest.raises(ShapeError, match="validation"):
        LinearProbe().fit(features, labels, validation=(features[:, :4], labels))
    with pytest.raises(InputError, match="no metric"):
        LinearProbe(metric="recall").fit(features, labels)
    with pytest.raises(InputError, match="positive"):
        LinearProbe(penalty=0).fit(features, labels)
    with pytest.raises(ShapeError, match="expecting 10"):
        LinearProbe(1.0).fit(features, labels).predict(features[:, :4])


# ------------------------------------------------------------- what the search measures, and what a fit says of itself


def share_right(truth, scores):
    return float(np.mean(scores.argmax(axis=1) == truth))


@pytest.mark.parametrize("metric", ["default", share_right])
@pytest.mark.parametrize("num_classes", [2, 4])
def test_a_trial_has_the_score_and_the_mean_loss_of_the_rows_held_out(metric, num_classes):
    features, labels = blobs(240, num_classes=num_classes)
    held = features[200:], labels[200:]
    probe = LinearProbe(metric=metric).fit(features[:200], labels[:200], validation=held)
    for trial in probe.search_.trials:
        alone = LinearProbe(penalty=trial.penalty).fit(features[:200], labels[:200])
        if 1e-2 <= trial.penalty <= 1e3:  # of weaker ones the fits of a search are less exact
            assert trial.loss == pytest.approx(log_loss(held[1], alone.predict_proba(held[0])), rel=0.02)
            assert trial.score == pytest.approx(alone.score(*held), abs=1 / 40 + 1e-9)


def test_with_several_labels_the_loss_is_summed_over_classes_and_leaves_masked_ones_out():
    features, labels = blobs(240, num_classes=3)
    present = np.stack([labels == one for one in range(3)], axis=1)
    left_out = np.zeros_like(present)
    left_out[210:, 1] = True
    masked = np.ma.masked_array(present, left_out)
    probe = LinearProbe().fit(features[:200], masked[:200], validation=(features[200:], masked[200:]))
    for trial in (trial for trial in probe.search_.trials if 1e-2 <= trial.penalty <= 1e3):
        alone = LinearProbe(penalty=trial.penalty).fit(features[:200], masked[:200])
        chances = alone.predict_proba(features[200:])
        losses = -np.log(np.where(present[200:], chances, 1 - chances)) * ~left_out[200:]
        assert trial.loss == pytest.approx(losses.sum() / 40, rel=0.02)


def test_a_metric_of_ones_own_gets_truth_values_where_rows_have_several_labels():
    asked = []

    def metric(truth, scores):
        asked.append((truth, scores))
        return float(((scores > 0) == truth).mean())

    features, labels = blobs(120)
    present = np.stack([labels == 0, labels > 0], axis=1)
    LinearProbe(metric=metric).fit(features[:100], present[:100], validation=(features[100:], present[100:]))
    assert asked and all(truth.dtype == bool and np.array_equal(truth, present[100:]) for truth, _ in asked)
    assert all(scores.shape == (20, 2) for _, scores in asked)


def test_average_precision_is_the_mean_over_classes_that_have_rows_of_both_kinds():
    signs = np.array([[1, 1, -1, 1], [-1, 1, -1, 0], [1, 1, -1, -1]], np.int8)
    scores = np.array([[0.9, 0.1, 0.3, 0.2], [0.8, 0.2, 0.1, 0.9], [0.7, 0.3, 0.2, 0.1]])
    # Class 0: right rows at ranks 1 and 3: precision 1 up to recall 1/2, 2/3 after it. Class 3: a right row leads.
    first = (6 * 1 + 5 * 2 / 3) / 11
    assert linear_probe._average_precision(signs, scores) == pytest.approx((first + 1) / 2)
    with pytest.raises(InputError, match="both present and absent"):
        linear_probe._average_precision(signs[:, 1:3], scores[:, 1:3])


def test_a_score_of_zero_is_the_first_class_and_no_label():
    features, labels = blobs(60, num_classes=2)
    probe = LinearProbe(1.0).fit(features, labels)
    nothing = dict.fromkeys(("weights", "bias"))
    probe.fitted_ = dataclasses.replace(probe.fitted_, **{name: 0 * getattr(probe.fitted_, name) for name in nothing})
    assert (probe.predict(features) == probe.classes_[0]).all()
    several = LinearProbe(1.0).fit(features, np.stack([labels == 0, labels == 1], axis=1))
    several.fitted_ = dataclasses.replace(
        several.fitted_, **{name: 0 * getattr(several.fitted_, name) for name in nothing}
    )
    assert not several.predict(features).any()


def test_what_a_fit_says_of_itself():
    features, labels = blobs(100)
    probe = LinearProbe(1.0).fit(features, labels)
    assert probe.n_iter_.tolist() == [probe.fitted_.iterations] and probe.n_iter_[0] > 1
    tags = get_tags(probe)
    assert tags.estimator_type == "classifier" and tags.classifier_tags.multi_label
    assert tags.target_tags.required and tags.target_tags.multi_output and not tags.input_tags.sparse


def test_the_limit_of_iterations_holds_in_the_search_too(monkeypatch):
    given = []
    search = linear_probe.search_penalty
    monkeypatch.setattr(
        linear_probe, "search_penalty", lambda *most, **options: given.append(options) or search(*most, **options)
    )
    LinearProbe(max_iterations=77).fit(*blobs(100))
    assert given == [{"max_iterations": 77}]


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1])
def test_a_share_of_none_or_all_rows_is_refused(share):
    with pytest.raises(InputError, match="between 0 and 1"):
        stratified_rows(np.array([0, 0, 1, 1]), share, seed=0)


def test_a_class_never_loses_all_its_rows_to_validation():
    labels = np.repeat([0, 1], [10, 2])
    kept, held = stratified_rows(labels, 0.9, seed=0)
    assert np.bincount(labels[kept]).tolist() == [1, 1] and np.bincount(labels[held]).tolist() == [9, 1]


@pytest.mark.parametrize("labels", [np.zeros((60, 2, 2), int), np.zeros((59, 2), bool), np.zeros((60, 2, 2, 1), bool)])
def test_labels_of_other_shapes_are_refused(labels):
    with pytest.raises(ShapeError, match="60 rows of features need as many labels"):
        LinearProbe().fit(blobs(60)[0], labels)


def test_one_label_between_two_numbers_is_refused():
    features, labels = blobs(60)
    wrong = labels.astype(float)
    wrong[7] = 0.5
    with pytest.raises(InputError, match="continuous numbers"):
        LinearProbe().fit(features, wrong)
