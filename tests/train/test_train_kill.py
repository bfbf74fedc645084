"""Fifty times kill -9 at random moments, many of them while a checkpoint is being written: nothing is lost."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from ranks import PROCESSES
from training import tiny_config

from diptych.train import CheckpointConfig, TrainConfig, fit, read_log
from diptych.train.checkpoint import Checkpoints

NUM_STEPS, NUM_KILLS = 150, 50
# What a run imports on its way; the server that the runs are forked from has it already.
HEAVY = ["diptych.train", "training", "torch._dynamo", "torch.utils.tensorboard", "sklearn.datasets", "pytest"]


def config_of(folder: Path, sharded: bool) -> TrainConfig:
    checkpoint = CheckpointConfig(every_steps=1, every_minutes=60, keep=2, keep_every_steps=50, sharded=sharded)
    return tiny_config(folder, NUM_STEPS, checkpoint=checkpoint)


def train(folder: Path, sharded: bool) -> None:
    torch.set_num_threads(1)
    fit(config_of(folder, sharded), resume="if begun")


def last_step(folder: Path) -> int:
    """The newest row of the log, which the process that is being watched may be writing."""
    rows = read_log(folder) if (folder / "log.jsonl").exists() else []
    return rows[-1]["step"] if rows else 0


def wait_for_a_new_row(folder: Path, process) -> None:
    before, deadline = last_step(folder), time.monotonic() + 120
    while process.is_alive() and last_step(folder) <= before:
        assert time.monotonic() < deadline, "no new row of the log within two minutes"
        time.sleep(0.005)


def losses(folder: Path) -> list[tuple[int, float]]:
    return [(row["step"], row["loss"]) for row in read_log(folder)]


def start(folder: Path, sharded: bool):
    process = PROCESSES.Process(target=train, args=(folder, sharded))
    process.start()
    return process


def kill_somewhere(folder: Path, sharded: bool, chance: random.Random) -> bool:
    """Start or resume the run and kill it at a random moment; False where it was faster and ended."""
    process = start(folder, sharded)
    if chance.random() < 0.8:
        wait_for_a_new_row(folder, process)
        time.sleep(chance.uniform(0, 0.25))
    else:  # perhaps before its first step
        time.sleep(chance.uniform(0, 1.5))
    process.kill()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def check_checkpoints(folder: Path, sharded: bool) -> int:
    """The step of the newest checkpoint, which loads: none was damaged and set aside; 0 for none."""
    checkpoints = Checkpoints(folder / "checkpoints", config_of(folder, sharded).checkpoint)
    paths = checkpoints.paths()
    state = checkpoints.newest()
    assert checkpoints.paths() == paths
    assert (state is None) == (not paths)
    return state["step"] if state else 0


@pytest.mark.long
@pytest.mark.parametrize("sharded", [False, True], ids=["full", "sharded"])
def test_fifty_kills_at_random_moments(tmp_path, monkeypatch, sharded):
    seed = int.from_bytes(os.urandom(4))
    print(f"random seed {seed}")
    chance = random.Random(seed)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    PROCESSES.set_forkserver_preload(HEAVY)
    undisturbed = start(tmp_path / "undisturbed", sharded)

    kills, in_a_write, runs, steps = 0, 0, [tmp_path / "killed-0"], [0]
    while kills < NUM_KILLS:
        if kill_somewhere(runs[-1], sharded, chance):
            kills += 1
            unfinished = (*runs[-1].glob("checkpoints/.step-*"), *runs[-1].glob("checkpoints/*.partial"))
            in_a_write += bool(unfinished)
            steps.append(check_checkpoints(runs[-1], sharded))
            assert steps[-1] >= steps[-2]
        else:
            runs.append(tmp_path / f"killed-{len(runs)}")
            steps.append(0)
    print(f"{kills} kills, {in_a_write} in the middle of a write, {len(runs)} runs; steps reached: {steps}")
    assert in_a_write >= 3

    for process in (start(runs[-1], sharded), undisturbed):
        process.join(300)
        assert process.exitcode == 0
    expected = tmp_path / "undisturbed"
    assert len(losses(expected)) == NUM_STEPS
    for folder in runs:
        assert losses(folder) == losses(expected)
        for name in ("model/model.safetensors", "model/tokenizer.json"):
            assert (folder / name).read_bytes() == (expected / name).read_bytes()
        kept = [sorted(path.name for path in (one / "checkpoints").iterdir()) for one in (folder, expected)]
        assert kept[0] == kept[1] and len(kept[0]) == 2 + NUM_STEPS // 50 - 1
