"""The dry run: what it says is so, and it leaves nothing behind."""

import dataclasses
import re

import pytest
import torch
from training import COMPACT, MODEL, tiny_config

from diptych.errors import DataError
from diptych.model.clip import CLIP
from diptych.model.clip_config import ViTConfig
from diptych.model.flops import flops_per_pair
from diptych.train import measure as measuring
from diptych.train.config import InitConfig
from diptych.train.measure import Timed, measure
from diptych.train.plan import make_plan

CPU = torch.device("cpu")
LENGTHS = torch.tensor([7, 9, 12])
VIT = dataclasses.replace(MODEL, vision=ViTConfig(32, 8, 64, 2))


def test_a_plan_counts_and_measures(tmp_path):
    config = tiny_config(tmp_path / "run", num_steps=12)
    plan = make_plan(config)
    clip = CLIP(config.model)
    size = 4 * sum(parameter.numel() for parameter in clip.parameters())
    assert plan.num_image + plan.num_text + 1 == config.model.num_parameters() == size // 4
    assert plan.num_image == sum(parameter.numel() for parameter in clip.visual.parameters())
    assert plan.cost.memory["weights"] == plan.cost.memory["gradients"] == size
    # Adam's two moments of each weight, and a count of steps per tensor.
    assert 0 <= plan.cost.memory["moments"] - 2 * size <= 8 * len(list(clip.parameters()))
    assert plan.flops_per_pair == flops_per_pair(config.model, plan.caption_tokens)
    assert 3 < plan.caption_tokens < 32
    assert plan.cost.seconds_per_step and plan.seconds == 12 * plan.cost.seconds_per_step
    assert not (tmp_path / "run").exists()


def test_a_plan_in_words_is_the_configuration_and_its_cost(tmp_path):
    text = str(make_plan(tiny_config(tmp_path / "run")))
    assert "  learning_rate: 0.001\n" in text and "  betas: [0.9, 0.98]\n" in text
    assert "\nmicro_batch_size: none\n" in text and "\nsteps            12 (192 pairs, 16 a step)\n" in text
    for line in ("parameters ", "FLOPs per pair ", "memory ", "  activations "):
        assert f"\n{line}" in text
    assert re.search(r"\ntime .* s a step, .* pairs/s\)\n", text)


def test_activations_are_those_that_the_backward_pass_waits_for(tmp_path):
    """Against the tensors of a forward pass of that size; weights do not count, and recomputing keeps fewer."""
    config = tiny_config(tmp_path, model=VIT, precision="fp32")
    said = measure(config, LENGTHS, CPU).memory["activations"]
    bench = measuring._Bench(config, LENGTHS, CPU)
    assert said == pytest.approx(bench._kept(16), rel=0.2)
    # Two micro-batches hold about half of one.
    half = measure(dataclasses.replace(config, micro_batch_size=8), LENGTHS, CPU)
    assert half.memory["activations"] == pytest.approx(said / 2, rel=0.2)
    assert half.memory["embeddings"] == 16 * 16 * 32


def test_locked_towers_have_no_gradients_and_moments(tmp_path):
    config = tiny_config(tmp_path, init=InitConfig("somewhere", lock_image=True))
    memory = measure(config, LENGTHS, CPU).memory
    text = 4 * (config.model.text.num_parameters(config.model.embed_dim) + 1)
    assert memory["gradients"] == text and memory["moments"] < 2.1 * text < memory["weights"]


def test_muon_has_one_moment(tmp_path):
    memory = measure(tiny_config(tmp_path, **COMPACT), LENGTHS, CPU).memory
    assert memory["moments"] < 1.8 * memory["weights"]


def test_what_does_not_fit_is_not_tried(tmp_path, monkeypatch):
    """As on a machine with little memory left: a smaller micro-batch is named, or nothing is measured at all."""
    config = tiny_config(tmp_path, model=VIT)
    config = dataclasses.replace(
        config, num_pairs=2048, loader=dataclasses.replace(config.loader, global_batch_size=1024)
    )
    whole = measure(config, LENGTHS, CPU)
    needed = sum(size for name, size in whole.memory.items() if name != "activations")
    per_pair = whole.memory["activations"] / 1024
    monkeypatch.setattr(measuring, "free_memory", lambda device: int((needed + 100 * per_pair) / 0.8))
    little = measure(config, LENGTHS, CPU)
    assert little.seconds_per_step is not None
    (advice,) = (note for note in little.notes if "do not fit" in note)
    assert int(advice.rpartition(" ")[2]) in (32, 64)
    monkeypatch.setattr(measuring, "free_memory", lambda device: 1000)
    nothing = measure(config, LENGTHS, CPU)
    assert nothing.seconds_per_step is None and "not measured" in nothing.notes[0]


def test_a_large_micro_batch_is_scaled_from_a_fixed_part_and_one_for_each_pair():
    """5 s for any micro-batch and half a second a pair: 6 s for two, 7 s for four, 21 s for 32, not 96 s."""
    timed = Timed(((2, 6.0), (4, 7.0)))
    assert timed.seconds(4) == 7 and timed.seconds(32) == pytest.approx(21) and not timed.is_bound
    # No fixed part at all: in proportion, and no bound either.
    assert Timed(((2, 1.0), (4, 2.0))).seconds(32) == 16 and not Timed(((2, 1.0), (4, 2.0))).is_bound
    # One size, a clock that other programs disturbed, a line that starts below 0: too much, and said to be.
    for points in (((2, 6.0),), ((2, 6.0), (4, 5.0)), ((2, 1.0), (4, 8.0))):
        timed = Timed(points)
        number, seconds = points[-1]
        assert timed.is_bound and timed.seconds(32) == pytest.approx(seconds * 32 / number)


def test_a_slow_machine_is_measured_at_two_sizes_and_a_slower_one_has_a_bound(tmp_path, monkeypatch):
    """The clock of a machine on which a micro-batch takes `fixed` seconds and `each` for a pair."""
    config = tiny_config(tmp_path, num_steps=10)
    loader = dataclasses.replace(config.loader, global_batch_size=256)
    config = dataclasses.replace(config, num_pairs=2560, loader=loader)

    def measured(fixed, each):
        clock = [0.0]
        take = measuring._Bench._gradient

        def gradient(bench, num_pairs, micro):
            run, seconds = take(bench, min(num_pairs, 4), micro), fixed + each * num_pairs

            def later():
                clock[0] += seconds
                return run()

            return later

        with monkeypatch.context() as patched:
            patched.setattr(measuring._Bench, "_gradient", gradient)
            patched.setattr(measuring._Bench, "_now", lambda bench: clock[0])
            return measure(config, LENGTHS, CPU)

    slow = measured(10.0, 0.5)  # what two pairs take, times 128, were 1,408 s
    assert slow.seconds_per_step == pytest.approx(10 + 0.5 * 256) and not slow.at_most
    assert "up to 4 pairs, scaled to 256" in slow.notes[0]
    slower = measured(20.0, 0.5)
    assert slower.seconds_per_step == pytest.approx(21 * 128) and slower.at_most
    assert "upper bound" in slower.notes[0]
    plan = dataclasses.replace(make_plan(tiny_config(tmp_path)), cost=slower, config=config)
    assert plan.time.startswith("at most ") and f"time             {plan.time} (" in str(plan)
    assert not measured(0.01, 0.001).at_most


def test_data_without_captions_is_refused_as_in_training(tmp_path):
    with pytest.raises(DataError):
        make_plan(dataclasses.replace(tiny_config(tmp_path), data=(str(tmp_path),)))


def test_the_command_prints_and_writes_nothing(command, tmp_path, monkeypatch):
    words = ("train", "playground:50", "--recipe", "quickstart", "--pairs", 64, "--batch-size", 32, "--out", "run")
    outcome = command(*words, "--set", "optimizer.lr=2e-3", "--dry-run")
    assert outcome.status == 0, outcome.err
    assert "  learning_rate: 0.002\n" in outcome.out and "\nsteps            2 " in outcome.out
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("RANK", "1")  # as torchrun's second process
    silent = command(*words, "--dry-run")
    assert (silent.status, silent.out) == (0, "")
