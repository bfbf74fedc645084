"""Where the time goes: the parts of a real step, alone and with two processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training import COMPACT, tiny_config

from diptych.errors import ConfigError
from diptych.train.optimizer import Optimizer
from diptych.train.profile import PARTS, machine_rate, profile_training

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("changes", [{}, {**COMPACT, "micro_batch_size": 8}])
def test_parts_of_a_step(tmp_path, changes):
    config = tiny_config(tmp_path / "run", **changes)
    found = profile_training(config, repeats=3)
    parts = dict(found.parts)
    assert tuple(parts) == PARTS
    assert all(parts[name] > 0 for name in PARTS if name != "communication")
    assert parts["communication"] < 0.1 * parts["image tower"]
    assert found.num_pairs == changes.get("micro_batch_size", 16)
    assert 3 <= found.caption_tokens <= 32 and 0 < found.share_of_rate < 1
    assert found.share_of_rate == pytest.approx(
        found.num_pairs * found.flops_per_pair / sum(parts.values()) / found.machine_rate
    )
    assert not (tmp_path / "run").exists()


def test_time_goes_to_the_part_that_takes_it(tmp_path, monkeypatch):
    step = Optimizer.step

    def slow(self, *arguments):
        time.sleep(0.3)
        return step(self, *arguments)

    monkeypatch.setattr(Optimizer, "step", slow)
    parts = dict(profile_training(tiny_config(tmp_path / "run"), repeats=1).parts)
    assert parts["optimizer"] > 0.3 > parts["loss"]


def test_no_repeats_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="repeats is 0"):
        profile_training(tiny_config(tmp_path), repeats=0)


def test_the_machine_multiplies():
    assert 1e8 < machine_rate(torch.float32, torch.device("cpu"), seconds=0.1) < 1e15


def test_two_processes_communicate(tmp_path):
    code = """
import os, pathlib, sys, torch
from training import tiny_config
from diptych.train.profile import profile_training
parts = dict(profile_training(tiny_config(pathlib.Path(sys.argv[1])), repeats=1).parts)
os.write(1, f"{parts['communication']}\\n".encode())  # one write: two processes share the pipe
os._exit(0)
"""
    script = tmp_path / "run.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, tmp_path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert all(float(line) > 0 for line in done.stdout.split()) and len(done.stdout.split()) == 2
