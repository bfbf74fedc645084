"""scikit-learn's own checks of the estimators, and their work in pipelines and searches."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
from colours import NAMES, ColourEncoder, picture
from embedding import make_vit
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_estimator,
    check_set_output_transform,
    check_set_output_transform_pandas,
)

from diptych import ImageEmbedder, LinearProbe, Model, ZeroShotClassifier
from diptych.errors import ConfigError, ImageError, InputError, ShapeError
from diptych.evaluate.zero_shot.class_prompts import check_class_names

LABELS = [0, 1, 2, 3, 4, 5, 6] * 6
IMAGES = [picture(NAMES[label], seed=index) for index, label in enumerate(LABELS)]
WORDS = [NAMES[label] for label in LABELS]


# ------------------------------------------------------------------ scikit-learn's checks

NO_TABLE = "an image is no row of a table: a list of images has no number of features, and its items are not checked"
NO_LEARNING = "the classes are those of the constructor, whatever labels fit gets"
TEXTS = "the check compares predictions as numbers, and these are class names"
NO_IMAGES = {
    "check_n_features_in_after_fitting": NO_TABLE,
    "check_n_features_in": NO_TABLE,
    "check_complex_data": NO_TABLE,
    "check_estimators_empty_data_messages": NO_TABLE,
    "check_estimators_nan_inf": NO_TABLE,
    "check_fit1d": NO_TABLE,
    "check_fit2d_predict1d": NO_TABLE,
}
FOREIGN = "numpy.asarray alone can read the check's container; it is no list of images"
NO_EMBEDDING = {
    **NO_IMAGES,
    "check_dtype_object": NO_TABLE,
    "check_transformer_data_not_an_array": FOREIGN,
}
NO_CLASSIFYING = {
    **NO_IMAGES,
    "check_no_attributes_set_in_init": "the class embeddings are computed in the constructor: there is nothing to fit",
    "check_do_not_raise_errors_in_init_or_set_params": "a constructor that encodes texts must refuse what is no model",
    "check_fit_score_takes_y": "score(images, labels) is older than this protocol, and keeps its names",
    "check_classifier_data_not_an_array": FOREIGN,
    "check_classifiers_one_label": NO_LEARNING,
    "check_classifiers_classes": NO_LEARNING,
    "check_classifiers_train": NO_LEARNING,
    "check_decision_proba_consistency": NO_LEARNING,
    "check_dtype_object": NO_LEARNING,
    "check_supervised_y_2d": "labels are a list, never a column",
    "check_estimators_pickle": TEXTS,
    "check_fit_idempotent": TEXTS,
    "check_methods_sample_order_invariance": TEXTS,
    "check_methods_subset_invariance": TEXTS,
}


class Numbers:
    """An encoder whose images are rows of numbers, so that scikit-learn's checks, which know tables alone, can run."""

    name, logit_scale = "numbers", 10.0

    def encode_images(self, rows):
        means = np.array([np.mean(np.asarray(row, dtype=np.float64)) for row in rows])[:, None]
        vectors = np.concatenate([np.sin(means), np.cos(means), np.ones_like(means)], axis=1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_texts(self, texts):
        return self.encode_images([len(text) for text in texts])


def rows_of(table):
    """A list of rows; anything else, also a sparse matrix, is left as it is."""
    return list(np.asarray(table)) if getattr(table, "ndim", 0) == 2 and not hasattr(table, "toarray") else table


def with_tables(tags):
    tags.input_tags.two_d_array, tags.input_tags.one_d_array, tags.input_tags.string = True, False, False
    return tags


class TableEmbedder(ImageEmbedder):
    """Takes a table as the list of its rows; nothing else differs."""

    def fit(self, X, y=None):
        return super().fit(rows_of(X), y)

    def transform(self, X):
        return ImageEmbedder.transform.__wrapped__(self, rows_of(X))  # what set_output wraps, once and not twice

    def __sklearn_tags__(self):
        return with_tables(super().__sklearn_tags__())


class TableClassifier(ZeroShotClassifier):
    """The same for the classifier."""

    def fit(self, X=None, y=None):
        return super().fit(rows_of(X), y)

    def predict(self, images):
        return super().predict(rows_of(images))

    def predict_proba(self, images):
        return super().predict_proba(rows_of(images))

    def decision_function(self, images):
        return super().decision_function(rows_of(images))

    def score(self, images, labels):
        return super().score(rows_of(images), labels)

    def __sklearn_tags__(self):
        return with_tables(super().__sklearn_tags__())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "expected", "num_passed"),
    [
        (TableEmbedder(Numbers()), NO_EMBEDDING, 35),
        (TableClassifier(Numbers(), ["a", "bb", "ccc", "dddd"]), NO_CLASSIFYING, 25),
        (LinearProbe(), {}, 55),
    ],
    ids=["ImageEmbedder", "ZeroShotClassifier", "LinearProbe"],
)
def test_scikit_learns_checks_pass_but_those_that_do_not_apply(estimator, expected, num_passed):
    outcome = check_estimator(estimator, on_skip=None, on_fail=None)
    failed = {check["check_name"]: str(check["exception"]) for check in outcome if check["status"] == "failed"}
    assert {name: text for name, text in failed.items() if name not in expected} == {}
    assert set(expected) <= set(failed), "an exception that is none any more"
    assert sum(check["status"] == "passed" for check in outcome) >= num_passed


@pytest.mark.parametrize("check", [check_set_output_transform, check_set_output_transform_pandas])
def test_scikit_learns_checks_of_output_columns(check):
    """Those of get_feature_names_out do not apply: they count the columns of a table, and need an unfitted state."""
    check("TableEmbedder", TableEmbedder(Numbers()))


def test_a_probe_knows_the_columns_of_a_data_frame():
    check_dataframe_column_names_consistency("LinearProbe", LinearProbe(1.0))


@pytest.mark.parametrize(
    "make", [lambda: ImageEmbedder(ColourEncoder()), lambda: ZeroShotClassifier(make_vit(), NAMES)]
)
def test_tags_say_that_nothing_is_fitted_and_that_images_are_no_table(make):
    tags = get_tags(make())
    assert not tags.requires_fit and not tags.input_tags.two_d_array and not tags.input_tags.sparse


# ------------------------------------------------------------------ ImageEmbedder


@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_vectors_are_those_of_the_model(batch_size):
    model = make_vit()
    for kind, vectors in (
        ("embeddings", model.encode_images(IMAGES[:9])),
        ("features", model.image_features(IMAGES[:9])),
    ):
        embedder = ImageEmbedder(model, kind, batch_size)
        embedded = embedder.fit_transform(IMAGES[:9])
        assert embedded.dtype == np.float32 and embedded.shape == vectors.shape
        np.testing.assert_allclose(embedded, vectors, atol=1e-5)
        assert len(embedder.get_feature_names_out()) == vectors.shape[1]
        assert embedder.transform([]).shape == (0, vectors.shape[1])


def test_every_form_of_a_list_of_images(tmp_path):
    paths = []
    for index, image in enumerate(IMAGES[:5]):
        paths.append(tmp_path / f"{index}.png")
        image.save(paths[-1])
    embedder, texts = ImageEmbedder(ColourEncoder(), batch_size=2), [str(path) for path in paths]
    expected = ColourEncoder().encode_images(paths)
    table = pd.DataFrame({"path": texts, "size": range(5)})
    for images in (
        paths,
        np.array(texts),
        np.array(texts)[:, None],
        np.array(paths, dtype=object),
        table["path"],
        table[["path"]],
        (path for path in paths),
        [path.read_bytes() for path in paths],
        np.stack([np.asarray(image) for image in IMAGES[:5]]),
    ):
        np.testing.assert_allclose(embedder.transform(images), expected, atol=1e-6)
    columns = make_column_transformer((embedder, "path"), ("passthrough", ["size"]))
    np.testing.assert_allclose(columns.fit_transform(table)[:, :-1], expected, atol=1e-6)
    with pytest.raises(ShapeError, match="this table has 2"):
        embedder.transform(table)
    for single in (paths[0], IMAGES[0], None):
        with pytest.raises(ImageError, match="give a list"):
            embedder.fit(single)


class OneByOne:
    """A user's own encoder, whose error says nothing of Diptych, and which has features."""

    name = "own"

    def encode_images(self, images):
        if any(image.size == (7, 7) for image in images):
            raise RuntimeError("too small")
        return np.eye(4)[[image.size[0] % 4 for image in images]]

    image_features = encode_images


@pytest.mark.parametrize("kind", ["embeddings", "features"])
@pytest.mark.parametrize("make", [make_vit, OneByOne])
def test_broken_images_become_rows_of_nan_or_an_error_with_their_index(make, kind, caplog):
    images = [*IMAGES[:5], b"no image", IMAGES[6], "gone.png"]
    embedder = ImageEmbedder(make(), kind, batch_size=2, on_error="nan")
    rows = embedder.transform(images)
    assert np.isnan(rows).any(axis=1).tolist() == [False] * 5 + [True, False, True]
    np.testing.assert_allclose(rows[[0, 1, 2, 3, 4, 6]], embedder.transform([*IMAGES[:5], IMAGES[6]]), atol=1e-6)
    assert "image 5 becomes a row of NaN" in caplog.text and "image 7" in caplog.text
    assert np.isnan(embedder.transform([b"x", b"y", b"z"])).all()
    with pytest.raises(ImageError, match="image 5: "):
        embedder.set_params(on_error="raise").transform(images[:6])


def test_an_image_that_only_the_model_refuses():
    embedder = ImageEmbedder(OneByOne(), on_error="nan")
    images = [IMAGES[0], IMAGES[1].resize((7, 7)), IMAGES[2]]
    assert np.isnan(embedder.transform(images)).all(axis=1).tolist() == [False, True, False]
    with pytest.raises(InputError, match="too small"):
        embedder.set_params(on_error="raise").transform(images)


def test_wrong_parameters_are_refused_when_they_are_used():
    for name, value in (("kind", "pixels"), ("on_error", "skip"), ("batch_size", 0), ("batch_size", True)):
        embedder = ImageEmbedder(ColourEncoder()).set_params(**{name: value})
        with pytest.raises(ConfigError, match=name):
            embedder.fit(IMAGES[:2])
    with pytest.raises(ConfigError, match="gives no features"):
        ImageEmbedder(ColourEncoder(), "features").fit(IMAGES[:2])
    with pytest.raises(InputError, match="without encode_images"):
        ImageEmbedder(7).fit(IMAGES[:2])


# ------------------------------------------------------------------ clones share the weights


@pytest.mark.parametrize(
    "make", [ImageEmbedder, lambda model: ZeroShotClassifier(model, ["cat", "dog"])], ids=["embedder", "classifier"]
)
def test_clones_and_copies_hold_the_same_weights(make):
    model = make_vit()
    estimator = make(model)
    for twin in (clone(estimator), copy.copy(estimator), copy.deepcopy(estimator)):
        assert twin is not estimator and twin.model is model
        twin.set_params(model="default")
        assert estimator.model is model
    pipeline = clone(make_pipeline(estimator))
    assert pipeline[0] is not estimator and pipeline[0].model is model
    named = make("default")
    twins = clone(named), copy.deepcopy(named)
    encoder = vars(named).get("_encoder") or named.encoder_
    assert all((vars(twin).get("_encoder") or twin.encoder_) is encoder for twin in twins)
    dumped = pickle.dumps(named)
    assert len(dumped) < 100_000, "a name is enough for another process"
    again = pickle.loads(dumped)  # noqa: S301
    method = "transform" if make is ImageEmbedder else "predict_proba"
    np.testing.assert_allclose(getattr(again, method)(IMAGES[:3]), getattr(named, method)(IMAGES[:3]), atol=1e-6)


class Counted(ColourEncoder):
    """Counts what is embedded, in all copies."""

    copies = 0

    def __deepcopy__(self, memo):
        type(self).copies += 1
        return self


@pytest.mark.parametrize("last", [LogisticRegression(), LinearProbe(), LinearProbe(1.0)])
def test_pipelines_equal_their_steps(last):
    """The vectors of an encoder, and the last step fitted to them by hand."""
    encoder = Counted()
    pipeline = make_pipeline(ImageEmbedder(encoder), last)
    scores = cross_val_score(pipeline, IMAGES, WORDS, cv=3)
    vectors = encoder.encode_images(IMAGES).numpy()
    np.testing.assert_allclose(scores, cross_val_score(last, vectors, WORDS, cv=3))
    assert scores.mean() > 0.6 and Counted.copies == 0
    assert (
        pipeline.fit(IMAGES, WORDS).predict(IMAGES).tolist()
        == clone(last).fit(vectors, WORDS).predict(vectors).tolist()
    )


def test_a_search_over_names_kinds_and_penalties():
    grid = {
        "imageembedder__model": ["default"],
        "imageembedder__kind": ["embeddings", "features"],
        "linearprobe__penalty": [0.01, 100.0],
    }
    pipeline = make_pipeline(ImageEmbedder(), LinearProbe())
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(IMAGES, WORDS)
    assert len(search.cv_results_["params"]) == 4 and search.best_score_ > 0.3
    assert search.best_estimator_[1].lambda_ == search.best_params_["linearprobe__penalty"]


# ------------------------------------------------------------------ ZeroShotClassifier


def test_a_search_over_templates_scores_each_as_the_classifier_itself():
    encoder = ColourEncoder()
    templates = [["{c}"], ["a {c} picture", "something {c}"], ["no colour but {c}"]]
    search = GridSearchCV(ZeroShotClassifier(encoder, NAMES), {"templates": templates}, cv=3, error_score="raise")
    search.fit(IMAGES, WORDS)
    alone = [ZeroShotClassifier(encoder, NAMES, texts).score(IMAGES, WORDS) for texts in templates]
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], alone)
    assert search.best_params_["templates"] == templates[int(np.argmax(alone))]
    accuracy = cross_val_score(
        ZeroShotClassifier(encoder, NAMES, templates[0]), IMAGES, WORDS, cv=3, scoring="accuracy"
    )
    assert accuracy.mean() == pytest.approx(alone[0])


def test_a_clone_encodes_no_texts_and_changed_parameters_do():
    encoder = ColourEncoder()
    classifier = ZeroShotClassifier(encoder, NAMES, ["{c}"])
    seen = encoder.texts_seen
    twin = clone(classifier).set_params(class_names=classifier.class_names)
    assert encoder.texts_seen == seen
    twin.set_params(class_names=["red", "blue"], templates=["a {c} picture"])
    assert twin.classes_.tolist() == ["red", "blue"] and classifier.classes_.tolist() == list(NAMES)
    np.testing.assert_allclose(
        twin.predict_proba(IMAGES),
        ZeroShotClassifier(encoder, ["red", "blue"], ["a {c} picture"]).predict_proba(IMAGES),
    )
    for wrong in ({"class_names": ["one"]}, {"templates": ["none"]}, {"model": None}, {"C": 1}):
        with pytest.raises(InputError):
            twin.set_params(**wrong)
        assert twin.classes_.tolist() == ["red", "blue"] and twin.get_params()["model"] is encoder


def test_names_from_a_generator_are_kept():
    classifier = ZeroShotClassifier(ColourEncoder(), (name for name in NAMES))
    assert classifier.set_params(templates=["{c}"]).classes_.tolist() == list(check_class_names(NAMES))


def test_fit_checks_labels_and_learns_nothing():
    classifier = ZeroShotClassifier(ColourEncoder(), NAMES)
    before = classifier.predict_proba(IMAGES)
    assert classifier.fit(IMAGES, LABELS[::-1]) is classifier and classifier.fit() is classifier
    np.testing.assert_array_equal(classifier.predict_proba(IMAGES), before)
    with pytest.raises(InputError, match="'pink' is none of the 7"):
        classifier.fit(IMAGES[:1], ["pink"])
    with pytest.raises(ShapeError, match="2 images and 1 labels"):
        classifier.fit(IMAGES[:2], [0])
    for refuses in (classifier.fit, classifier.score):
        with pytest.raises(InputError, match="Unknown label type"):
            refuses(IMAGES[:2], [0.0, 0.5])


@pytest.mark.parametrize("names", [NAMES, NAMES[:2]])
def test_the_decision_is_the_scaled_cosine(names):
    encoder = ColourEncoder()
    classifier = ZeroShotClassifier(encoder, names)
    cosines = encoder.encode_images(IMAGES) @ classifier.class_embeddings.T * encoder.logit_scale
    expected = cosines if len(names) > 2 else cosines[:, 1] - cosines[:, 0]
    np.testing.assert_allclose(classifier.decision_function(IMAGES), expected, atol=1e-5)


def test_the_public_names_are_estimators():
    assert issubclass(ImageEmbedder, BaseEstimator) and isinstance(ImageEmbedder().encoder_, Model)
    assert repr(ImageEmbedder(kind="features")) == "ImageEmbedder(kind='features')"
