"""The training loop: it learns, stops and goes on exactly, and fails with words."""

import dataclasses
import functools
import json
import math
import multiprocessing
import os
import random
import re
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from forked import Forked
from training import COMPACT, MODEL, tiny_config

from diptych.data.loader import LoaderConfig
from diptych.errors import ConfigError, NonFiniteLossError, WorkerError
from diptych.model.clip import CLIP
from diptych.model.clip_config import ViTConfig
from diptych.records import Result
from diptych.train import CheckpointConfig, OptimizerConfig, ScheduleConfig, fit, read_log
from diptych.train.checkpoint import Checkpoints
from diptych.train.optimizer import build_optimizer, learning_rate_share

NORMS = torch.nn.LayerNorm | torch.nn.BatchNorm2d


def losses(folder: Path) -> dict[int, float]:
    return {row["step"]: row["loss"] for row in read_log(folder)}


def train(out: Path, num_steps: int, resume: bool, num_workers: int, compact: bool = False) -> None:
    config = tiny_config(out, num_steps, **(COMPACT if compact else {}))
    loader = dataclasses.replace(config.loader, num_workers=num_workers)
    fit(dataclasses.replace(config, loader=loader), resume=resume)


@pytest.fixture
def fit_in_another_process(tmp_path):
    """`train` in a process of its own, which lives no longer than the test."""
    processes = []

    def begin(out: Path, num_steps: int, *arguments: object, new_session: bool = False) -> Forked:
        process = Forked(tmp_path / "errors.txt", train, out, num_steps, *arguments, new_session=new_session)
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run of 24 updates that nothing disturbed, one for each architecture."""

    @functools.cache
    def folder(compact: bool) -> Path:
        before, out = torch.get_num_threads(), tmp_path_factory.mktemp("undisturbed") / "run"
        torch.set_num_threads(1)
        train(out, 24, False, 0, compact)
        torch.set_num_threads(before)
        return out

    return folder


def wait_for_step(folder: Path, step: int, process: Forked | None = None) -> None:
    deadline = time.monotonic() + 120
    while (process is None or process.poll() is None) and time.monotonic() < deadline:
        if (folder / "log.jsonl").exists() and any(row["step"] >= step for row in read_log(folder)):
            return
        time.sleep(0.01)
    if process is None or process.poll() is None:
        pytest.fail(f"no step {step} within two minutes")


def test_learns_and_leaves_a_model(tmp_path):
    run = fit(tiny_config(tmp_path / "run", num_steps=100))
    values = list(losses(run.folder).values())
    assert run.finished and run.step == len(values) == 100
    assert sum(values[-10:]) / 10 < 0.8 * sum(values[:10]) / 10  # chance is log 16 = 2.77
    assert sum(values[-10:]) / 10 < 0.9 * math.log(16)
    assert {path.name for path in (run.folder / "model").iterdir()} >= {"config.json", "model.safetensors"}


def test_same_seed_same_losses_another_seed_others(tmp_path):
    one, two = (fit(tiny_config(tmp_path / name, num_steps=4)) for name in ("one", "two"))
    other = fit(tiny_config(tmp_path / "other", num_steps=4, seed=1))
    assert losses(one.folder) == losses(two.folder)
    assert losses(one.folder) != losses(other.folder)


@pytest.mark.parametrize(("num_workers", "compact"), [(0, False), (2, False), (2, True)])
def test_killed_and_resumed_has_the_losses_of_an_uninterrupted_run(
    tmp_path, num_workers, compact, fit_in_another_process, undisturbed
):
    whole = undisturbed(compact)
    killed = fit_in_another_process(tmp_path / "killed", 24, False, num_workers, compact)
    wait_for_step(tmp_path / "killed", random.randint(5, 20), killed)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL  # it was still running
    workers = 2 - num_workers
    resumed = fit_in_another_process(tmp_path / "killed", 24, True, workers, compact)
    assert resumed.wait(240) == 0, resumed.errors.read_text()
    assert len(losses(whole)) == 24
    assert losses(tmp_path / "killed") == losses(whole)
    weights = [folder / "model" / "model.safetensors" for folder in (whole, tmp_path / "killed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_sigterm_writes_a_checkpoint_and_ends(tmp_path, fit_in_another_process):
    process = fit_in_another_process(tmp_path / "run", 100_000, False, 1)
    wait_for_step(tmp_path / "run", 3, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, process.errors.read_text()
    last = max(losses(tmp_path / "run"))
    assert (tmp_path / "run" / "checkpoints" / f"step-{last:09d}.pt").exists()


def test_a_loss_that_is_no_number_stops_and_names_step_and_checkpoint(tmp_path):
    config = tiny_config(tmp_path / "run", num_steps=40, checkpoint=CheckpointConfig(every_steps=1))
    wild = dataclasses.replace(config, optimizer=OptimizerConfig(learning_rate=1e30), schedule=ScheduleConfig(1))
    with pytest.raises(
        NonFiniteLossError, match=r"became (nan|inf) at step \d+; (the last good|there is no) checkpoint"
    ):
        fit(wild)
    for path in (tmp_path / "run" / "checkpoints").glob("*.pt"):
        weights = torch.load(path, weights_only=True)["model"]
        assert all(tensor.isfinite().all() for tensor in weights.values())


def test_a_run_is_not_overwritten_and_not_resumed_as_another(tmp_path):
    config = tiny_config(tmp_path / "run", num_steps=4)
    fit(config)
    with pytest.raises(ConfigError, match="holds a run already"):
        fit(config)
    with pytest.raises(ConfigError, match=r"optimizer.learning_rate was 0.001 and is now 0.002"):
        fit(dataclasses.replace(config, optimizer=OptimizerConfig(learning_rate=2e-3)), resume=True)
    more_workers = dataclasses.replace(config.loader, num_workers=1)
    assert fit(dataclasses.replace(config, loader=more_workers), resume=True).finished


def test_evaluators_measure_on_the_way_and_at_the_end(tmp_path):
    def evaluator(encoder) -> list[Result]:
        value = float(encoder.encode_texts(["a red star"]).norm())
        return [Result("t", "d", "test", "norm", value, 1, None, None, None, "single", encoder.name)]

    run = fit(tiny_config(tmp_path / "run", num_steps=4, evaluate_steps=2), [evaluator])
    rows = [json.loads(line) for line in (run.folder / "evaluations.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4]
    assert len((run.folder / "results.jsonl").read_text().splitlines()) == 1
    assert run.results[0].value == pytest.approx(1.0, abs=1e-5)


def test_rows_say_rate_and_waiting(tmp_path):
    row = read_log(fit(tiny_config(tmp_path / "run", num_steps=3)).folder)[-1]
    assert row["pairs"] == 48 and row["pairs_per_second"] > 0 and 0 <= row["share_waiting"] <= 1
    assert row["scale"] <= 100


def test_schedule_by_hand():
    schedule = ScheduleConfig(warmup_steps=4, final_fraction=0.0)
    rates = [learning_rate_share(step, 12, schedule) for step in range(13)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[8] == pytest.approx(0.5)
    assert rates[12] == pytest.approx(0.0)
    assert learning_rate_share(12, 12, ScheduleConfig(4, 0.1)) == pytest.approx(0.1)


@pytest.mark.parametrize("vision", [MODEL.vision, ViTConfig(32, 8, 64, 1)])
def test_no_decay_on_gains_biases_and_temperature(vision):
    clip = CLIP(dataclasses.replace(MODEL, vision=vision))
    decayed, spared = build_optimizer(clip, OptimizerConfig(weight_decay=0.2)).parts["adamw"].param_groups
    assert decayed["weight_decay"] == 0.2 and spared["weight_decay"] == 0.0
    names = {id(parameter): name for name, parameter in clip.named_parameters()}
    of_decayed = {names[id(parameter)] for parameter in decayed["params"]}
    of_spared = {names[id(parameter)] for parameter in spared["params"]}
    gains = {f"{name}.weight" for name, module in clip.named_modules() if isinstance(module, NORMS)}
    biases = {name for name in names.values() if name.endswith("bias")}
    assert of_spared == gains | biases | {"logit_scale"} | ({"visual.class_embedding"} & set(names.values()))
    assert of_decayed | of_spared == set(names.values()) and not of_decayed & of_spared


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_pairs": 3}, "less than one batch"),
        ({"precision": "int3"}, "auto, bf16 or fp32"),
        ({"log_steps": 0}, "at least 1"),
        ({"loader": LoaderConfig(global_batch_size=1000)}, "less than one batch of 1000"),
    ],
)
def test_contradictions_are_refused(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        tiny_config(tmp_path, **changes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_ends_with_a_checkpoint_too(tmp_path, number, fit_in_another_process):
    """SIGHUP: the terminal, or the connection to it, is closed."""
    process = fit_in_another_process(tmp_path / "run", 100_000, False, 2, new_session=True)
    wait_for_step(tmp_path / "run", 3, process)
    os.killpg(process.pid, number)
    assert process.wait(60) == 0, process.errors.read_text()
    assert Checkpoints(tmp_path / "run" / "checkpoints", CheckpointConfig()).newest()["step"] >= 3


def test_a_finished_run_without_checkpoints_is_not_begun_again(tmp_path):
    config = tiny_config(tmp_path / "run", num_steps=4)
    run = fit(config)
    for path in (run.folder / "checkpoints").iterdir():
        path.unlink()
    for resume in (False, True):
        with pytest.raises(ConfigError, match="holds a trained model"):
            fit(config, resume=resume)
    assert (run.folder / "log.jsonl").exists()


def test_evaluators_are_asked_before_the_first_step(tmp_path):
    class Picky:
        def check(self, encoder) -> None:
            raise ConfigError("not this model")

        def __call__(self, encoder) -> list[Result]:
            return []

    with pytest.raises(ConfigError, match="not this model"):
        fit(tiny_config(tmp_path / "run"), [Picky()])
    assert not (tmp_path / "run" / "log.jsonl").exists()


def test_seconds_go_on_after_a_resume(tmp_path, fit_in_another_process):
    process = fit_in_another_process(tmp_path / "run", 100_000, False, 0)
    wait_for_step(tmp_path / "run", 12, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, process.errors.read_text()
    saved = Checkpoints(tmp_path / "run" / "checkpoints", CheckpointConfig()).newest()
    assert saved["seconds"] >= read_log(tmp_path / "run")[-1]["seconds"] > 0


def test_a_dead_worker_costs_no_update(tmp_path):
    """Its last checkpoint may be long ago: all updates are saved first, and the message says how to go on."""
    config = tiny_config(tmp_path / "run", 400, checkpoint=CheckpointConfig(every_steps=1000, every_minutes=60))
    config = dataclasses.replace(config, loader=dataclasses.replace(config.loader, num_workers=1))

    def kill() -> None:
        wait_for_step(tmp_path / "run", 3)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(
        WorkerError, match=r"SIGKILL.*; the (\d+) earlier updates are saved: continue with --resume"
    ) as e:
        fit(config)
    thread.join()
    step = int(re.search(r"the (\d+) earlier updates", str(e.value))[1])
    assert max(losses(tmp_path / "run")) <= step < 400
    assert [path.name for path in (tmp_path / "run" / "checkpoints").glob("*.pt")] == [f"step-{step:09d}.pt"]
