"""fp16 and int8: smaller files, nearly the same vectors, and an accuracy that is measured or refused."""

import re

import colours
import converted
import numpy as np
import pytest
import torch
from colours import write_set
from converted import listening, read_me, rounded, unit, write_photo

import diptych
from diptych.convert import accuracy_change
from diptych.convert.accuracy_change import measure_change
from diptych.embed.model_names import DEFAULT
from diptych.errors import ConfigError, ConversionError, DataError
from diptych.evalsets.user_sets import open_set
from diptych.evaluate.metrics.comparison import paired_test

pytest.importorskip("open_clip")
pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")


def size(folder) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in (".safetensors", ".onnx", ".bin"))


@pytest.fixture
def dataset(tmp_path):
    """30 images of colors, with labels."""
    write_set(tmp_path / "colours", [0, 1, 2, 3, 4, 5, 6] * 4)
    return tmp_path / "colours"


@pytest.mark.parametrize("target", ["huggingface", "open_clip", "sentence-transformers", "onnx", "openvino"])
def test_fp16_halves_the_files_and_computes_the_rounded_weights(target, tmp_path, monkeypatch):
    """In fp32: the same vectors as a model whose matrices were rounded before."""
    pytest.importorskip({"openvino": "openvino", "sentence-transformers": "sentence_transformers"}.get(target, "torch"))
    monkeypatch.chdir(tmp_path)
    model, photo, names = converted.wide_vit(), write_photo(tmp_path), {}
    diptych.convert(model, target, tmp_path / "full")
    diptych.convert(model, target, tmp_path / "half", precision="fp16")
    assert size(tmp_path / "half") < 0.55 * size(tmp_path / "full")
    with listening() as heard:
        exec(compile(read_me(tmp_path / "half"), "README.md", "exec"), names)  # noqa: S102  (our own page)
    assert heard.said == []
    reference = rounded(model)
    # The graphs round what they join (positions, the class token, the normalization); OpenVINO rounds biases, too.
    tolerance = {"onnx": 2e-4, "openvino": 2e-3}.get(target, 1e-5)
    expected = reference.encode_images([photo]).numpy()
    np.testing.assert_allclose(unit(names["images"]), expected, atol=tolerance, rtol=0)
    np.testing.assert_allclose(
        unit(names["texts"]), reference.encode_texts([converted.TEXT]).numpy(), atol=tolerance, rtol=0
    )
    assert abs(expected - model.encode_images([photo]).numpy()).max() > 1e-5


def test_openais_code_rounds_to_fp16_and_that_is_asked_for(tmp_path):
    pytest.importorskip("clip")
    model = converted.openai_vit()
    with torch.no_grad():
        model.clip.visual.proj.add_(1e-5)
    with pytest.raises(ConfigError, match="give --precision fp16"):
        diptych.convert(model, "openai", tmp_path / "out")
    assert diptych.convert(model, "openai", tmp_path / "out", precision="fp16").check.precision == "fp16"


def test_a_weight_that_fp16_cannot_hold_is_refused(tmp_path):
    model = converted.wide_vit()
    with torch.no_grad():
        model.clip.token_embedding.weight[5, 5] = 1e5
    for target in ("huggingface", "onnx"):
        with pytest.raises(diptych.DiptychError, match="fp16"):
            diptych.convert(model, target, tmp_path / "out", precision="fp16")
    assert list(tmp_path.iterdir()) == []


def test_int8_is_smaller_and_close(tmp_path, dataset):
    """The default model: trained weights."""
    model = diptych.load(DEFAULT, "cpu")
    options = {"dataset": dataset, "max_loss": 100}
    conversion = diptych.convert(model, "onnx", tmp_path / "int8", precision="int8", **options)
    diptych.convert(model, "onnx", tmp_path / "fp32")
    assert size(tmp_path / "int8") < 0.8 * size(tmp_path / "fp32")  # the table of tokens stays in fp32
    assert conversion.check.precision == "int8" and conversion.check.is_equal
    before, after = model, diptych.load(f"onnx:{tmp_path / 'int8'}")
    photo = write_photo(tmp_path)
    cosine = float((before.encode_images([photo]) @ after.encode_images([photo]).T).item())
    assert 0.999 < cosine < 1 - 1e-9


# ---- what changes in accuracy


def test_the_change_is_that_of_both_models_on_the_same_images(tmp_path, dataset):
    """Against scikit-learn's way: predictions of both models, counted by hand."""
    model = converted.wide_vit()
    conversion = diptych.convert(model, "onnx", tmp_path / "out", precision="fp16", dataset=dataset, max_loss=100)
    change = conversion.accuracy
    benchmark = open_set(dataset, "test")
    source = benchmark.source
    samples = [sample for shard in range(len(source.shards)) for sample in source.read(shard)]
    labels, images = [sample.label for sample in samples], [sample.image for sample in samples]
    right = []
    for encoder in (diptych.load(f"onnx:{tmp_path / 'out'}"), model):
        classifier = diptych.ZeroShotClassifier(encoder, benchmark.class_names, benchmark.templates)
        right.append(classifier.predict(images) == np.array(benchmark.class_names)[labels])
    assert change.n == len(labels) == 28 and change.dataset == "colours/test"
    assert (change.converted, change.original) == (right[0].mean(), right[1].mean())
    assert change.paired == paired_test(*right)
    assert change.loss == pytest.approx(100 * (change.original - change.converted))


class Blind(colours.ColourEncoder):
    """Sees one color in three as red."""

    def encode_images(self, pictures):
        vectors = super().encode_images(pictures)
        vectors[::3] = super().encode_texts(["red"])
        return vectors


def test_a_loss_is_counted_image_by_image(dataset):
    change = measure_change(colours.ColourEncoder(), Blind(), open_set(dataset, "test"))
    assert change.converted < change.original and change.loss > 10
    assert (change.paired.only_first, change.paired.only_second) == (0, 4)
    assert change.paired.low <= -4 / 28 <= change.paired.high
    assert change.loss == pytest.approx(100 * (change.paired.only_second - change.paired.only_first) / change.n)
    text = str(change)
    assert re.search(r"accuracy on colours/test \(28 images\): [\d.]+ % before, [\d.]+ % after, -[\d.]+ points", text)


def test_too_large_a_loss_leaves_nothing(tmp_path, dataset, monkeypatch):
    """The converted model is replaced by a worse one in the measurement alone."""
    own = accuracy_change.measure_change

    def worse(original, converted_model, benchmark, num_workers):
        return own(colours.ColourEncoder(), Blind(), benchmark, num_workers)

    monkeypatch.setattr("diptych.convert.convert_model.measure_change", worse)
    model = converted.wide_vit()
    with pytest.raises(ConversionError, match=r"loss of more than 0\.5 points \(--max-loss\)"):
        diptych.convert(model, "onnx", tmp_path / "out", precision="fp16", dataset=dataset)
    assert not (tmp_path / "out").exists() and [path.name for path in tmp_path.iterdir()] == ["colours"]
    conversion = diptych.convert(model, "onnx", tmp_path / "out", precision="fp16", dataset=dataset, max_loss=100)
    assert conversion.accuracy.loss > 10


def test_a_set_that_is_not_there_is_refused_before_the_work(tmp_path):
    with pytest.raises(DataError):
        diptych.convert(converted.wide_vit(), "onnx", tmp_path / "out", dataset=tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
