"""The rules of the house, kept by a test."""

import ast
from pathlib import Path

import pytest

import diptych

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for folder in ("diptych", "tests", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py"))
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, FUNCTIONS)]


def test_there_is_something_to_check():
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_above_400_lines_and_no_function_above_60(path):
    assert len(path.read_text().splitlines()) <= 400
    long = [f"{node.name}: {node.end_lineno - node.lineno + 1} lines" for node in functions(path) if length(node) > 60]
    assert not long


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize(
    "path", [path for path in FILES if "diptych" in path.parts[-3:]], ids=lambda path: str(path.relative_to(ROOT))
)
def test_public_functions_and_modules_say_what_they_do(path):
    tree = ast.parse(path.read_text())
    public = [n for n in tree.body if isinstance(n, FUNCTIONS | ast.ClassDef) and not n.name.startswith("_")]
    assert ast.get_docstring(tree)
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_the_public_names_are_these():
    assert diptych.__all__ == [
        "Batch",
        "Benchmark",
        "DiptychError",
        "Encoder",
        "Model",
        "Predictions",
        "Result",
        "Sample",
        "TrainConfig",
        "ZeroShotClassifier",
        "errors",
        "fit",
        "load",
        "open_benchmark",
        "open_source",
        "recipes",
    ]
    assert all(hasattr(diptych, name) for name in diptych.__all__)


def test_nothing_untrusted_is_unpickled_and_no_peer_is_imported():
    for path in FILES:
        if path.relative_to(ROOT).parts[0] != "diptych":
            continue
        imported = {alias.name.split(".")[0] for node in ast.walk(ast.parse(path.read_text())) for alias in imports(node)}
        assert not imported & {"torchvision", "timm", "open_clip", "transformers", "clip", "shelve", "dill"}, path


def imports(node: ast.AST) -> list[ast.alias]:
    if isinstance(node, ast.Import):
        return node.names
    return [ast.alias(node.module)] if isinstance(node, ast.ImportFrom) and node.module else []
