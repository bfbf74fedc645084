"""Compiled blocks give the same gradients, for any captions; without a compiler training goes on."""

import copy
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from half_precision import CONFIGS, gradients, whole
from model_tools import distance, random_clip, same

from diptych.errors import ConfigError
from diptych.model.compiling import compile_towers, compiler_failure
from diptych.train.precision import WorkingWeights

TESTS = Path(__file__).parents[1]

WITHOUT_COMPILER = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import torch
from model_tools import random_clip, random_pairs
from half_precision import CONFIGS
from diptych.errors import ConfigError
from diptych.model.compiling import compile_towers
clip = random_clip(CONFIGS["vit"])
try:
    compile_towers(clip, "on")
except ConfigError as error:
    print(error)
print(clip.encode_image(random_pairs(clip)[0]).shape)
"""


@pytest.fixture
def model():
    return random_clip(CONFIGS["vit"]).train()


def test_modes_that_compile_nothing(model):
    assert not compile_towers(model, "off") and not compile_towers(model, "auto")
    assert all(module._compiled_call_impl is None for module in model.modules())
    with pytest.raises(ConfigError, match="compile is 'yes'; it must be one of off, auto, on"):
        compile_towers(model, "yes")


def test_a_machine_without_a_compiler(tmp_path):
    environment = {**os.environ, "CXX": "/none/g++", "PATH": "/none", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    process = subprocess.run([sys.executable, "-c", WITHOUT_COMPILER], env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    error, result = process.stdout.strip().splitlines()
    assert error.startswith("torch.compile does not work here: ")
    assert error.endswith("Install a C++ compiler (g++ or clang++), or set compile to off")
    assert result == "torch.Size([2, 64])"


def test_without_a_compiler_auto_says_so_once_and_runs(model, monkeypatch, caplog):
    monkeypatch.setattr("diptych.model.compiling.compiler_failure", lambda device: "no triton")
    monkeypatch.setattr("diptych.model.compiling.pays_on", lambda device: True)
    with caplog.at_level(logging.INFO, "diptych"):
        assert not compile_towers(model, "auto")
    assert [record.message for record in caplog.records] == [
        "running without torch.compile: no triton; with a C++ compiler (g++ or clang++) it would be faster"
    ]


def test_compiled_gradients(model):
    if failure := compiler_failure(torch.device("cpu")):  # not in a mark: every process would compile when it collects
        pytest.skip(f"no compiler: {failure}")
    compiled, exact = copy.deepcopy(model), whole(gradients(copy.deepcopy(model), None))
    assert compile_towers(compiled, "on")
    plain = whole(gradients(model, WorkingWeights(model, torch.bfloat16)))
    ours = whole(gradients(compiled, WorkingWeights(compiled, torch.bfloat16)))
    assert distance(ours, plain) > 0 and distance(ours, exact) < 1.3 * distance(plain, exact)
    assert same(compiled.state_dict(), model.state_dict())
    for lengths in ([4, 9], [3, 5, 7, 11, 2]):
        tokens = torch.full((len(lengths), 77), 3)
        tokens[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = 499
        with torch.no_grad():
            assert distance(compiled.encode_text(tokens), model.encode_text(tokens)) < 1e-5
    compiled.checkpoint_activations(True)
    again = whole(gradients(compiled, WorkingWeights(compiled, torch.bfloat16)))
    assert distance(again, ours) < 0.02
