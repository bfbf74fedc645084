"""TorchScript archives, as OpenAI published its weights: read without running them; what hostile ones cannot do."""

import pickle
import subprocess
import sys
import types
import zipfile

import pytest
import torch
from model_tools import Exploit, random_clip, random_pairs, same

from diptych.errors import WeightsError
from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.model.inference import infer_config
from diptych.model.layouts import to_diptych
from diptych.model.weights import load_tensors, read_tensors

TEXT = TextConfig(vocab_size=300, width=128, layers=2)
VIT = CLIPConfig(64, ViTConfig(64, 16, width=192, layers=3), TEXT)
RESNET = CLIPConfig(96, ResNetConfig(96, 16, (1, 2, 1, 1)), TEXT)
JIT_IS_OLD = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::torch.jit.TracerWarning"
)


@pytest.fixture(scope="module", params=[VIT, RESNET], ids=["vit", "resnet"])
def model(request):
    return random_clip(request.param)


@JIT_IS_OLD
def test_a_torchscript_archive_is_read_without_running_it(model, tmp_path):
    class Program(torch.nn.Module):
        def __init__(self, clip):
            super().__init__()
            for name, child in clip.named_children():
                self.add_module(name, child)
            for name, parameter in clip.named_parameters(recurse=False):
                self.register_parameter(name, parameter)
            self.register_buffer("input_resolution", torch.tensor(64))
            self.encode = [clip]

        def forward(self, images):
            return self.encode[0].encode_image(images)

    half = CLIP(model.config).eval().half()
    load_tensors(half, model.state_dict(), "model")
    images, _ = random_pairs(model)
    torch.jit.trace(Program(half), images.half(), check_trace=False).save(tmp_path / "archive.pt")
    weights = to_diptych(read_tensors(tmp_path / "archive.pt"))
    assert same(weights, half.state_dict())
    assert infer_config(weights) == model.config


@JIT_IS_OLD
def test_a_module_under_two_names(tmp_path):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = self.second = torch.nn.Linear(2, 2)

        def forward(self, x):
            return self.second(self.first(x))

    torch.jit.script(Twice()).save(tmp_path / "twice.pt")
    weights = read_tensors(tmp_path / "twice.pt")
    assert set(weights) == {"first.weight", "first.bias", "second.weight", "second.bias"}
    assert torch.equal(weights["first.weight"], weights["second.weight"])


@JIT_IS_OLD
def test_tensors_larger_than_what_is_stored_are_refused(tmp_path):
    module = torch.nn.Module()
    module.register_buffer("huge", torch.zeros(1).expand(10_000_000, 1900))
    torch.jit.script(module).save(tmp_path / "huge.pt")
    with pytest.raises(WeightsError, match="huge claims the shape"):
        read_tensors(tmp_path / "huge.pt")


# ---- hostile ones


def write_archive(path, data):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/constants.pkl", b"")
        archive.writestr("archive/data.pkl", data)


class Level:
    """A module as the archive's pickle names it."""


@pytest.fixture
def level(monkeypatch):
    monkeypatch.setattr(Level, "__module__", "__torch__")
    module = types.ModuleType("__torch__")
    module.Level = Level
    monkeypatch.setitem(sys.modules, "__torch__", module)
    return Level


def test_modules_that_share_their_submodules_for_ever(level, tmp_path):
    """22 levels that each hold the next one twice: four million names out of some hundred bytes."""
    top = level()
    for _ in range(22):
        top, below = level(), top
        top.a = top.b = below
    write_archive(tmp_path / "shared.pt", pickle.dumps(top))
    assert (tmp_path / "shared.pt").stat().st_size < 1_000
    with pytest.raises(WeightsError, match="more names of modules"):
        read_tensors(tmp_path / "shared.pt")


def test_a_module_that_holds_itself(level, tmp_path):
    top = level()
    top.itself = top
    write_archive(tmp_path / "circle.pt", pickle.dumps(top))
    with pytest.raises(WeightsError, match="or longer ones"):
        read_tensors(tmp_path / "circle.pt")


def test_long_names_are_not_multiplied(level, tmp_path):
    top = level()
    setattr(top, "a" * 10_000, level())
    write_archive(tmp_path / "long.pt", pickle.dumps(top))
    with pytest.raises(WeightsError, match="or longer ones"):
        read_tensors(tmp_path / "long.pt")


def test_a_torchscript_archive_cannot_run_anything(tmp_path):
    path = tmp_path / "archive.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/constants.pkl", b"")
        archive.writestr("archive/data.pkl", pickle.dumps(Exploit(tmp_path / "ran")))
    with pytest.raises(WeightsError, match=r"system"):
        read_tensors(path)
    assert not (tmp_path / "ran").exists()


@JIT_IS_OLD
@pytest.mark.parametrize("moved", ["data", "constants.pkl data"])
def test_nothing_is_read_among_the_programs(tmp_path, moved):
    """They may be compressed, so that a small file could hold any number of tensors there."""
    torch.jit.script(torch.nn.Linear(1000, 100)).save(tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(tmp_path / "bad.pt", "w") as bad:
        for name in good.namelist():
            place = "good/code/" if name.removeprefix("good/").startswith(tuple(moved.split())) else "good/"
            method = zipfile.ZIP_DEFLATED if place == "good/code/" else zipfile.ZIP_STORED
            bad.writestr(place + name.removeprefix("good/"), good.read(name), method)
    assert set(read_tensors(tmp_path / "good.pt")) == {"weight", "bias"}
    with pytest.raises(WeightsError, match=r"bad\.pt"):
        read_tensors(tmp_path / "bad.pt")


def test_a_pickle_that_asks_for_gigabytes_is_one_error(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("archive/constants.pkl", b"")
        archive.writestr("archive/data.pkl", b"\x80\x02Nr\xff\xff\xff\x3f.")  # remember None as number 2**30 - 1
    program = (
        "import resource, sys\n"
        "from diptych.errors import WeightsError; from diptych.model.weights import read_tensors\n"
        "resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
        "try: read_tensors(sys.argv[1])\n"
        "except WeightsError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a.pt"], capture_output=True, text=True, check=True
    )
    assert "a.pt cannot be read as weights: its data.pkl asks for more memory than is available" in done.stdout
