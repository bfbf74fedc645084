"""Hyper-parameter search: what is held out, what is tried, and that a search goes on where it stopped."""

import dataclasses
import math
import signal
import sys
from pathlib import Path

import optuna
import pytest
import torch
from training import tiny_config

from diptych.data.playground import Playground
from diptych.errors import ConfigError, DataError
from diptych.recipes.hyperparameter_search import Search, search_hyperparameters, trials_table
from diptych.recipes.space import parse_dimension
from diptych.train import TrainConfig
from diptych.train.held_out import HeldOutPairs, Part, held_out_pairs

RATES = "optimizer.learning_rate=log:1e-4..1e-2"


@pytest.fixture
def config(tmp_path) -> TrainConfig:
    return tiny_config(tmp_path / "search", num_steps=8)


# ---- what is held out


def test_each_pair_is_on_one_side_whatever_the_order():
    source = Playground(300, shard_size=50)
    sides = [Part(source, 0.2, held_out) for held_out in (True, False)]
    keys = [{sample.key for index in range(6) for sample in side.read(index)} for side in sides]
    assert not keys[0] & keys[1] and len(keys[0] | keys[1]) == 300
    assert 35 < len(keys[0]) < 85
    other = Part(Playground(300, shard_size=300), 0.2, True)  # the same pairs in one shard
    assert {sample.key for sample in other.read(0)} == keys[0]
    assert len({source.fingerprint, *(side.fingerprint for side in sides)}) == 3


def test_held_out_pairs_come_from_all_shards():
    source = Playground(400, shard_size=100)
    samples = held_out_pairs(source, 0.5, limit=40)
    assert len(samples) == 40
    assert {int(sample.key.rpartition("-")[2]) // 100 for sample in samples} == {0, 1, 2, 3}
    assert len(held_out_pairs(source, 0.1, limit=1000)) < 80
    with pytest.raises(DataError, match="--held-out"):
        held_out_pairs(Playground(3), 0.001)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Part(source, 1.0, True)


class Knowing:
    """An encoder that gives pair i the i-th axis, and shifts some captions by one."""

    name, logit_scale = "knowing", 4.0

    def __init__(self, num_wrong: int) -> None:
        self.num_wrong = num_wrong

    def encode_images(self, pictures, on_error):
        return torch.eye(len(pictures))

    def encode_texts(self, texts, truncate):
        order = torch.arange(len(texts))
        order[: self.num_wrong] = order[: self.num_wrong].roll(1)
        return torch.eye(len(texts))[order]


def test_loss_and_accuracy_by_hand():
    pairs = HeldOutPairs(held_out_pairs(Playground(40), 0.5, limit=10))
    assert pairs.chance_loss == pytest.approx(math.log(10))
    values = {result.metric: result.value for result in pairs(Knowing(0))}
    assert values["recall_at_1"] == 1.0
    assert values["loss_nats"] == pytest.approx(-math.log(math.exp(4) / (math.exp(4) + 9)))
    values = {result.metric: result.value for result in pairs(Knowing(4))}
    assert values["recall_at_1"] == pytest.approx(0.6)
    assert values["loss_nats"] == pytest.approx(math.log(math.exp(4) + 9) - 4 * 0.6)


# ---- what is tried


def test_a_dimension_from_text(config):
    rates = parse_dimension(config, RATES)
    assert (rates.low, rates.high, rates.log, rates.kind) == (1e-4, 1e-2, True, float)
    assert rates.points() == pytest.approx([1e-4, 10**-3.5, 1e-3, 10**-2.5, 1e-2])
    assert parse_dimension(config, "schedule.warmup_steps=1..9").points() == [1, 3, 5, 7, 9]
    assert parse_dimension(config, "optimizer.lr=1e-3,2e-3").name == "optimizer.learning_rate"
    assert parse_dimension(config, "augmentation.crop=centre,random_square").points() == ["centre", "random_square"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("optimizer.rate=1..2", "optimizer.learning_rate"),
        ("schedule.warmup_steps=fast..slow", "not a range"),
        ("optimizer.lr=2..1", "lower bound"),
        ("optimizer.lr=log:0..1", "above 0"),
        ("optimizer.lr=", "no choice"),
        ("optimizer.lr=1,fast", "a number"),
        ("optimizer.lr=-1,1", "above 0"),
    ],
)
def test_a_space_that_is_none_is_refused(config, text, said):
    with pytest.raises(ConfigError) as error:
        parse_dimension(config, text)
    assert said in str(error.value)


def test_a_grid_tries_each_point_and_the_best_comes_first(config):
    plan = Search(config, ("optimizer.learning_rate=1e-6,3e-3", "seed=0,1"), sampler="grid", held_out=0.3)
    found = search_hyperparameters(plan)
    assert found.finished and len(found.trials) == 4
    assert len({trial.settings for trial in found.trials}) == 4
    assert [trial.loss for trial in found.trials] == sorted(trial.loss for trial in found.trials)
    assert found.best is found.trials[0] and "optimizer.learning_rate=3e-3" in found.best.settings
    runs = sorted(path.name for path in (Path(config.out) / "trials").iterdir())
    assert runs == ["0000", "0001", "0002", "0003"]
    assert not list((Path(config.out) / "trials").rglob("checkpoints"))
    assert trials_table(found).row_count == 4
    again = search_hyperparameters(plan, resume=True)  # nothing is left to try
    assert again == found


def test_a_search_goes_on_and_is_the_same_from_the_seed(config, tmp_path):
    first = "optimizer.learning_rate=2e-3"
    plan = Search(config, (RATES,), first=(first,), num_trials=1, held_out=0.3)
    one = search_hyperparameters(plan)
    assert [trial.settings for trial in one.trials] == [("optimizer.learning_rate=0.002",)]
    with pytest.raises(ConfigError, match="--resume"):
        search_hyperparameters(plan)
    longer = dataclasses.replace(plan, num_trials=2)
    two = search_hyperparameters(longer, resume=True)
    assert len(two.trials) == 2 and one.trials[0] in two.trials
    with pytest.raises(ConfigError, match="other settings"):
        search_hyperparameters(dataclasses.replace(longer, held_out=0.2), resume=True)


def test_a_trial_that_diverges_is_pruned(config):
    config = dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, clip_norm=None))
    plan = Search(config, ("optimizer.learning_rate=1e30,1e-3",), sampler="grid", held_out=0.3)
    found = search_hyperparameters(plan)
    assert {trial.settings[0].rpartition("=")[2]: trial.state for trial in found.trials} == {
        "1e30": "pruned",
        "1e-3": "complete",
    }


def test_a_killed_trial_is_made_again(config):
    """Its row in the journal is one that nobody finished."""
    plan = Search(config, ("optimizer.learning_rate=1e-3,2e-3",), num_trials=1, sampler="grid", held_out=0.3)
    search_hyperparameters(plan)
    backend = optuna.storages.journal.JournalFileBackend(str(Path(config.out) / "study.log"))
    study = optuna.load_study(study_name="study", storage=optuna.storages.JournalStorage(backend))
    trial = study.ask()
    trial.suggest_categorical("optimizer.learning_rate", ("1e-3", "2e-3"))
    found = search_hyperparameters(dataclasses.replace(plan, num_trials=2), resume=True)
    assert sorted(trial.state for trial in found.trials) == ["complete", "complete", "failed"]
    complete = {trial.settings for trial in found.trials if trial.state == "complete"}
    assert complete == {("optimizer.learning_rate=1e-3",), ("optimizer.learning_rate=2e-3",)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampler": "best"}, "random, grid, tpe"),
        ({"objective": "test"}, "loss, accuracy"),
        ({"space": ()}, "nothing to search"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(config, changes, said):
    with pytest.raises(ConfigError, match=said):
        Search(**{"config": config, "space": (RATES,), **changes})


def test_what_is_tried_by_hand_must_be_searched(config):
    with pytest.raises(ConfigError, match="--set"):
        search_hyperparameters(Search(config, (RATES,), first=("seed=1",), held_out=0.3))


def test_without_optuna_the_extra_is_named(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"diptych\[search\]"):
        search_hyperparameters(Search(config, (RATES,)))


def test_the_command_prints_the_best_as_options(command):
    words = ("--recipe", "quickstart", "--pairs", 128, "--workers", 0, "--set", "loader.global_batch_size=32")
    search = ("--search", RATES, "--trials", 1, "--held-out", 0.3, "--objective", "accuracy", "--out", "tune")
    outcome = command("tune", "playground:100", *words, *search)
    assert outcome.status == 0, outcome.err
    *_, best = outcome.out.splitlines()
    assert best.startswith("best: --set optimizer.learning_rate=0.00") and "complete" in outcome.out
    command("tune", "playground:100", *words, *search).is_error("tune holds a search", "--resume")


def test_a_signal_ends_the_search_and_its_trial_is_made_again(config, monkeypatch):
    measure, signals = HeldOutPairs.__call__, [signal.SIGTERM]

    def measured(self, encoder):
        if signals:  # as from outside, in the middle of a trial
            signal.raise_signal(signals.pop())
        return measure(self, encoder)

    monkeypatch.setattr(HeldOutPairs, "__call__", measured)
    plan = Search(config, ("optimizer.learning_rate=1e-3,2e-3",), sampler="grid", held_out=0.3)
    stopped = search_hyperparameters(plan)
    assert not stopped.finished and [trial.state for trial in stopped.trials] == ["failed"] and stopped.best is None
    found = search_hyperparameters(plan, resume=True)
    assert found.finished and sorted(trial.state for trial in found.trials) == ["complete", "complete", "failed"]
    assert len({trial.settings for trial in found.trials}) == 2
