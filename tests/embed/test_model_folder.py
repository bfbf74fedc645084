"""The folder that describes itself: what is saved comes back bit for bit, and a bad folder is refused by name."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from embedding import TEXTS, make_compact, make_pictures, make_resnet, make_vit

from diptych.embed import Model, check_can_save, load
from diptych.errors import ConfigError, WeightsError
from diptych.model.weights import write_tensors

FILES = {"config.json", "model.safetensors", "tokenizer.json", "README.md"}


@pytest.fixture(params=[make_vit, make_resnet, make_compact], ids=["vit", "resnet", "compact"])
def model(request):
    return request.param()


@pytest.fixture
def vit():
    return make_vit()


@pytest.fixture(scope="module")
def pictures():
    return make_pictures()


def test_saved_and_reloaded_gives_identical_bits(model, pictures, tmp_path):
    images, texts = model.encode_images(pictures), model.encode_texts(TEXTS)
    model.save(tmp_path / "mine")
    loaded = load(tmp_path / "mine")
    assert torch.equal(loaded.encode_images(pictures), images)
    assert torch.equal(loaded.encode_texts(TEXTS), texts)
    assert loaded.clip.config == model.clip.config and loaded.preprocessing == model.preprocessing
    assert loaded.logit_scale == model.logit_scale and loaded.name == "mine" and not loaded.clip.training
    assert {path.name for path in (tmp_path / "mine").iterdir()} == FILES
    assert f"{model.clip.config.num_parameters():,}" in (tmp_path / "mine" / "README.md").read_text()


def test_a_network_straight_from_training_too(model, pictures, tmp_path):
    """Gradients, another memory format and a view among the weights change nothing."""
    model.clip.train()
    images = torch.randn(2, 3, model.preprocessing.image_size, model.preprocessing.image_size)
    model.clip.encode_image(images).sum().backward()
    model.save(tmp_path / "mine")
    assert torch.equal(load(tmp_path / "mine").encode_images(pictures), model.encode_images(pictures))


@pytest.mark.parametrize("make", [make_vit, make_resnet, make_compact])
def test_loading_wakes_no_compiler(make, tmp_path):
    """torch imports its compiler, which takes seconds, to initialise tensors that have no memory yet."""
    make().save(tmp_path / "mine")
    program = f"import sys, diptych; diptych.load({str(tmp_path / 'mine')!r}); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_half_precision_halves_the_file_and_rounds_nothing_else(model, pictures, tmp_path):
    model.save(tmp_path / "whole")
    model.save(tmp_path / "half", precision="fp16")
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    half = load(tmp_path / "half")
    assert (half.encode_images(pictures) * model.encode_images(pictures)).sum(1).min() > 0.9999
    rounded = {name: tensor.half().float() if tensor.ndim >= 2 else tensor for name, tensor in _weights(model).items()}
    assert all(torch.equal(tensor, rounded[name]) for name, tensor in _weights(half).items())


def _weights(model):
    return model.clip.state_dict()


def test_half_precision_refuses_what_it_cannot_hold(vit, tmp_path):
    with torch.no_grad():
        vit.clip.text_projection[0, 0] = 1e5
    with pytest.raises(WeightsError, match="text_projection holds numbers above 65,504"):
        vit.save(tmp_path / "half", precision="fp16")
    with pytest.raises(ConfigError, match="fp32 or fp16, not in 'int4'"):
        vit.save(tmp_path / "half", precision="int4")
    assert not list(tmp_path.iterdir())


def test_saving_replaces_a_model_and_nothing_else(model, tmp_path):
    model.save(tmp_path / "mine")
    with torch.no_grad():
        model.clip.logit_scale.fill_(1.0)
    model.save(tmp_path / "mine")
    assert load(tmp_path / "mine").logit_scale == pytest.approx(np.e)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(WeightsError, match=r"thesis\.tex"):
        model.save(tmp_path / "mine")
    with pytest.raises(WeightsError, match="is a file"):
        model.save(tmp_path / "mine" / "thesis.tex")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_a_full_disk_leaves_the_old_model(vit, tmp_path):
    vit.save(tmp_path / "mine")
    code = (  # a limit on the size of files behaves like a full disk
        "import resource, signal, sys; from diptych.embed import load; model = load(sys.argv[1]);"
        "model.clip.logit_scale.data.fill_(0); signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)); model.save(sys.argv[1])"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "mine"], capture_output=True, text=True, check=False)
    assert run.returncode and "WeightsError" in run.stderr and "cannot be written" in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert load(tmp_path / "mine").logit_scale == vit.logit_scale


def test_a_save_that_is_killed_leaves_a_model(vit, tmp_path, caplog):
    vit.save(tmp_path / "mine")
    code = (  # killed when the old model has made room and the new one is about to take its place
        "import os, signal, sys; from pathlib import Path; from diptych.embed import load; rename = Path.rename\n"
        "def killed(self, target):\n"
        "    if '@' in self.name: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return rename(self, target)\n"
        "Path.rename = killed; load(sys.argv[1]).save(sys.argv[1])"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "mine"], check=False)
    assert run.returncode == -signal.SIGKILL and not (tmp_path / "mine").exists()
    loaded = load(tmp_path / "mine")
    assert loaded.logit_scale == vit.logit_scale and loaded.name == "mine"
    assert "was killed" in caplog.text
    vit.save(tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]  # what the killed save left is deleted
    assert load(tmp_path / "mine").name == "mine"


def test_a_save_that_is_interrupted_leaves_the_old_model(vit, tmp_path, monkeypatch):
    vit.save(tmp_path / "mine")
    rename = Path.rename

    def interrupted(self, target):
        if "@" in self.name:  # the unfinished folder
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vit.save(tmp_path / "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert load(tmp_path / "mine").logit_scale == vit.logit_scale


def test_a_link_stays_a_link(vit, tmp_path):
    vit.save(tmp_path / "there")
    (tmp_path / "link").symlink_to("there")
    for _ in range(2):
        vit.save(tmp_path / "link")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "there"]
    assert (tmp_path / "link").is_symlink() and load(tmp_path / "link").name == "there"


def test_a_folder_can_be_checked_before_a_run(vit, tmp_path):
    check_can_save(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    vit.save(tmp_path / "mine")
    check_can_save(str(tmp_path / "mine"))
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(WeightsError, match=r"holds other files than a model's \(thesis\.tex\)"):
        check_can_save(tmp_path / "mine")
    with pytest.raises(WeightsError, match="is a file"):
        check_can_save(tmp_path / "mine" / "thesis.tex")
    (tmp_path / ".other.old").mkdir()
    (tmp_path / ".other.old" / "thesis.tex").write_text("years of work")
    for refuse in (check_can_save, vit.save):
        with pytest.raises(WeightsError, match=r"other\.old holds other files"):
            refuse(tmp_path / "other")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(vit, tmp_path, name):
    vit.save(tmp_path / "mine")
    (tmp_path / "mine" / name).unlink()
    with pytest.raises(WeightsError, match=f"mine.* lacks {name}"):
        load(tmp_path / "mine")


def test_a_model_without_a_tokenizer_can_be_saved(vit, pictures, tmp_path):
    Model(vit.clip, None, vit.preprocessing).save(tmp_path / "mine")
    loaded = load(tmp_path / "mine")
    assert torch.equal(loaded.encode_images(pictures), vit.encode_images(pictures))
    with pytest.raises(WeightsError, match=r"tokenizer\.json"):
        loaded.encode_texts(TEXTS)


def test_a_run_s_folder_points_to_its_model(vit, tmp_path):
    vit.save(tmp_path / "run" / "model")
    (tmp_path / "run" / "config.json").write_text('{"data": []}')
    with pytest.raises(WeightsError, match=r"keeps its model in .*model"):
        load(tmp_path / "run")
    assert load(tmp_path / "run" / "model").name == "run"


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ("no json", WeightsError, "is no JSON"),
        ("[" * 100_000, WeightsError, "is no JSON"),
        ("[]", WeightsError, "must hold a JSON object"),
        ("{}", WeightsError, "describes no CLIP"),
        (" " * 2_000_000, WeightsError, "too many"),
        ({"format_version": 2}, WeightsError, "format version 2"),
        ({"format_version": []}, WeightsError, "format version"),
        ({"model": None}, ConfigError, "model must be an object"),
        ({"model": {"colour": 1}}, ConfigError, "unknown fields: colour"),
        ({"preprocessing": 7}, ConfigError, "preprocessing must be an object"),
        ({"preprocessing": {"image_size": 10**9}}, ConfigError, "image_size"),
        ({"preprocessing": {"image_size": 64}}, WeightsError, "64 pixels"),
        ("terabytes", ConfigError, "above the limit"),
        ("another size", WeightsError, "of the wrong shape"),
    ],
)
def test_a_bad_config_is_refused(vit, tmp_path, change, error, reason):
    vit.save(tmp_path / "mine")
    path = tmp_path / "mine" / "config.json"
    values = json.loads(path.read_text())
    if change == "terabytes":
        values["model"]["text"] |= {"width": 65_536, "layers": 1000, "heads": 64}
    elif change == "another size":
        values["model"]["embed_dim"] = 65
    elif isinstance(change, dict):
        values |= change
    else:
        values = None
    path.write_text(change if values is None else json.dumps(values))
    with pytest.raises(error, match=reason):
        load(tmp_path / "mine")


def test_wrong_weights_are_listed(model, tmp_path):
    model.save(tmp_path / "mine")
    weights = {name: tensor for name, tensor in model.clip.state_dict().items() if name != "ln_final.bias"}
    write_tensors(weights | {"more": torch.zeros(1)}, tmp_path / "mine" / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 missing: ln_final\.bias; 1 extra: more"):
        load(tmp_path / "mine")


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(WeightsError, match=r"lacks config\.json"):
        load(tmp_path)
