"""A run of so many minutes: its length is settled once, and then it is the run with that many pairs."""

import dataclasses
import json

import pytest
from ranks import run_ranks
from training import tiny_config

from diptych.errors import ConfigError
from diptych.quickstart import job
from diptych.recipes import configure
from diptych.train import CheckpointConfig, ScheduleConfig, fit
from diptych.train.length import NO_LIMIT, resumed_length, trimmed_mean, with_length

MINUTES = 0.02  # 1.2 s


def rows(folder):
    """What the log says of each step, but for the clock."""
    found = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [{name: row[name] for name in ("step", "loss", "lr", "gradient_norm", "scale")} for row in found]


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    """A run of some 1.2 seconds that would be endless otherwise."""
    config = tiny_config(tmp_path_factory.mktemp("timed") / "run", minutes=MINUTES, schedule=ScheduleConfig(50))
    return fit(dataclasses.replace(config, num_pairs=NO_LIMIT, checkpoint=CheckpointConfig(every_steps=1)))


def test_it_ends_and_says_where(timed):
    saved = json.loads((timed.folder / "config.json").read_text())
    assert timed.finished and timed.step == timed.config.num_steps and timed.step < 10_000
    assert saved["num_pairs"] == timed.config.num_pairs == 16 * timed.step and saved["minutes"] == MINUTES
    assert rows(timed.folder)[-1]["lr"] < 1e-3 * 0.5 or timed.step <= 3  # the cosine ended, unless there were so few


def test_the_numbers_are_those_of_the_same_number_of_pairs(timed, tmp_path):
    fit(dataclasses.replace(timed.config, out=str(tmp_path / "run"), minutes=None))
    assert rows(tmp_path / "run") == rows(timed.folder)
    weights = [folder / "model" / "model.safetensors" for folder in (timed.folder, tmp_path / "run")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_resuming_keeps_the_length(timed):
    """The command names the minutes again, and no number of pairs."""
    asked = dataclasses.replace(timed.config, num_pairs=NO_LIMIT, schedule=ScheduleConfig(50))
    resumed = fit(asked, resume=True)
    assert resumed.config == timed.config and resumed.step == timed.step


def test_other_minutes_are_another_run(timed):
    with pytest.raises(ConfigError, match=r"minutes was 0\.02 and is now 0\.03"):
        fit(dataclasses.replace(timed.config, minutes=0.03), resume=True)
    assert resumed_length(dataclasses.replace(timed.config, minutes=0.03), timed.config.to_dict()).minutes == 0.03


def test_the_pairs_are_the_most(tmp_path):
    run = fit(tiny_config(tmp_path / "run", 3, minutes=5.0))
    assert run.finished and run.step == 3 and run.config.num_pairs == 48


def test_at_least_one_update(tmp_path):
    run = fit(tiny_config(tmp_path / "run", minutes=1e-6))
    assert run.finished and run.step == 1


def test_a_slow_machine_trains_on_the_least(tmp_path, caplog):
    """The quickstart's kind of run: what an unlucky start measures cannot make it too short to learn."""
    caplog.set_level("WARNING", "diptych")
    run = fit(dataclasses.replace(tiny_config(tmp_path / "run", minutes=1e-6, least_pairs=90), num_pairs=160))
    assert run.finished and run.step == 5 and run.config.num_pairs == 80  # whole batches of 16
    assert "80 pairs, the minimum of this run, take" in caplog.text
    most = fit(tiny_config(tmp_path / "most", 3, minutes=1e-6, least_pairs=90))
    assert most.config.num_pairs == 48


def test_a_stall_does_not_count():
    """Ten updates of a second, two of them held up for a minute; every second one late is the loader's own rate."""
    assert trimmed_mean([1.0] * 4 + [60.0] * 2 + [1.0] * 4) == 1.0
    assert trimmed_mean([1.0, 3.0] * 5) == pytest.approx((5 * 1 + 3 * 3) / 8)
    assert trimmed_mean([2.0]) == 2.0


def _length_of_a_timed_run(folder):
    config = tiny_config(folder, minutes=MINUTES, data=("playground:3000",))  # several shards: one a rank at least
    run = fit(dataclasses.replace(config, num_pairs=NO_LIMIT))
    return [run.config.num_pairs, run.step]


def test_ranks_settle_the_same_length(tmp_path):
    one, other = run_ranks(2, _length_of_a_timed_run, str(tmp_path / "run"))
    saved = json.loads((tmp_path / "run" / "config.json").read_text())
    assert one == other == [saved["num_pairs"], saved["num_pairs"] // 16] and one[1] >= 1


def test_only_the_quickstart_without_a_length_has_a_least(monkeypatch, tmp_path):
    asked = []

    class Asked(Exception):
        pass

    def fit_nothing(config, *_, **__):
        asked.append((config.num_pairs, config.minutes, config.least_pairs))
        raise Asked

    monkeypatch.setattr(job, "fit", fit_nothing)
    for words in ({}, {"minutes": 1.0}, {"num_pairs": 6400}):
        with pytest.raises(Asked):
            job.run_quickstart(tmp_path / "run", **words)
    assert asked == [(120_000, 3.5, 60_000), (120_000, 1.0, 0), (6400, None, 0)]


def test_a_short_run_warms_up_for_a_tenth():
    config = tiny_config("run", schedule=ScheduleConfig(50))
    assert with_length(config, 16 * 100).schedule.warmup_steps == 10
    assert with_length(config, 16 * 1000).schedule.warmup_steps == 50


def test_minutes_in_place_of_pairs_or_beside_them():
    def length(**changes):
        config = configure("compact-rn", ("playground:1000",), "run", top={}, **changes)
        return config.minutes, config.num_pairs

    assert length(minutes=2.0) == length(settings=["minutes=2"]) == (2.0, NO_LIMIT)
    assert length(minutes=2.0, num_pairs=5120) == (2.0, 5120)
    assert length(minutes=2.0, epochs=3) == (2.0, 3000)
    assert length(num_pairs=5120) == (None, 5120)
    with pytest.raises(ConfigError, match="--pairs or --epochs, --minutes"):
        length()


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_minutes_must_be_above_zero(minutes):
    with pytest.raises(ConfigError, match="minutes is"):
        tiny_config("run", minutes=minutes)
