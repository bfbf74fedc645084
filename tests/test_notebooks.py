"""The notebooks of docs/: their cells run in order in a new process, and stand in the repository without outputs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs").glob("*.ipynb"))
OF_NOTEBOOK = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def code_cells(path: Path) -> list[dict]:
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def run_cells(cells: list[dict], folder: Path) -> subprocess.CompletedProcess:
    """Run the cells as one program; a warning of Diptych's ends it."""
    program = "\n\n".join(f"# cell {number}\n" + "".join(cell["source"]) for number, cell in enumerate(cells))
    (folder / "notebook.py").write_text(program, encoding="utf-8")
    words = [sys.executable, "notebook.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def test_there_is_a_notebook():
    assert [path.name for path in NOTEBOOKS] == ["scikit_learn.ipynb"]


@OF_NOTEBOOK
def test_every_cell_runs(path, tmp_path):
    done = run_cells(code_cells(path), tmp_path)
    assert done.returncode == 0, done.stderr
    accuracies = [float(number) for number in re.findall(r"[a-z]: (\d\.\d+)", done.stdout)]
    assert len(accuracies) == 5, done.stdout
    first, chance, texts, regression, probe = accuracies
    assert chance < first < texts <= 1 and min(regression, probe) > 0.9, done.stdout
    assert not done.stderr, "a reader would see warnings"


@OF_NOTEBOOK
def test_the_repository_holds_no_outputs(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    cells = code_cells(path)
    assert cells and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)
    names = [cell["id"] for cell in content["cells"]]
    assert len(set(names)) == len(names)
    for cell in cells:  # plain Python: no magic of a kernel
        compile("".join(cell["source"]), path.name, "exec")


def test_a_broken_cell_is_noticed(tmp_path):
    done = run_cells([{"source": ["x = 1\n"]}, {"source": ["assert x == 2"]}], tmp_path)
    assert done.returncode != 0 and "AssertionError" in done.stderr
