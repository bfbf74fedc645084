"""The guard against losses that leap, on hand-solved windows."""

import json
import math
import random
import statistics

import pytest

from diptych.errors import ConfigError, LossSpikeError, TrainingError
from diptych.train.config import GuardConfig
from diptych.train.guard import SpikeGuard


def verdicts(guard: SpikeGuard, losses: list[float], first_step: int = 1) -> list[str]:
    return [guard.judge(loss, step) for step, loss in enumerate(losses, start=first_step)]


def test_a_spike_is_factor_deviations_above_the_mean_of_the_window():
    # Mean 3, standard deviation 1 (two of 2, two of 4, one of 3: squares 4 over 5 - 1).
    window = [2.0, 4.0, 3.0, 2.0, 4.0]
    for loss, verdict in ((4.99, "fine"), (5.01, "skip"), (-100.0, "fine"), (1e9, "skip")):
        guard = SpikeGuard(GuardConfig(spike="skip", factor=2.0, window_steps=5))
        assert verdicts(guard, [*window, loss]) == ["fine"] * 5 + [verdict]


def test_before_a_window_is_full_nothing_is_a_spike():
    guard = SpikeGuard(GuardConfig(spike="skip", factor=2.0, window_steps=5))
    assert verdicts(guard, [1.0, 100.0, 1.0, 1e6, 1.0]) == ["fine"] * 5


def test_spikes_do_not_enter_the_window_and_good_losses_move_it():
    guard = SpikeGuard(GuardConfig(spike="skip", factor=3.0, window_steps=4, max_skipped=3))
    assert verdicts(guard, [1.0, 1.1, 0.9, 1.0]) == ["fine"] * 4
    assert verdicts(guard, [5.0, 5.0, 5.0]) == ["skip"] * 3  # were the first counted, the second were none
    # The window slides up with the losses, so that after a while 5 is nothing special.
    assert verdicts(guard, [1.2, 1.4, 1.7, 2.2, 2.9, 4.0, 5.0]) == ["fine"] * 7
    assert guard.num_skipped == 3


def test_a_plateau_is_not_full_of_spikes():
    guard = SpikeGuard(GuardConfig(spike="skip", factor=6.0, window_steps=3))
    assert verdicts(guard, [2.0, 2.0, 2.0, 2.0 + 1e-6, 2.01, 2.1]) == ["fine"] * 5 + ["skip"]


def test_too_many_skipped_in_a_row_stop_the_run():
    guard = SpikeGuard(GuardConfig(spike="skip", window_steps=2, max_skipped=3))
    assert verdicts(guard, [1.0, 1.1, 9.0, 9.0, 9.0]) == ["fine"] * 2 + ["skip"] * 3
    with pytest.raises(
        LossSpikeError, match=r"the loss is 9 at step 6, from a mean of 1\.05 .*and the 3 updates before"
    ):
        guard.judge(9.0, 6)
    # A good one in between begins the count again.
    guard = SpikeGuard(GuardConfig(spike="skip", window_steps=2, max_skipped=1))
    assert verdicts(guard, [1.0, 1.1, 9.0, 1.0, 9.0, 1.1]) == ["fine", "fine", "skip", "fine", "skip", "fine"]
    assert guard.num_skipped == 2


def test_mode_stop_names_loss_step_and_mean():
    guard = SpikeGuard(GuardConfig(spike="stop", window_steps=2))
    said = r"the loss jumped to 9 at step 3, from a mean of 1\.05 with a standard deviation of 0\.071.*guard\.spike"
    with pytest.raises(LossSpikeError, match=said):
        verdicts(guard, [1.0, 1.1, 9.0])
    assert issubclass(LossSpikeError, TrainingError)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_skipped_or_left_to_the_other_check(loss):
    skipping = SpikeGuard(GuardConfig(spike="skip", window_steps=3, max_skipped=2))
    assert verdicts(skipping, [loss, 1.0, 1.1, loss, 0.9, loss]) == ["skip", "fine", "fine", "skip", "fine", "skip"]
    with pytest.raises(LossSpikeError, match=r"the loss is -?(nan|inf) at step"):
        verdicts(skipping, [loss, loss])
    for mode in ("off", "stop"):
        guard = SpikeGuard(GuardConfig(spike=mode, window_steps=2))
        assert verdicts(guard, [1.0, loss, 1.1, loss]) == ["fine"] * 4
        assert all(math.isfinite(kept) for kept in guard.state_dict()["good"])


def test_off_never_minds():
    guard = SpikeGuard(GuardConfig(window_steps=2))
    assert not guard.active and verdicts(guard, [1.0, 1.0, 1e9, 1.0]) == ["fine"] * 4


def test_resumed_anywhere_it_judges_as_before():
    chance = random.Random(3)
    losses = [chance.gauss(3, 0.1) + 5 * (chance.random() < 0.1) for _ in range(200)]
    config = GuardConfig(spike="skip", factor=4.0, window_steps=20)
    whole = SpikeGuard(config)
    expected = verdicts(whole, losses)
    assert 5 < expected.count("skip") == whole.num_skipped < 40
    for cut in (0, 7, 30, 31, 32, 33, 150):
        first, second = SpikeGuard(config), SpikeGuard(config)
        begun = verdicts(first, losses[:cut])
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))  # plain numbers
        assert begun + verdicts(second, losses[cut:], cut + 1) == expected
        assert second.state_dict() == whole.state_dict()


def test_the_window_is_the_last_good_losses():
    guard = SpikeGuard(GuardConfig(spike="skip", factor=5.0, window_steps=10))
    chance = random.Random(0)
    good = []
    for step in range(100):
        loss = chance.gauss(2, 0.2)
        if len(good) >= 10:
            recent = good[-10:]
            limit = statistics.mean(recent) + 5 * statistics.stdev(recent)
            assert guard.judge(limit * 1.001, step) == "skip"
        assert guard.judge(loss, step) == "fine"
        good.append(loss)
    assert guard.state_dict()["good"] == good[-10:]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spike": "ignore"}, "guard.spike is 'ignore'; choose off, skip or stop"),
        ({"factor": 0.0}, "guard.factor is 0.0"),
        ({"factor": math.inf}, "guard.factor is inf"),
        ({"factor": math.nan}, "guard.factor is nan"),
        ({"window_steps": 1}, "guard.window_steps is 1"),
        ({"max_skipped": 0}, "guard.max_skipped is 0"),
    ],
)
def test_contradictions_are_refused(changes, words):
    with pytest.raises(ConfigError, match=words):
        GuardConfig(**changes)
