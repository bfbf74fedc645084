"""Which number format is chosen, and that everything automatic follows from the one rule (`has_fast_bf16`)."""

import os

import pytest
import torch
from test_muon import newton_schulz
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training import COMPACT, tiny_config

from diptych import load
from diptych.errors import ConfigError
from diptych.evalsets.playground_tasks import playground_tasks
from diptych.evaluate import ZeroShot
from diptych.evaluate.provenance import machine
from diptych.model.device import BF16_VARIABLE, choose_dtype, has_fast_bf16
from diptych.processor import num_cores
from diptych.train import fit
from diptych.train.muon import orthogonalised
from diptych.train.profile import profile_training

CPU = torch.device("cpu")


class Formats(TorchDispatchMode):
    """Records the types of all tensors that operations return, the backward pass's and the optimizer's too."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.seen |= {leaf.dtype for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        return result


@pytest.mark.parametrize(("value", "fast"), [("0", False), ("1", True)])
def test_the_variable_overrides_what_the_processor_says(monkeypatch, value, fast):
    monkeypatch.setenv(BF16_VARIABLE, value)
    assert has_fast_bf16(CPU) is fast and has_fast_bf16(torch.device("meta")) is fast


@pytest.mark.parametrize("value", ["off", "2", "yes"])
def test_another_value_of_the_variable_is_refused(monkeypatch, value):
    monkeypatch.setenv(BF16_VARIABLE, value)
    with pytest.raises(ConfigError, match=f"DIPTYCH_BF16 is '{value}'; set it to 0"):
        has_fast_bf16(CPU)


def test_without_the_variable_the_processor_decides(monkeypatch):
    monkeypatch.delenv(BF16_VARIABLE, raising=False)
    for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, probe, lambda: False, raising=False)
    assert not has_fast_bf16(CPU)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert has_fast_bf16(CPU)


def test_bf16_that_is_slow_here_is_computed_with_a_warning(monkeypatch, caplog):
    """In every place where a precision is named: one rule for a model that is loaded and one that is trained."""
    monkeypatch.setenv(BF16_VARIABLE, "0")
    assert choose_dtype("auto", CPU) == torch.float32 and not caplog.text
    assert load("default", device="cpu", precision="bf16").clip.visual.conv1.weight.dtype == torch.bfloat16
    assert "cpu has no bf16 hardware: bf16 is slower here than fp32" in caplog.text
    caplog.clear()
    monkeypatch.setenv(BF16_VARIABLE, "1")
    assert choose_dtype("bf16", CPU) == choose_dtype("auto", CPU) == torch.bfloat16 and not caplog.text
    for wrong in ("int8", "fp12"):
        with pytest.raises(ConfigError, match="precision"):
            choose_dtype(wrong, CPU)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to cores")
def test_cores_are_those_that_this_process_may_use():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert num_cores() == 1 and machine("cpu").startswith("1 x ")
    finally:
        os.sched_setaffinity(0, before)
    assert num_cores() == len(before)


@pytest.mark.parametrize(("value", "expected"), [("0", False), ("1", True)])
def test_all_that_a_run_computes_follows(monkeypatch, tmp_path, value, expected):
    """Training with Muon, its measurement, the profile, and a model loaded with precision auto."""
    monkeypatch.setenv(BF16_VARIABLE, value)
    task = playground_tasks(size=32, num_samples=8)[0]
    config = tiny_config(tmp_path / "run", 2, **COMPACT)
    with Formats() as formats:
        fit(config, [ZeroShot(task)])
        profile_training(config, 1, rate=1.0)
        load(tmp_path / "run" / "model", precision="auto").encode_texts(["a red star"])
    assert torch.float32 in formats.seen
    assert (torch.bfloat16 in formats.seen) is expected and torch.float16 not in formats.seen


@pytest.mark.parametrize(("value", "closest", "farthest"), [("0", 0.0, 1e-5), ("1", 1e-4, 0.05)])
def test_muon_computes_in_that_format(monkeypatch, value, closest, farthest):
    """Both make the matrix orthogonal as the iteration in float64 does, each up to its own rounding."""
    monkeypatch.setenv(BF16_VARIABLE, value)
    torch.manual_seed(0)
    matrix = torch.randn(64, 200)
    direction = orthogonalised(matrix)
    assert closest <= (direction - newton_schulz(matrix)).abs().max() < farthest
    values = torch.linalg.svdvals(direction)
    assert values.min() > 0.6 and values.max() < 1.3
