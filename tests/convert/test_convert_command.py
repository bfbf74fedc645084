"""diptych convert as a user runs it."""

import json
from pathlib import Path

import converted
import pytest
from colours import write_set
from converted import wide_vit

from diptych.convert.targets import TARGETS
from diptych.embed import load

pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")


@pytest.fixture
def model(tmp_path):
    wide_vit().save(tmp_path / "model")
    return tmp_path / "model"


def test_a_conversion_prints_its_check_and_where_the_model_is(command, model, tmp_path):
    outcome = command("convert", model, "--to", "onnx", "--out", "onnx-model")
    assert outcome.status == 0, outcome.err
    assert "image embeddings" in outcome.out and "equal: 6 stages agree within the tolerance of fp32" in outcome.out
    assert outcome.out.endswith("the model: onnx-model (its README.md has the lines that load it)\n")
    assert (tmp_path / "onnx-model" / "README.md").is_file()
    again = command("check", model, "--against", "onnx:onnx-model")
    assert again.status == 0 and "equal: 6 stages" in again.out
    assert command("convert", model, "--to", "onnx", "--out", "onnx-model").status == 1


def test_the_change_in_accuracy_is_printed(command, model, tmp_path):
    write_set(tmp_path / "colours", [0, 1, 2, 3, 4, 5, 6])
    words = ("convert", model, "--to", "onnx", "--precision", "fp16", "--out", "half")
    outcome = command(*words, "--dataset", "colours", "--max-loss", 100)
    assert outcome.status == 0, outcome.err
    assert "accuracy on colours/test (7 images)" in outcome.out and "99.5 % interval" in outcome.out
    unmeasured = command(*words[:-1], "other")
    assert unmeasured.status == 0 and "was not measured: --dataset DIR does that" in unmeasured.out


def test_int8_without_a_set_says_what_that_means(command, model, tmp_path):
    words = ("convert", model, "--to", "onnx", "--precision", "int8", "--out", "small")
    command(*words).is_error("int8 can lose accuracy", "--dataset DIR", "--unmeasured")
    assert not (tmp_path / "small").exists()


def test_a_failed_check_exits_with_1_and_leaves_nothing(command, model, tmp_path, monkeypatch):
    from diptych.convert import write_onnx

    own = write_onnx.write_image_graph

    def other(network, *arguments, **options):
        return own(load(model, "cpu").clip.double().float().requires_grad_(False), *arguments, **options)

    monkeypatch.setattr(write_onnx, "write_image_graph", other)
    assert command("convert", model, "--to", "onnx", "--out", "fine").status == 0

    def broken(network, *arguments, **options):
        network = load(model, "cpu").clip
        network.visual.proj.data[0, 0] += 0.1
        return own(network, *arguments, **options)

    monkeypatch.setattr(write_onnx, "write_image_graph", broken)
    outcome = command("convert", model, "--to", "onnx", "--out", "broken")
    assert outcome.status == 1 and "error: different: the first difference is in image embeddings" in outcome.err
    assert "differ" in outcome.out and not (tmp_path / "broken").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".broken")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--to", "onnxx", "--out", "x"), "did you mean onnx"),
        (("--to", "torch-export", "--precision", "fp16", "--out", "x"), "not in fp16"),
        (("--to", "onnx", "--out", "model"), "nothing in it is replaced"),
    ],
)
def test_wrong_arguments_are_refused(words, message, command, model):
    command("convert", model, *words).is_error(message)


def test_a_missing_model_is_refused_without_torch(command):
    command("convert", "none", "--to", "onnx", "--out", "x").is_error("there is no model folder")
    command("convert", "hf:a/b", "--to", "onnx", "--out", "x").is_error("computed by another library")


def test_the_help_names_every_target(command):
    shown = " ".join(command("convert", "--help").out.split())
    assert all(name in shown for name in TARGETS)


def test_the_default_model_is_held_where_its_tower_exists(command, tmp_path):
    """Its image tower is Diptych's own: graphs hold it, other libraries' layouts do not."""
    assert command("convert", "default", "--to", "onnx", "--out", "default-onnx").status == 0
    config = json.loads((tmp_path / "default-onnx" / "config.json").read_text())
    assert config["diptych"]["preprocessing"]["image_size"] == load("default", "cpu").preprocessing.image_size
    command("convert", "default", "--to", "huggingface", "--out", "x").is_error("keep the model in Diptych's")
    assert converted.TEXT in (tmp_path / "default-onnx" / "README.md").read_text()


def test_the_page_has_the_lines_that_load_each_target():
    page = (Path(__file__).parents[2] / "docs" / "converting.md").read_text(encoding="utf-8")
    assert [name for name, row in TARGETS.items() if row.loading.strip() not in page or row.holds not in page] == []
    assert all(f"| {', '.join(row.precisions)} |" in page and f"--to {name} " in page for name, row in TARGETS.items())
