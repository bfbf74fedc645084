"""benchmarks/loss_memory.py at a small size: the whole matrix is never held, and the script measures that."""

import json
import subprocess
import sys
from pathlib import Path

import peers  # noqa: F401
import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "loss_memory.py"
MATRIX_MIB = 3000**2 * 4 / 2**20


def run(*options: str) -> dict:
    words = [sys.executable, str(SCRIPT), "--pairs", "3000", "--embed-dim", "32", *options]
    return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def test_the_similarity_matrix_is_never_held():
    pytest.importorskip("open_clip")
    figures = run("--dense-pairs", "3000", "--repeats", "1", "--json")
    memory = figures["memory"]
    assert memory["dense"]["beyond_mib"] > 2 * MATRIX_MIB
    assert memory["ours"]["beyond_mib"] < MATRIX_MIB
    assert figures["ratio"] > 0 and set(figures["seconds"]) == {"ours", "dense", "peer"}


def test_nor_is_it_by_the_sigmoid_loss():
    assert run("--loss", "sigmoid", "--measure", "ours")["beyond_mib"] < MATRIX_MIB
