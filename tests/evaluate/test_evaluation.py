"""`diptych.evaluate`: a package that is called, and the suite's numbers on any sets."""

import copy
import importlib
import inspect
import pickle
import sys
from pathlib import Path

import pytest
from colours import NAMES, ColourEncoder, picture, write_set

import diptych
import diptych.evaluate.suite
from diptych.errors import ConfigError, DataError, InputError
from diptych.evaluate import evaluate_benchmarks
from diptych.evaluate.evaluation import evaluate
from diptych.records import read_results


def write_class_folders(folder: Path, names=NAMES[:3], per_class: int = 6) -> Path:
    """A set with a folder per class, splits train and test."""
    for split in ("train", "test"):
        for place, name in enumerate(names):
            (folder / split / name).mkdir(parents=True)
            for number in range(per_class):
                picture(name, seed=100 * place + number).save(folder / split / name / f"{number}.png")
    return folder


# ------------------------------------------------------------------ the package as a function


def test_the_package_stays_a_module_and_is_called():
    assert inspect.ismodule(diptych.evaluate) and callable(diptych.evaluate)
    assert diptych.evaluate is sys.modules["diptych.evaluate"] is importlib.import_module("diptych.evaluate")
    assert diptych.evaluate.suite.run_suite and diptych.evaluate.evaluate is evaluate
    assert inspect.signature(diptych.evaluate) == inspect.signature(evaluate)
    assert "diptych.evaluate(model, sets" in diptych.evaluate.__doc__
    with pytest.raises(TypeError, match="sets"):
        diptych.evaluate(ColourEncoder())


def test_the_package_is_pickled_and_copied_by_its_name():
    assert pickle.loads(pickle.dumps(diptych.evaluate)) is diptych.evaluate  # noqa: S301  (its own bytes)
    assert copy.deepcopy({"call": diptych.evaluate})["call"] is diptych.evaluate


# ------------------------------------------------------------------ numbers


def test_zero_shot_is_the_same_as_the_evaluators(tmp_path, monkeypatch):
    folder = write_set(tmp_path / "tints", [0, 1, 2, 3, 4, 5, 6] * 5)
    results = diptych.evaluate(ColourEncoder(), [folder], tasks=["zero_shot"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expected = {(row.protocol, row.metric): row.value for row in evaluate_benchmarks(ColourEncoder(), [folder])}
    found = {(row.protocol, row.metric): row.value for row in results}
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert {row.dataset for row in results} == {"tints"} and {row.n for row in results} == {35}


def test_numbers_are_those_of_the_command(tmp_path, command):
    write_class_folders(tmp_path / "sets" / "tints")
    (tmp_path / "tinted.py").write_text("from colours import ColourEncoder\n")
    done = command(
        *("suite", "python:tinted:ColourEncoder", "--data-root", "sets", "--workers", 0, "--out", "out"),
        *("--task", "zero_shot", "--task", "linear_probe"),
    )
    assert done.status == 0, done.err
    tasks = ["zero_shot", "linear_probe"]
    results = diptych.evaluate("python:tinted:ColourEncoder", "sets/tints", tasks)
    by_name = diptych.evaluate("python:tinted:ColourEncoder", ["tints"], tasks, data_root="sets")
    key = lambda row: (row.task, row.dataset, row.metric, row.protocol)  # noqa: E731
    written = {key(row): (row.value, row.low, row.high, row.n) for row in read_results(tmp_path / "out/results.jsonl")}
    for rows in (results, by_name):
        assert {key(row): (row.value, row.low, row.high, row.n) for row in rows} == written
    assert {row.task for row in results} == {"zero_shot", "linear_probe"}
    sys.modules.pop("tinted", None)


def test_nothing_is_written_unless_it_is_asked_for(tmp_path, monkeypatch):
    folder = write_class_folders(tmp_path / "sets" / "tints")
    monkeypatch.chdir(tmp_path)
    diptych.evaluate(ColourEncoder(), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["sets"]


class Fingerprinted(ColourEncoder):
    fingerprint = image_fingerprint = "colours"


def test_with_out_finished_measurements_are_kept(tmp_path):
    folder = write_class_folders(tmp_path / "tints")
    first = diptych.evaluate(Fingerprinted(), [folder], out=tmp_path / "out", predictions=tmp_path / "predictions")
    assert read_results(tmp_path / "out" / "results.jsonl") == first
    assert list((tmp_path / "predictions").rglob("*.parquet"))
    again = Fingerprinted()
    assert diptych.evaluate(again, [folder], out=tmp_path / "out", predictions=tmp_path / "predictions") == first
    assert again.pictures_seen == again.texts_seen == 0


def test_a_folder_called_like_a_set_of_the_paper_is_measured_as_that_set(tmp_path):
    cifar = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    for place, name in enumerate(cifar):
        (tmp_path / "cifar10" / "test" / name).mkdir(parents=True)
        picture(NAMES[place % 7], seed=place).save(tmp_path / "cifar10" / "test" / name / "0.png")
    results = diptych.evaluate(ColourEncoder(), [f"{tmp_path}/cifar10/"])
    assert {row.dataset for row in results} == {"CIFAR10"}
    assert results == diptych.evaluate(ColourEncoder(), "CIFAR10", data_root=tmp_path)


# ------------------------------------------------------------------ errors


def test_what_cannot_be_measured_is_an_error_before_the_work(tmp_path):
    folder, encoder = write_class_folders(tmp_path / "tints"), ColourEncoder()
    twin = write_class_folders(tmp_path / "elsewhere" / "tints")
    benchmark = diptych.open_benchmark(folder)
    for error, words, sets, options in (
        (InputError, "at least one evaluation set", [], {}),
        (ConfigError, "at least one task", folder, {"tasks": []}),
        (ConfigError, "no task 'zero'", folder, {"tasks": "zero"}),
        (ConfigError, "retrieval applies to none of these sets: tints", folder, {"tasks": ["zero_shot", "retrieval"]}),
        (DataError, "no folder nowhere", "nowhere", {}),
        (DataError, "no folder ''", "", {}),
        (DataError, "CIFAR-10 is not in", "CIFAR10", {"data_root": tmp_path}),
        (InputError, "no card for 'tint'.*lie, too: ", "tint", {"data_root": tmp_path}),
        (InputError, "two evaluation sets are called tints", [folder, twin], {}),
        (InputError, "give the folder .*tints', not a Benchmark", [benchmark], {}),
        (InputError, "not by int", [5], {}),
    ):
        with pytest.raises(error, match=words):
            diptych.evaluate(encoder, sets, **options)
    with pytest.raises(InputError, match="encode_images"):
        diptych.evaluate(object(), folder)
    assert encoder.pictures_seen == encoder.texts_seen == 0


def test_a_measurement_that_fails_is_an_error_and_the_others_are_kept(tmp_path):
    good, bad = write_class_folders(tmp_path / "tints"), tmp_path / "broken"
    for name in NAMES[:2]:
        (bad / "test" / name).mkdir(parents=True)
        (bad / "test" / name / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="zero_shot on broken could not be measured"):
        diptych.evaluate(ColourEncoder(), [bad, good], out=tmp_path / "out")
    assert {row.dataset for row in read_results(tmp_path / "out" / "results.jsonl")} == {"tints"}


def test_an_encoder_without_texts_is_measured_by_probes_alone(tmp_path):
    folder = write_class_folders(tmp_path / "tints")

    class Blind:
        name = "blind"
        encode_images = ColourEncoder.encode_images

        def __init__(self):
            self.pictures_seen = 0

    with pytest.raises(InputError, match="encodes no texts"):
        diptych.evaluate(Blind(), folder)
    assert {row.task for row in diptych.evaluate(Blind(), folder, ["linear_probe"])} == {"linear_probe"}
