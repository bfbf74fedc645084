"""Estimators in folders: what is loaded predicts the same, without pickle, and only with the same model."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from colours import NAMES, ColourEncoder, FingerprintedEncoder, picture
from embedding import make_vit
from safetensors.numpy import load_file, save_file

from diptych import ImageEmbedder, LinearProbe, ZeroShotClassifier
from diptych.errors import DataError, InputError, WeightsError
from diptych.evaluate.probe.penalty_search import Search

IMAGES = [picture(NAMES[index % 7], seed=index) for index in range(28)]
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 5))
CLASSES = np.arange(60) % 3
SAVED = {"estimator.json", "estimator.safetensors"}


def same(probe: LinearProbe, again: LinearProbe) -> bool:
    """Whether all that a probe knows and predicts is equal, types included."""
    predicted, repeated = probe.predict(ROWS), again.predict(ROWS)
    known = ("lambda_", "search_", "n_features_in_")
    return (
        predicted.dtype.kind == repeated.dtype.kind
        and np.array_equal(predicted, repeated)
        and np.array_equal(probe.predict_proba(ROWS), again.predict_proba(ROWS))
        and probe.classes_.dtype.kind == again.classes_.dtype.kind
        and np.array_equal(probe.coef_, again.coef_)
        and np.array_equal(probe.n_iter_, again.n_iter_)
        and all(getattr(probe, name) == getattr(again, name) for name in known)
        and probe.get_params() == again.get_params()
    )


# ------------------------------------------------------------------ LinearProbe


@pytest.mark.parametrize(
    "labels",
    [
        CLASSES,
        CLASSES == 1,
        CLASSES.astype(float),
        (CLASSES + 5).astype(np.uint8),
        np.array(["cat", "dog", "a bird"])[CLASSES],
        np.array(["cat", "dog", "ox"], dtype=object)[CLASSES],
        np.stack([CLASSES == 0, CLASSES > 0], axis=1),
    ],
    ids=["int", "bool", "float", "uint8", "text", "object", "several"],
)
@pytest.mark.parametrize("penalty", [None, 2.0])
def test_a_loaded_probe_is_the_saved_one(labels, penalty, tmp_path):
    probe = LinearProbe(penalty, seed=3).fit(ROWS, labels)
    probe.save(tmp_path / "probe")
    assert {path.name for path in (tmp_path / "probe").iterdir()} == SAVED
    again = LinearProbe.load(tmp_path / "probe")
    assert same(probe, again)
    assert isinstance(again.search_, Search) is (penalty is None)
    np.testing.assert_array_equal(again.fit(ROWS, labels).coef_, probe.coef_)


def test_a_probe_of_a_data_frame_and_one_that_is_not_fitted(tmp_path):
    frame = pd.DataFrame(ROWS, columns=list("abcde"))
    LinearProbe(1.0).fit(frame, CLASSES).save(tmp_path / "probe")
    assert LinearProbe.load(tmp_path / "probe").feature_names_in_.tolist() == list("abcde")
    with pytest.raises(ValueError, match="feature names"):
        LinearProbe.load(tmp_path / "probe").predict(frame[list("edcba")])
    LinearProbe(np.float64(3), seed=np.int64(2)).save(tmp_path / "probe")  # as a search sets them
    again = LinearProbe.load(tmp_path / "probe")
    assert again.get_params() == LinearProbe(3.0, seed=2).get_params() and not hasattr(again, "coef_")


def test_what_cannot_be_saved_without_pickle(tmp_path):
    with pytest.raises(InputError, match=r"parameter metric is .*cannot be saved without pickle"):
        LinearProbe(1.0, metric=lambda truth, scores: 0.0).fit(ROWS, CLASSES).save(tmp_path / "probe")
    days = np.array(["2026-01-01", "2026-01-02", "2026-01-03"], dtype="datetime64[D]")[CLASSES]
    with pytest.raises(InputError, match="classes of type datetime64"):
        LinearProbe(1.0).fit(ROWS, days).save(tmp_path / "probe")
    assert list(tmp_path.iterdir()) == []


def change(folder, **values):
    path = folder / "estimator.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_fitted(folder, **values):
    path = folder / "estimator.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"fitted": content["fitted"] | values}))


DAMAGE = {
    "another estimator": lambda folder: change(folder, estimator="ImageEmbedder"),
    "another file": lambda folder: change(folder, format="other"),
    "newer": lambda folder: change(folder, format_version=2),
    "a parameter": lambda folder: change(folder, parameters={"C": 1.0}),
    "parameters": lambda folder: change(folder, parameters=[]),
    "fitted": lambda folder: change(folder, fitted=5),
    "nothing fitted": lambda folder: change(folder, fitted={}),
    "no JSON": lambda folder: (folder / "estimator.json").write_bytes(b"{"),
    "deep": lambda folder: (folder / "estimator.json").write_bytes(b"[" * 100_000),
    "no file": lambda folder: (folder / "estimator.json").unlink(),
    "no arrays": lambda folder: (folder / "estimator.safetensors").unlink(),
    "cut": lambda folder: (folder / "estimator.safetensors").write_bytes(
        (folder / "estimator.safetensors").read_bytes()[:-9]
    ),
    "a header of 2 GB": lambda folder: (folder / "estimator.safetensors").write_bytes(b"\0\0\0\x80\0\0\0\0{}"),
    "a huge label type": lambda folder: change_fitted(folder, classes={"type": "<U999999999", "values": ["a", "b"]}),
    "fewer classes": lambda folder: change_fitted(folder, classes={"type": "int64", "values": [0, 1]}),
    "nested classes": lambda folder: change_fitted(folder, classes={"type": "object", "values": [[0], [1], [2]]}),
    "classes that are no numbers": lambda folder: change_fitted(
        folder, classes={"type": "int64", "values": ["a", "b", "c"]}
    ),
    "an object of labels": lambda folder: change_fitted(folder, label_type="O"),
    "no best": lambda folder: change_fitted(folder, best=99),
    "trials": lambda folder: change_fitted(folder, search=[1]),
    "float32": lambda folder: save_file(
        {name: array.astype(np.float32) for name, array in load_file(folder / "estimator.safetensors").items()},
        folder / "estimator.safetensors",
    ),
    "NaN": lambda folder: save_file(
        {name: array * np.nan for name, array in load_file(folder / "estimator.safetensors").items()},
        folder / "estimator.safetensors",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_folders_are_refused(damage, tmp_path):
    LinearProbe().fit(ROWS, CLASSES).save(tmp_path / "probe")
    damage(tmp_path / "probe")
    with pytest.raises(DataError, match="probe"):
        LinearProbe.load(tmp_path / "probe")


def test_folders_of_others_are_left_alone(tmp_path):
    probe = LinearProbe(1.0).fit(ROWS, CLASSES)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, problem in (("mine", "holds other files"), ("file", "is a file"), ("file/probe", "")):
        with pytest.raises(DataError, match=problem):
            probe.save(tmp_path / name)
    for name in ("", ".", "/"):
        with pytest.raises(DataError, match="a name of its own"):
            probe.save(name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "mine", "notes.txt"]


# ------------------------------------------------------------------ estimators with a model


def test_a_loaded_embedder_and_classifier_are_the_saved_ones(tmp_path):
    make_vit().save(tmp_path / "vit")
    embedder = ImageEmbedder(tmp_path / "vit", "features", 8, "nan")
    classifier = ZeroShotClassifier(str(tmp_path / "vit"), ["cat", "two dogs", "a tail"], ("{c}", "a {c}"))
    for estimator, method in ((embedder, "transform"), (classifier, "predict_proba")):
        estimator.save(tmp_path / "saved")
        again = type(estimator).load(tmp_path / "saved")
        np.testing.assert_array_equal(getattr(again, method)(IMAGES), getattr(estimator, method)(IMAGES))
        estimator.save(tmp_path / "saved")  # again, over the older one
    assert embedder.get_params() == ImageEmbedder(tmp_path / "vit", "features", 8, "nan").get_params()
    assert again.get_params()["templates"] == ["{c}", "a {c}"]
    assert again.set_params(class_names=["cat", "dog"]).classes_.tolist() == ["cat", "dog"]


def test_another_process_predicts_the_same(tmp_path):
    classifier = ZeroShotClassifier("default", ["red", "blue", "black"])
    classifier.save(tmp_path / "saved")
    IMAGES[3].save(tmp_path / "a.png")
    code = "import diptych; c = diptych.ZeroShotClassifier.load('saved'); print(c.predict_proba(['a.png']).tolist())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), classifier.predict_proba([tmp_path / "a.png"]), atol=1e-6)


def test_texts_are_not_encoded_again(tmp_path):
    encoder = FingerprintedEncoder()
    ZeroShotClassifier(encoder, NAMES).save(tmp_path / "saved")
    fresh = FingerprintedEncoder()
    again = ZeroShotClassifier.load(tmp_path / "saved", model=fresh)
    assert fresh.texts_seen == 0 and again.model is fresh
    np.testing.assert_array_equal(again.predict_proba(IMAGES), ZeroShotClassifier(encoder, NAMES).predict_proba(IMAGES))


def test_another_model_of_that_name_is_refused(tmp_path):
    model = make_vit()
    model.save(tmp_path / "vit")
    for name, estimator in (
        ("embedder", ImageEmbedder(str(tmp_path / "vit"))),
        ("classifier", ZeroShotClassifier(str(tmp_path / "vit"), ["cat", "dog"])),
    ):
        estimator.save(tmp_path / name)
    with torch.no_grad():
        model.clip.token_embedding.weight[5] += 1  # the text side, on which no image's vector depends
    model.save(tmp_path / "vit")
    ImageEmbedder.load(tmp_path / "embedder")
    with pytest.raises(WeightsError, match=r"another model than '.*vit': the text_fingerprint was \w{12}, now it is"):
        ZeroShotClassifier.load(tmp_path / "classifier")
    with torch.no_grad():
        next(model.clip.visual.parameters()).add_(1)
    model.save(tmp_path / "vit")
    with pytest.raises(WeightsError, match="image_fingerprint"):
        ImageEmbedder.load(tmp_path / "embedder")
    with pytest.raises(WeightsError, match="image_fingerprint"):
        ImageEmbedder.load(tmp_path / "embedder", model="default")
    (tmp_path / "vit").rename(tmp_path / "moved")
    with pytest.raises(WeightsError, match=r"give load\(folder, model=...\)"):
        ImageEmbedder.load(tmp_path / "embedder")
    good = make_vit()
    assert ImageEmbedder.load(tmp_path / "embedder", model=good).encoder_ is good


def test_a_model_without_a_fingerprint_is_taken_with_a_warning(tmp_path, caplog):
    ZeroShotClassifier(ColourEncoder(), NAMES).save(tmp_path / "saved")
    ZeroShotClassifier.load(tmp_path / "saved", model=ColourEncoder())
    assert "cannot be checked" in caplog.text


def test_a_folder_cannot_choose_code_that_runs(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('ran').touch()\n")
    monkeypatch.chdir(tmp_path)
    ImageEmbedder().save("saved")
    change(tmp_path / "saved", model={"name": "python:evil:anything", "image_fingerprint": None})
    with pytest.raises(InputError, match="which is code"):
        ImageEmbedder.load("saved")
    assert not (tmp_path / "ran").exists()
    for model in (None, {}, {"name": 5}, {"name": ""}):
        change(tmp_path / "saved", model=model)
        with pytest.raises(DataError, match="names no model"):
            ImageEmbedder.load("saved")


def test_class_embeddings_that_do_not_fit(tmp_path):
    folder = tmp_path / "saved"
    ZeroShotClassifier("default", ["cat", "dog"]).save(folder)
    for names in (["cat"], ["cat", "dog", "ox"], "cat", None):
        change(folder, parameters={"class_names": names, "templates": ["{c}"]})
        with pytest.raises(InputError):
            ZeroShotClassifier.load(folder)
    change(folder, parameters={"class_names": ["cat", "dog"], "templates": ["{c}"]})
    for embeddings in (np.eye(2, 3), 2 * np.eye(2, 256)):  # of another width, and of another norm
        save_file({"class_embeddings": embeddings.astype(np.float32)}, folder / "estimator.safetensors")
        with pytest.raises(DataError, match="is damaged"):
            ZeroShotClassifier.load(folder)
