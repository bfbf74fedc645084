"""`--resume` asks what the files hold, not how their path is spelled, and for a run to be there."""

import dataclasses
import json
import os
import shutil
import signal
import tarfile
from pathlib import Path

import pytest
import torch
from resuming import again, begun, replace_keeping_time, write_folder, write_table
from training import generated_pairs, tiny_config

from diptych.data.loader import Loader
from diptych.data.shards import write_shards
from diptych.errors import ConfigError
from diptych.train import fit, read_log
from diptych.train.checkpoint import Checkpoints
from diptych.train.config import InitConfig


def write_tars(folder: Path) -> Path:
    write_shards(generated_pairs(60), folder, shard_size=30)
    return folder


@pytest.mark.parametrize("write", [write_folder, write_table, write_tars])
def test_data_that_is_spelled_otherwise_or_moved_is_the_same(tmp_path, monkeypatch, write):
    data = write(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    relative = os.path.relpath(data)
    config = begun(tmp_path / "run", relative)
    other = f"./{relative}" if data.is_file() else f"{relative}/"
    for spelled in (other, data):
        (tmp_path / "run/checkpoints/step-000000002.pt").unlink(missing_ok=True)
        assert again(config, spelled) == 2
    moved = tmp_path / "elsewhere" / "pairs"
    moved.parent.mkdir()
    (tmp_path / "data").rename(moved)
    (tmp_path / "run/checkpoints/step-000000002.pt").unlink()
    assert again(config, moved / data.name if data.is_file() else moved) == 2
    copy = tmp_path / "copy"
    shutil.copytree(moved, copy)  # new inodes and times
    assert again(config, copy / data.name if data.is_file() else copy) == 2


def test_a_caption_that_was_changed_is_noticed(tmp_path):
    config = begun(tmp_path / "run", write_folder(tmp_path / "data"))
    path = tmp_path / "data/007.txt"
    text = path.read_bytes()
    replace_keeping_time(path, b"X" + text[1:])
    with pytest.raises(ConfigError, match="the pairs are not those that the run started with: the content of their"):
        again(config, tmp_path / "data")
    path.write_bytes(text)
    assert again(config, tmp_path / "data") == 2


def test_a_picture_of_a_table_and_a_member_of_a_shard_that_were_changed_are_noticed(tmp_path):
    table = write_table(tmp_path / "table")
    config = begun(tmp_path / "run", table)
    picture = tmp_path / "table/pictures/003.png"
    replace_keeping_time(picture, picture.read_bytes()[::-1])
    with pytest.raises(ConfigError, match="content of their files"):
        again(config, table)
    shards = write_tars(tmp_path / "shards")
    config = begun(tmp_path / "run2", shards)
    shard = sorted(shards.glob("*.tar"))[1]
    with tarfile.open(shard) as archive:
        text = next(member for member in archive if member.name.endswith(".txt"))
    content = bytearray(shard.read_bytes())
    content[text.offset_data] ^= 1
    replace_keeping_time(shard, bytes(content))
    with pytest.raises(ConfigError, match="content of their files"):
        again(config, shards)


def test_another_number_of_generated_pairs_is_another_source(tmp_path):
    config = begun(tmp_path / "run", "playground:200")
    with pytest.raises(ConfigError, match="pairs are not those"):
        again(config, "playground:300")
    assert again(config, "playground:2_00") == 2


def test_a_run_of_an_older_version_knows_no_content(tmp_path):
    """Its checkpoint says names and sizes alone; the spelled paths of all else are compared as they were."""
    data = write_folder(tmp_path / "data")
    config = begun(tmp_path / "run", data)
    path = tmp_path / "run/checkpoints/step-000000001.pt"
    saved = torch.load(path, weights_only=True)
    del saved["loader"]["must_match"]["content"], saved["inputs"]
    saved.pop("digest", None)
    torch.save(saved, path)
    assert again(config, data) == 2


def test_tokenizer_and_first_weights_are_compared_by_what_they_hold(tmp_path):
    first = fit(tiny_config(tmp_path / "first", 2))
    model = first.folder / "model"
    config = begun(
        tmp_path / "run", "playground:200", tokenizer=str(model / "tokenizer.json"), init=InitConfig(weights=str(model))
    )
    moved = tmp_path / "moved"
    shutil.copytree(model, moved)
    elsewhere = dataclasses.replace(
        config, tokenizer=str(moved / "tokenizer.json"), init=InitConfig(weights=str(moved) + "/")
    )
    assert fit(elsewhere, resume=True).step == 2
    weights = moved / "model.safetensors"
    content = weights.read_bytes()
    replace_keeping_time(weights, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ConfigError, match=r"init\.weights is not what the run started with"):
        fit(elsewhere, resume=True)
    shutil.rmtree(moved)  # what the run needs of them is in its own folder
    assert fit(elsewhere, resume=True).step == 2
    moved.mkdir()
    other = json.loads((model / "tokenizer.json").read_text())
    merges = other["model"]["merges"]
    other["model"]["merges"] = [merges[1], merges[0], *merges[2:]]
    (moved / "tokenizer.json").write_text(json.dumps(other))
    only_tokenizer = dataclasses.replace(elsewhere, init=config.init)
    with pytest.raises(ConfigError, match=r"moved/tokenizer\.json is not the tokenizer that the run started with"):
        fit(only_tokenizer, resume=True)


def test_resume_asks_for_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun(Path("runs/tiny"), "playground:200")
    for name, says in (
        ("runs/tinny", r"cannot resume runs/tinny: there is no such folder; runs near it: \S*runs/tiny; name one .*"),
        ("runs", r"there is no run in it; runs near it: runs/tiny;"),
        ("nowhere/at/all", r"there is no such folder; leave out --resume to start a run there"),
    ):
        with pytest.raises(ConfigError, match=says):
            fit(tiny_config(name, 2), resume=True)
    assert not Path("runs/tinny").exists() and not Path("nowhere").exists()
    assert fit(tiny_config("runs/new", 2), resume="if begun").step == 2


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(tmp_path):
    config = tiny_config(tmp_path / "run", 2)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(json.dumps(config.to_dict()))
    assert fit(config, resume=True).step == 2
    assert Checkpoints(tmp_path / "run/checkpoints", config.checkpoint).newest()["step"] == 2


def test_a_signal_while_data_is_awaited_loses_no_batch(tmp_path, monkeypatch):
    """The loader stands behind a batch as soon as it has handed it over: the run learns from it before it ends."""
    whole = tiny_config(tmp_path / "whole", 6)
    fit(whole)
    config, real, calls = tiny_config(tmp_path / "run", 6), Loader._next_batch, []

    def signalled(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *arguments)

    monkeypatch.setattr(Loader, "_next_batch", signalled)
    assert fit(config).step == 3
    saved = Checkpoints(tmp_path / "run/checkpoints", config.checkpoint).newest()
    assert saved["loader"]["num_seen"] == 3 * 16
    assert fit(config, resume=True).finished
    losses = [[row["loss"] for row in read_log(one.out)] for one in (whole, config)]
    assert losses[0] == losses[1] and len(losses[0]) == 6


def test_a_row_of_the_log_without_its_loss_is_left_out(tmp_path):
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "lost": 1.0}, {"step": 3, "loss": None}, {"step": 4, "loss": "low"}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [row["step"] for row in read_log(tmp_path)] == [1, 3]
