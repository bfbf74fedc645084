import json
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from colours import COLOURS, NAMES, TEMPLATES, ColourEncoder, PixelColourEncoder, encoded, picture, write_set
from embedding import make_vit
from rich.console import Console
from sklearn.metrics import accuracy_score

from diptych.data.source import Source
from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed import Model
from diptych.embed.engine import PixelEncoder
from diptych.errors import ConfigError, DataError, InputError, ShapeError, TextError
from diptych.evalsets.benchmark import Benchmark, open_benchmark
from diptych.evaluate import ZeroShot, ZeroShotClassifier, clopper_pearson, read_predictions, zero_shot_table
from diptych.evaluate.predictions import top_k_classes
from diptych.evaluate.zero_shot.classifier import zero_shot_logits
from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig, ResNetConfig, TextConfig
from diptych.records import Sample, read_results, write_results

LABELS = [0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 0, 0, 4, 5, 6] * 4
PICTURES = [picture(NAMES[label], seed=index) for index, label in enumerate(LABELS)]


def numpy_scores(encoder, class_names, templates, pictures):
    """Zero-shot probabilities written out: normalise each prompt, mean over templates, normalise, cosine, softmax."""
    weights = []
    for name in class_names:
        prompts = encoder.encode_texts([template.replace("{c}", name) for template in templates]).numpy()
        mean = (prompts / np.linalg.norm(prompts, axis=1, keepdims=True)).astype(np.float64).mean(axis=0)
        weights.append(mean / np.linalg.norm(mean))
    logits = encoder.logit_scale * encoder.encode_images(pictures).numpy() @ np.array(weights).T
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("templates", [TEMPLATES, TEMPLATES[:1]])
def test_probabilities_equal_a_direct_computation(templates):
    encoder = ColourEncoder()
    classifier = ZeroShotClassifier(encoder, NAMES, templates)
    expected = numpy_scores(encoder, NAMES, templates, PICTURES)
    found = classifier.predict_proba(PICTURES)
    assert found.shape == (len(PICTURES), len(NAMES)) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(classifier.class_embeddings.norm(dim=1), 1, atol=1e-6)
    assert classifier.predict(PICTURES).tolist() == [NAMES[index] for index in expected.argmax(axis=1)]


def test_predict_and_score_are_scikit_learns():
    classifier = ZeroShotClassifier(ColourEncoder(), NAMES, TEMPLATES)
    names = np.array(NAMES)[LABELS]
    assert classifier.classes_.tolist() == list(NAMES)
    score = classifier.score(PICTURES, names)
    assert 0.5 < score < 1  # the pictures are noisy on purpose: a metric that says 1 proves little
    assert score == pytest.approx(accuracy_score(names, classifier.predict(PICTURES)))
    for labels in (LABELS, np.array(LABELS), names.tolist(), [f" {name} " for name in names]):
        assert classifier.score(PICTURES, labels) == score
    assert classifier.predict([encoded(PICTURES[0]), np.asarray(PICTURES[0])]).shape == (2,)


def test_the_classifier_is_computed_once():
    encoder = ColourEncoder()
    classifier = ZeroShotClassifier(encoder, NAMES, TEMPLATES)
    assert encoder.texts_seen == len(NAMES) * len(TEMPLATES)
    for _ in range(2):
        classifier.predict(PICTURES[:3])
        classifier.scores_from_embeddings(encoder.encode_images(PICTURES[:3]))
    assert encoder.texts_seen == len(NAMES) * len(TEMPLATES)


def test_scores_from_embeddings_are_the_logits():
    encoder = ColourEncoder()
    classifier = ZeroShotClassifier(encoder, NAMES)
    logits = classifier.scores_from_embeddings(encoder.encode_images(PICTURES))
    np.testing.assert_allclose(logits.softmax(dim=1), classifier.predict_proba(PICTURES), atol=1e-6)
    assert logits.abs().max() <= encoder.logit_scale * (1 + 1e-6)


def test_no_pictures_and_one_that_is_no_list():
    classifier = ZeroShotClassifier(ColourEncoder(), NAMES)
    assert classifier.predict([]).shape == (0,)
    assert classifier.predict_proba([]).shape == (0, len(NAMES))
    for one in ("cat.jpg", Path("cat.jpg"), b"\xff\xd8", PICTURES[0]):
        with pytest.raises(InputError, match="list of images"):
            classifier.predict(one)


def test_labels_that_do_not_fit():
    classifier = ZeroShotClassifier(ColourEncoder(), NAMES)
    with pytest.raises(InputError, match="'pink' is none of the 7 classes"):
        classifier.score(PICTURES[:2], ["red", "pink"])
    with pytest.raises(InputError, match=r"\[0, 7\)"):
        classifier.score(PICTURES[:2], [0, 7])
    with pytest.raises(ShapeError, match="2 images and 3 labels"):
        classifier.score(PICTURES[:2], [0, 1, 2])
    with pytest.raises(ShapeError):
        classifier.score([], [])


def test_embeddings_that_do_not_fit():
    classes = torch.eye(3)
    with pytest.raises(ShapeError, match=r"\(2, 4\)"):
        zero_shot_logits(torch.ones(2, 4), classes, 1.0)
    with pytest.raises(InputError, match="1 of 2"):
        zero_shot_logits(torch.tensor([[1.0, 0, 0], [0, float("nan"), 0]]), classes, 1.0)


def test_of_equal_classes_the_lower_index_comes_first():
    classes, scores = top_k_classes(torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0]]), 3)
    assert classes.tolist() == [[1, 2, 3]]
    assert scores[0].tolist() == pytest.approx([scores[0, 0]] * 3)


@pytest.fixture(scope="module")
def wds(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("sets") / "wds_paints", LABELS)


@pytest.mark.parametrize("encoder", [ColourEncoder(), PixelColourEncoder()], ids=["pictures", "pixels"])
def test_evaluator_end_to_end(wds, tmp_path, encoder):
    encoder.pictures_seen = encoder.texts_seen = 0
    benchmark = open_benchmark(wds)
    results = ZeroShot(benchmark, predictions_folder=tmp_path / "predictions")(encoder)
    assert encoder.pictures_seen == len(LABELS)
    assert encoder.texts_seen == len(NAMES) * (1 + len(TEMPLATES))

    rows = {(row.protocol, row.metric): row for row in results}
    metrics = ("accuracy", "accuracy_top_5", "mean_per_class_accuracy")
    assert list(rows) == [(protocol, metric) for protocol in ("single", "ensemble") for metric in metrics]
    for protocol, templates in (("single", TEMPLATES[:1]), ("ensemble", TEMPLATES)):
        expected = numpy_scores(ColourEncoder(), NAMES, templates, PICTURES)
        right = expected.argmax(axis=1) == LABELS
        assert rows[protocol, "accuracy"].value == pytest.approx(right.mean())
        top_5 = (np.argsort(-expected, axis=1)[:, :5] == np.array(LABELS)[:, None]).any(axis=1)
        assert rows[protocol, "accuracy_top_5"].value == pytest.approx(top_5.mean())
        per_class = [right[np.array(LABELS) == label].mean() for label in range(len(NAMES))]
        assert rows[protocol, "mean_per_class_accuracy"].value == pytest.approx(np.mean(per_class))
        for metric in metrics[:2]:
            row = rows[protocol, metric]
            assert (row.low, row.high) == clopper_pearson(round(row.value * len(LABELS)), len(LABELS))
            assert row.low < row.value < row.high and row.interval == "clopper-pearson 99.5%"

        path = tmp_path / "predictions" / "colours-7" / f"{benchmark.name}-test-{protocol}.parquet"
        predictions = read_predictions(path)
        assert predictions.keys == tuple(dict.fromkeys(predictions.keys)) and len(predictions.keys) == len(LABELS)
        assert predictions.labels.tolist() == LABELS
        assert predictions.classes.shape == predictions.scores.shape == (len(LABELS), 5)
        assert (np.diff(predictions.scores, axis=1) <= 0).all()
        if type(encoder) is ColourEncoder:  # the other one sees resized pictures
            np.testing.assert_allclose(predictions.scores, -np.sort(-expected, axis=1)[:, :5], atol=1e-5)
    assert rows["single", "accuracy"].value != rows["ensemble", "accuracy"].value
    mean_per_class = rows["ensemble", "mean_per_class_accuracy"]
    assert mean_per_class.low < mean_per_class.value < mean_per_class.high
    assert mean_per_class.interval == "bootstrap 99.5%"


def test_rows_are_as_the_format_defines_them(wds, tmp_path):
    results = ZeroShot(open_benchmark(wds), protocols=("ensemble",))(ColourEncoder())
    write_results(results, tmp_path / "results.jsonl")
    assert read_results(tmp_path / "results.jsonl") == results
    row = json.loads((tmp_path / "results.jsonl").read_text().splitlines()[0])
    fields = "task, dataset, split, metric, value, n, low, high, interval, protocol, model, condition, run"
    assert ", ".join(row) == fields
    assert (row["task"], row["split"], row["n"], row["model"]) == ("zero_shot", "test", len(LABELS), "colours/7")
    assert list(row["run"]) == ["command", "commit", "machine", "fingerprint", "settings"] and all(row["run"].values())
    assert row["run"]["fingerprint"] == open_benchmark(wds).fingerprint


@pytest.mark.parametrize("encoder", [ColourEncoder(), PixelColourEncoder()], ids=["pictures", "pixels"])
@pytest.mark.parametrize(("num_workers", "batch_size"), [(0, 7), (2, 16), (1, 1000)])
def test_workers_and_batches_change_nothing(wds, encoder, num_workers, batch_size, monkeypatch):
    benchmark = open_benchmark(wds)
    expected = ZeroShot(benchmark).predict(encoder)
    monkeypatch.setattr("diptych.evaluate.encoded_set._PICTURES_PER_BATCH", batch_size)
    found = ZeroShot(benchmark, num_workers=num_workers).predict(encoder)
    assert list(found) == ["single", "ensemble"]
    for protocol in found:
        assert found[protocol].keys == expected[protocol].keys
        assert (found[protocol].labels == expected[protocol].labels).all()
        assert (found[protocol].classes == expected[protocol].classes).all()
        np.testing.assert_allclose(found[protocol].scores, expected[protocol].scores, atol=1e-6)


@pytest.fixture(scope="module")
def model():
    """A whole model with random weights: small towers, a tokenizer, its preprocessing."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.train([template.replace("{c}", name) for name in NAMES for template in TEMPLATES], 560)
    vision = ResNetConfig(image_size=32, width=8, layers=(1, 1, 1, 1))
    config = CLIPConfig(32, vision, TextConfig(vocab_size=560, width=64, layers=1))
    return Model(CLIP(config), tokenizer, Preprocessing(image_size=32), name="tiny")


class PicturesOnly:
    """The least that an encoder can be: another library's model."""

    def __init__(self, model):
        self.name, self.logit_scale = model.name, model.logit_scale
        self.encode_images, self.encode_texts = model.encode_images, model.encode_texts


def test_a_whole_model(model, wds, tmp_path):
    benchmark = open_benchmark(wds)
    assert isinstance(model, PixelEncoder) and not isinstance(PicturesOnly(model), PixelEncoder)
    results = ZeroShot(benchmark, predictions_folder=tmp_path, num_workers=1)(model)
    assert {row.model for row in results} == {"tiny"} and results[0].run["machine"].endswith("cpu")
    foreign = ZeroShot(benchmark).predict(PicturesOnly(model))
    for protocol, templates in (("single", TEMPLATES[:1]), ("ensemble", TEMPLATES)):
        expected = numpy_scores(model, NAMES, templates, PICTURES)
        for found in (
            foreign[protocol],
            read_predictions(tmp_path / "tiny" / f"{benchmark.name}-test-{protocol}.parquet"),
        ):
            np.testing.assert_allclose(found.scores, -np.sort(-expected, axis=1)[:, :5], atol=1e-4)
        np.testing.assert_allclose(
            ZeroShotClassifier(model, NAMES, templates).predict_proba(PICTURES), expected, atol=1e-4
        )


class Listed(Source):
    """A source in memory."""

    shards = ("memory",)
    fingerprint = "memory"

    def __init__(self, samples):
        self.samples = samples

    def read(self, index):
        yield from self.samples


def in_memory(samples, class_names=NAMES, templates=TEMPLATES):
    return Benchmark("memory", "test", tuple(class_names), tuple(templates), Listed(samples), "memory")


def samples_of(labels):
    return [Sample(f"{i}", encoded(picture(NAMES[label], i)), label=label) for i, label in enumerate(labels)]


ENCODERS = pytest.mark.parametrize("kind", [ColourEncoder, PixelColourEncoder])


@ENCODERS
def test_few_classes_have_no_top_5_and_one_template_is_encoded_once(kind):
    encoder = kind()
    benchmark = in_memory(samples_of([0, 1, 2, 1]), NAMES[:5], TEMPLATES[1:2])
    results = ZeroShot(benchmark)(encoder)
    assert [row.metric for row in results] == ["accuracy", "mean_per_class_accuracy"] * 2
    assert encoder.texts_seen == 5
    assert ZeroShot(benchmark).predict(encoder)["ensemble"].classes.shape == (4, 5)


@ENCODERS
def test_of_two_classes_with_one_name_the_first_is_chosen(kind):
    samples = samples_of([0, 0, 0])
    twice = [Sample(sample.key, sample.image, label=2) for sample in samples]
    assert ZeroShot(in_memory(samples, ("red", "blue", "red")))(kind())[0].value == 1
    assert ZeroShot(in_memory(twice, ("red", "blue", "red")))(kind())[0].value == 0


@ENCODERS
def test_broken_samples_are_named_counted_and_left_out(kind, caplog):
    samples = samples_of([0, 1, 2, 3] * 50)
    samples[7] = Sample("broken-7", samples[7].image[:50], label=3)
    samples[9] = Sample("broken-9", b"", label=1)
    with caplog.at_level(logging.WARNING):
        results = ZeroShot(in_memory(samples))(kind())
    assert {row.n for row in results} == {198}
    assert "broken-7" in caplog.text and "broken-9" in caplog.text and "2 of 200" in caplog.text
    samples[11] = Sample("broken-11", b"no picture", label=1)
    with pytest.raises(DataError, match="3 of 200"):
        ZeroShot(in_memory(samples))(kind())


@ENCODERS
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("beyond", [0, 600])
def test_a_cut_shard_is_refused_however_little_is_lost(kind, num_workers, beyond, tmp_path):
    folder = write_set(tmp_path / "set", [0, 1, 2, 3] * 30, shard_size=50)
    shard = folder / "test" / "1.tar"
    with tarfile.open(shard) as tar:
        start = tar.getmembers()[-2].offset  # of the last sample: one in 120 is lost, or cut in two
    shard.write_bytes(shard.read_bytes()[: start + beyond])
    with pytest.raises(DataError, match=r"set/test: the rest of the shard is lost: .*1\.tar\); fetch the shard again"):
        ZeroShot(open_benchmark(folder), num_workers=num_workers)(kind())


@ENCODERS
def test_sets_that_cannot_be_used(kind):
    image = encoded(PICTURES[0])
    with pytest.raises(DataError, match=r"no (usable )?sample"):
        ZeroShot(in_memory([]))(kind())
    for label in (7, -1):
        with pytest.raises(DataError, match=f"'a'.*label {label}"):
            ZeroShot(in_memory([Sample("a", image, label=label)]))(kind())
    with pytest.raises(DataError, match="label"):
        ZeroShot(in_memory([Sample("a", image, texts=("red",))]))(kind())
    with pytest.raises(InputError, match="two classes"):
        ZeroShot(in_memory(samples_of([0]), ("red",)))(kind())
    with pytest.raises(InputError, match=r"\{c\}"):
        ZeroShot(in_memory(samples_of([0]), templates=("a photo",)))(kind())


def test_a_model_with_nan_is_an_error_and_no_number():
    class Broken(ColourEncoder):
        def encode_images(self, pictures):
            embeddings = super().encode_images(pictures)
            embeddings[1, 0] = float("nan")
            return embeddings

    with pytest.raises(InputError, match="NaN"):
        ZeroShot(in_memory(samples_of([0, 1, 2])))(Broken())


@pytest.mark.parametrize("wrong", [{"protocols": ()}, {"protocols": ("probe",)}])
def test_evaluators_that_make_no_sense(wrong):
    with pytest.raises(ConfigError):
        ZeroShot(in_memory([]), **wrong)


def test_prompts_are_checked_before_a_training_run():
    model = make_vit()  # a context of 24
    long = "two green dogs and " * 8
    ZeroShot(in_memory([])).check(model)
    with pytest.raises(TextError, match=r"memory: the prompt 'a two green dogs .* tokens .* context of vit is 24"):
        ZeroShot(in_memory([], ["cat", long], ["a {c}"])).check(model)
    of_templates = in_memory([], templates=["a {c}", long + "{c}"])
    with pytest.raises(TextError, match="the prompt 'two green dogs"):
        ZeroShot(of_templates).check(model)
    ZeroShot(of_templates, protocols=("single",)).check(model)
    with pytest.raises(InputError, match="two classes"):
        ZeroShot(in_memory([], ["cat"])).check(model)
    ZeroShot(of_templates).check(ColourEncoder())  # it has no tokenizer, and takes texts of any length


@pytest.mark.parametrize("words", range(20, 26))
def test_the_check_agrees_with_the_tokenizer(words):
    model = make_vit()
    prompts = ["dogs " * words, "cat"]
    try:
        model.encode_texts(prompts)
    except TextError:
        with pytest.raises(TextError):
            ZeroShot(in_memory([], prompts, ["{c}"])).check(model)
    else:
        ZeroShot(in_memory([], prompts, ["{c}"])).check(model)


def test_file_names_of_predictions_stay_in_their_folder(tmp_path):
    samples = samples_of([0, 1])
    benchmark = Benchmark("../../up", "test", NAMES, TEMPLATES, Listed(samples), "memory")

    class Elsewhere(ColourEncoder):
        name = "/etc/../ViT-B/32 …"

    ZeroShot(benchmark, predictions_folder=tmp_path / "inside")(Elsewhere())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 2 and all(path.parents[1] == tmp_path / "inside" for path in files)


def test_the_table(wds):
    benchmark = open_benchmark(wds)
    results = ZeroShot(benchmark)(ColourEncoder())
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(zero_shot_table(results, [benchmark]))
    text = console.export_text()
    rows = {(row.protocol, row.metric): row for row in results}
    single, ensemble = rows["single", "accuracy"], rows["ensemble", "accuracy"]
    for value in (single.value, ensemble.value, ensemble.low, ensemble.high, rows["ensemble", "accuracy_top_5"].value):
        assert f"{100 * value:.2f}" in text
    assert f"{100 * (ensemble.value - single.value):+.2f}" in text
    assert "14.29" in text and str(len(LABELS)) in text and f"{benchmark.name}/test" in text
    assert "chance" not in [column.header for column in zero_shot_table(results).columns]


def test_names_in_the_table_are_no_markup(wds):
    benchmark = Benchmark("[bold]x[/nothing]", "test", NAMES, TEMPLATES, Listed(samples_of([0, 1])), "memory")
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(zero_shot_table(ZeroShot(benchmark)(ColourEncoder())))
    assert "[bold]x[/nothing]/test" in console.export_text()


def test_colours_are_told_apart_at_all():
    """The encoder of these tests works: on clean pictures the ensemble names every colour."""
    clean = [np.full((8, 8, 3), rgb, dtype=np.uint8) for rgb in COLOURS.values()]
    assert ZeroShotClassifier(ColourEncoder(), NAMES, TEMPLATES).score(clean, NAMES) == 1
