"""What a run may be told: each option learns, and a run that broke off goes on exactly."""

import dataclasses
from pathlib import Path

import pytest
import torch
from predictive_models import WORDS
from test_step import VIT
from training import MODEL, tiny_config

from diptych.embed import load
from diptych.errors import ConfigError, LossSpikeError
from diptych.train import CheckpointConfig, OptimizerConfig, fit, read_log
from diptych.train.config import GuardConfig, InitConfig, ParallelConfig, PatchDropout

SMALL_VIT = dataclasses.replace(VIT, text=MODEL.text)
OPTIONS = {
    "micro-batches": {"micro_batch_size": 5},
    "average": {"average_decay": 0.9},
    "checkpointing": {"activation_checkpointing": True, "model": SMALL_VIT},
    "patch dropout": {"patch_dropout": PatchDropout(0.5, 0.3), "model": SMALL_VIT, "micro_batch_size": 6},
    "sigmoid": {"objective": "sigmoid", "model": dataclasses.replace(MODEL, logit_bias=-10.0)},
    "guard": {"guard": GuardConfig("skip", factor=0.5, window_steps=3, max_skipped=100)},
    "half moments": {"optimizer": OptimizerConfig(1e-3, moments="bf16")},
    "rounded": {"optimizer": OptimizerConfig(1e-3, stochastic_rounding=True), "precision": "bf16"},
    "layer decay": {"optimizer": OptimizerConfig(1e-3, layer_decay=0.7)},
    "sharded file": {"checkpoint": CheckpointConfig(every_steps=4, sharded=True)},
}


class _BreaksOff:
    """An evaluator at which a run ends, after its checkpoint of step 4."""

    def __call__(self, encoder):
        raise InterruptedError


def rows(folder: Path) -> list[tuple]:
    return [(row["step"], row["loss"], row["lr"], row.get("skipped")) for row in read_log(folder)]


@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_that_broke_off_goes_on_exactly(tmp_path, name):
    whole = fit(tiny_config(tmp_path / "whole", 10, **OPTIONS[name]))
    config = tiny_config(tmp_path / "broken", 10, **OPTIONS[name])
    with pytest.raises(InterruptedError):
        fit(dataclasses.replace(config, evaluate_steps=6), [_BreaksOff()])
    resumed = fit(config, resume=True)
    assert resumed.step == whole.step == 10
    assert repr(rows(resumed.folder)) == repr(rows(whole.folder)) and len(rows(whole.folder)) == 10
    for (key, value), other in zip(
        load(whole.folder / "model").clip.state_dict().items(),
        load(resumed.folder / "model").clip.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(value, other), key


def test_a_guard_that_skips_says_so_and_leaves_the_weights(tmp_path):
    run = fit(tiny_config(tmp_path / "run", 10, **OPTIONS["guard"]))
    assert sum(row.get("skipped", 0) for row in read_log(run.folder)) > 0


def test_a_guard_that_stops_leaves_a_checkpoint_and_another_guard_may_go_on(tmp_path):
    guard = GuardConfig("stop", factor=0.01, window_steps=3)
    config = tiny_config(tmp_path / "run", 10, guard=guard, checkpoint=CheckpointConfig(every_steps=1000))
    with pytest.raises(LossSpikeError, match="the loss jumped"):
        fit(config)
    assert list((tmp_path / "run" / "checkpoints").glob("*.pt"))
    assert fit(dataclasses.replace(config, guard=GuardConfig("off")), resume=True).finished


def test_the_saved_model_is_the_average(tmp_path):
    averaged = fit(tiny_config(tmp_path / "averaged", 6, average_decay=0.5))
    plain = fit(tiny_config(tmp_path / "plain", 6))
    assert rows(averaged.folder) == rows(plain.folder)
    weights = [load(run.folder / "model").clip.text_projection for run in (averaged, plain)]
    assert not torch.equal(*weights)


def test_micro_batches_may_change_on_the_way(tmp_path):
    config = tiny_config(tmp_path / "run", 10)
    with pytest.raises(InterruptedError):
        fit(dataclasses.replace(config, evaluate_steps=6), [_BreaksOff()])
    assert fit(dataclasses.replace(config, micro_batch_size=4), resume=True).finished


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": "triplet"}, "contrastive, sigmoid, prediction"),
        ({"objective": "sigmoid"}, "logit_bias"),
        ({"objective": "prediction"}, "does not suit"),
        ({"model": WORDS, "objective": "prediction", "parallel": ParallelConfig("sharded")}, "replicated weights only"),
        ({"micro_batch_size": 0}, "at least 1"),
        ({"average_decay": 1.0}, "between 0 and 1"),
        ({"compile": "yes"}, "off, auto or on"),
        ({"patch_dropout": PatchDropout(0.5)}, "Vision Transformer"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        tiny_config(tmp_path / "run", **changes)


@pytest.mark.parametrize(
    "part",
    [
        lambda: ParallelConfig("split"),
        lambda: ParallelConfig(batch_norm="none"),
        lambda: PatchDropout(1.0),
        lambda: PatchDropout(0.5, 2.0),
    ],
)
def test_what_no_part_knows_is_refused(part):
    with pytest.raises(ConfigError):
        part()


def test_rounded_weights_cannot_be_cut_up(tmp_path):
    with pytest.raises(ConfigError, match=r"parallel\.weights=replicated"):
        tiny_config(
            tmp_path / "run",
            optimizer=OptimizerConfig(stochastic_rounding=True),
            parallel=ParallelConfig("sharded"),
        )


def test_a_resumed_run_needs_the_first_weights_no_more(tmp_path):
    first = fit(tiny_config(tmp_path / "first", 4))
    init = InitConfig(str(first.folder / "model"), lock_image=True)
    config = tiny_config(tmp_path / "second", 10, init=init, tokenizer="init")
    with pytest.raises(InterruptedError):
        fit(dataclasses.replace(config, evaluate_steps=6), [_BreaksOff()])
    (first.folder / "model").rename(tmp_path / "gone")
    run = fit(config, resume=True)
    before, after = load(tmp_path / "gone").clip, load(run.folder / "model").clip
    assert torch.equal(before.visual.conv1.weight, after.visual.conv1.weight)
    assert not torch.equal(before.text_projection, after.text_projection)
