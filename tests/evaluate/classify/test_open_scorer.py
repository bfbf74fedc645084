"""The model of a classification: compiled or on torch, the same rows; found again, and not when anything changed."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from pictures import noise

from diptych.embed.resolver import load
from diptych.evaluate.classify import open_scorer as module
from diptych.evaluate.classify.classify_images import classify_batches
from diptych.evaluate.classify.open_scorer import open_scorer
from diptych.evaluate.classify.question import Question
from diptych.evaluate.classify.scorer import Scorer, best_classes

QUESTION = Question(("cat", "dog", "a red car"), top_k=3)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture()
def photographs(tmp_path: Path) -> list[str]:
    paths = []
    for number in range(3):
        noise(50 + number, 40, seed=number).save(path := tmp_path / f"{number}.png")
        paths.append(str(path))
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    return [*paths, str(tmp_path / "broken.jpg")]


def rows(scorer: Scorer, paths: list[str], question: Question = QUESTION) -> list[dict[str, float]]:
    return [dict(row.classes) for batch in classify_batches(scorer, paths, question) for row in batch]


def refuse_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: object, **options: object) -> None:
        raise AssertionError("the model was loaded again")

    monkeypatch.setattr("diptych.embed.resolver.load", load)


def test_the_second_run_needs_no_torch_and_gives_the_same_rows(photographs, monkeypatch) -> None:
    first = open_scorer("default", QUESTION, 4)
    expected = rows(open_scorer("default", QUESTION, 4, backend="torch"), photographs)
    refuse_torch(monkeypatch)
    second = open_scorer("default", QUESTION, 4)
    assert second.identity == first.identity
    for row, firsts, torchs in zip(rows(second, photographs), rows(first, photographs), expected, strict=True):
        assert row == pytest.approx(firsts, abs=1e-6)  # opened for few images, other kernels round the last bit
        assert row == pytest.approx(torchs, abs=1e-5)
    assert rows(second, photographs)[3] == {}
    many = open_scorer("default", QUESTION, module._ONCE + 1)  # opened for many images
    assert rows(many, photographs)[0] == pytest.approx(expected[0], abs=1e-5)


def test_other_labels_need_no_torch_and_are_encoded_once(photographs, monkeypatch) -> None:
    open_scorer("default", QUESTION, 1)
    other = Question(("a tree", "a house", *(f"the number {number}" for number in range(3000))))
    expected = rows(open_scorer("default", other, 1, backend="torch"), photographs, other)
    refuse_torch(monkeypatch)
    assert rows(open_scorer("default", other, 1), photographs, other)[0] == pytest.approx(expected[0], abs=1e-5)
    monkeypatch.setattr("diptych.data.library_tokenizer.read_tokenizer", None)  # the vectors are cached
    assert rows(open_scorer("default", other, 1), photographs, other)[0] == pytest.approx(expected[0], abs=1e-5)


def test_a_damaged_compiled_model_is_made_again(tmp_path, photographs, caplog) -> None:
    expected = rows(open_scorer("default", QUESTION, 1), photographs)
    (record,) = (tmp_path / "cache").glob("diptych/compiled/*/record.json")
    record.write_text("{}")
    assert rows(open_scorer("default", QUESTION, 1), photographs) == expected
    assert "is broken" in caplog.text
    caplog.clear()
    assert rows(open_scorer("default", QUESTION, 1), photographs) == expected
    assert not caplog.text


def test_a_model_saved_anew_is_not_taken_from_the_cache(tmp_path, photographs) -> None:
    model = load("default")
    model.save(tmp_path / "model")
    before = open_scorer(str(tmp_path / "model"), QUESTION, 1)
    model.clip.visual.conv1.weight.data *= -1
    model.save(tmp_path / "model")
    after = open_scorer(str(tmp_path / "model"), QUESTION, 1)
    assert after.identity != before.identity
    assert rows(after, photographs)[0] != pytest.approx(rows(before, photographs)[0], abs=1e-3)


def test_a_label_file_is_resumed_by_the_compiled_model(tmp_path, photographs, command) -> None:
    words = ["classify", "--labels", "cat,dog", "--out", str(tmp_path / "labels.csv")]
    assert command(*words, photographs[0]).status == 0
    assert command(*words, *photographs[:3]).status == 0
    with (tmp_path / "labels.csv").open() as file:
        assert [Path(row["path"]).name for row in csv.DictReader(file)] == ["0.png", "1.png", "2.png"]


def test_a_back_end_that_is_not_there_is_named(photographs, command, monkeypatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnxruntime" else found(name, *rest)
    )
    words = ("classify", photographs[0], "--labels", "cat,dog")
    command(*words, "--backend", "onnx").is_error("pip install 'diptych[onnx]'")
    assert command(*words).status == 0  # torch, without being asked
    command(*words, "--backend", "abacus").is_error("backend must be")
    command(*words, "--backend", "openvino", "--precision", "int8").is_error("int8 is computed by onnx")


def test_a_precision_alone_takes_a_back_end_that_computes_it(photographs, command) -> None:
    words = ("classify", photographs[0], "--labels", "cat,dog", "--precision")
    for precision in ("bf16", "auto", "int8"):
        assert command(*words, precision).status == 0
    command(*words, "fp32", "--backend", "onnx", "--device", "meta").is_error("computes on the CPU")


def test_auto_is_a_back_end_of_classify(photographs, command) -> None:
    words = ("classify", photographs[0], "--labels", "cat,dog")
    expected = command(*words, "--backend", "torch")
    for _ in range(2):
        chosen = command(*words, "--backend", "auto")
        assert chosen.status == 0 and chosen.out == expected.out


def test_large_models_are_compiled_only_when_asked(monkeypatch) -> None:
    monkeypatch.setattr(module, "_LARGEST_COMPILED", 1000)
    seen = []
    monkeypatch.setattr("diptych.embed.resolver.load", lambda *a, backend: seen.append(backend) or load("default"))
    open_scorer("default", QUESTION, 1)
    open_scorer("default", QUESTION, 1, backend="onnx")
    assert seen == ["torch", "onnx"]


def test_best_classes_by_hand() -> None:
    scores = np.array([[0.1, 0.7, 0.7], [3.0, -1.0, 2.0]], np.float32)
    assert best_classes(scores, 2).tolist() == [[1, 2], [0, 2]]
    assert scores[0, 1] == np.float32(0.7)


def test_probabilities_by_hand() -> None:
    scorer = Scorer(lambda paths, report: np.zeros(0), np.eye(2, dtype=np.float32), 100.0, "")
    cosines = scorer.cosines(np.array([[0.6, 0.8], [1.0, 0.0]], np.float32))
    np.testing.assert_allclose(cosines, [[0.6, 0.8], [1, 0]])
    np.testing.assert_allclose(
        scorer.probabilities(cosines), [[1 / (1 + np.exp(20)), 1], [1, 0]], rtol=1e-5, atol=1e-30
    )
