"""`diptych train --set`, `--init` and `diptych interpolate`, as a user meets them."""

import json
from pathlib import Path

import pytest
from colours import write_set
from training import SHORT

from diptych.embed import load

TUNE = ("--pairs", 64, "--batch-size", 32, "--workers", 0)


def test_settings_reach_the_run_and_wrong_ones_are_one_line(command):
    words = ("train", "playground:50", *SHORT, "--set", "optimizer.lr=2e-3", "--set", "log_steps=4", "--out", "run")
    assert command(*words).status == 0
    config = json.loads(Path("run/config.json").read_text())
    assert config["optimizer"]["learning_rate"] == 2e-3 and config["log_steps"] == 4
    command("train", "playground:50", *SHORT, "--set", "optimizer.rate=1", "--out", "b").is_error("learning_rate")
    command("train", "playground:50", *SHORT, "--set", "seed=x", "--out", "b").is_error("a whole number")
    assert not Path("b").exists()


def test_fine_tune_lock_and_average(command, tmp_path):
    """From a trained model to a tuned one, and to those between."""
    colours = write_set(tmp_path / "colours", [0, 1, 2] * 4, class_names=("red", "green", "blue"))
    assert command("train", "playground:50", *SHORT, "--out", "base").status == 0
    tuned = command("train", "playground:50", "--recipe", "finetune", "--init", "base/model", *TUNE, "--out", "tuned")
    assert tuned.status == 0, tuned.err
    locked = command("train", "playground:50", "--recipe", "lit", "--init", "base/model", *TUNE, "--out", "lit")
    assert locked.status == 0, locked.err
    base, after = (load(f"{name}/model") for name in ("base", "lit"))
    assert after.tokenizer.fingerprint == base.tokenizer.fingerprint
    tower, same = base.clip.visual.state_dict(), after.clip.visual.state_dict()
    assert all(same[name].equal(value) for name, value in tower.items())

    between = command("interpolate", "base/model", "tuned/model", "--share", 0.5, "--out", "between")
    assert between.status == 0 and load("between").clip.config == base.clip.config
    table = command("interpolate", "base/model", "tuned/model", "--shares", "0,1", "--evaluate", colours)
    assert table.status == 0, table.err
    assert [line.split()[0] for line in table.out.splitlines() if line.strip()][-2:] == ["0", "1"]

    refused = command("train", "playground:50", "--recipe", "tiny-vit", "--init", "base/model", *TUNE, "--out", "other")
    refused.is_error("another architecture", "finetune")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--share"),
        (["--share", 0.5, "--shares", "0,1"], "either"),
        (["--share", 0.5], "--out"),
        (["--share", 2, "--out", "x"], "from 0 to 1"),
        (["--shares", "0,1"], "--evaluate"),
        (["--shares", "0,much", "--evaluate", "colours"], "0,0.25"),
    ],
)
def test_interpolate_refuses(command, tmp_path, words, said):
    write_set(tmp_path / "colours", [0, 1], class_names=("red", "green"))
    command("interpolate", "default", "default", *words).is_error(said)
    assert not Path("x").exists()
