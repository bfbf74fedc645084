import importlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import diptych
from diptych.evaluate import run_record
from diptych.evaluate.provenance import commit, machine

ROOT = Path(diptych.__file__).resolve().parents[1]
PRINT = "import json; from diptych.evaluate import run_record; print(json.dumps(run_record()))"


def test_the_block_has_four_entries(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/local/bin/diptych", "evaluate", "a model", "--split", "test"])
    record = run_record(fingerprint="abc")
    assert list(record) == ["command", "commit", "machine", "fingerprint"]
    assert record["command"] == "diptych evaluate 'a model' --split test" and record["fingerprint"] == "abc"
    assert run_record("typed")["command"] == "typed"
    json.dumps(record)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_in_a_checkout_the_commit_is_gits():
    commit.cache_clear()
    head = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert commit() in (head.stdout.strip(), f"{head.stdout.strip()}-dirty")


def test_an_installed_copy_tells_its_version_even_inside_another_checkout(tmp_path):
    """The package is copied, as pip does it, into a folder that lies in a repository of somebody else."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    site = tmp_path / "site-packages"
    site.mkdir()
    for file in (ROOT / "diptych").rglob("*.py"):
        copy = site / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", PRINT], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"diptych \d+\.\d+\.\d+\S*", json.loads(done.stdout)["commit"])


def test_benchmarks_report_the_same_commit_and_machine():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        common = importlib.import_module("common")
    finally:
        sys.path.pop(0)
    assert common.commit is commit and common.machine is machine


def test_the_machine_is_a_kind_and_not_a_name():
    text = machine("cpu")
    assert re.fullmatch(r"\d+ x .+, \d+ GiB, cpu", text) and text == machine(torch.device("cpu"))
    assert socket.gethostname() not in text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_is_named():
    assert machine("cuda").endswith(torch.cuda.get_device_name())
