"""The number of pairs of a run with `minutes`: determined by a rate measured once, before the first update."""

import dataclasses
import itertools
import logging
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diptych import distributed
from diptych.train.config import TrainConfig
from diptych.train.network import Step
from diptych.train.run_folder import write_config
from diptych.train.state import Training

logger = logging.getLogger(__name__)

NO_LIMIT = 10**12  # num_pairs of a run that is limited only by its minutes
_SHARE = 0.05  # of the budget, for measuring
_SECONDS = 20.0  # at most, for measuring
_WARM_UP = 2  # updates that do not count: buffers fill, kernels are chosen
_SLOWEST = 0.2  # share of updates that do not count either: a busy moment at the start must not shorten the run
_OF_THE_RUN = 0.1  # at most this share of its updates, if the run is limited by pairs, too
_USED = 0.96  # of the time left: machines slow down as they get warm, and the last checkpoint takes time


def settle_length(
    config: TrainConfig, began: float, folder: Path, prepare: Callable[[], tuple[Training, Step]]
) -> TrainConfig:
    """The configuration with the number of pairs that its minutes allow on this machine, also written to config.json.

    A few seconds of real training, with the run's own loader, give the rate. The trained weights are discarded, and
    the run then starts like one with `--pairs`: the same number of pairs gives the same numbers.

    Args:
        config: `num_pairs` is the maximum; without `minutes` the config is returned unchanged.
        began: time.monotonic() at the start of the run; the budget counts from there.
        folder: of the run.
        prepare: builds a new training state and step.
    """
    if config.minutes is None:
        return config
    budget = 60 * config.minutes
    rate = _measured_rate(config, min(_SHARE * budget, _SECONDS), prepare)
    left = max(0.0, budget - (time.monotonic() - began))
    num_pairs = distributed.on_main(lambda: whole_steps(rate * left * _USED, config))
    settled = with_length(config, num_pairs)
    seconds = num_pairs / max(rate, 1e-9)
    if seconds > left:
        logger.warning(
            "%.0f pairs/s: %s pairs, the minimum of this run, take %.1f minutes instead of %g",
            rate,
            f"{num_pairs:,}",
            seconds / 60,
            config.minutes,
        )
    else:
        logger.info("%.0f pairs/s: %s pairs in %g minutes", rate, f"{num_pairs:,}", config.minutes)
    distributed.on_main(lambda: write_config(settled, folder))
    return settled


def resumed_length(config: TrainConfig, saved: dict[str, Any] | None) -> TrainConfig:
    """The configuration with the length that was determined when the run started.

    Args:
        saved: the configuration in the checkpoint; None if there is none.
    """
    if saved is None or config.minutes is None or saved.get("minutes") != config.minutes:
        return config
    return with_length(config, int(saved["num_pairs"]))


def with_length(config: TrainConfig, num_pairs: int) -> TrainConfig:
    """The configuration with `num_pairs` pairs; its warm-up takes at most a tenth of the updates."""
    changed = dataclasses.replace(config, num_pairs=num_pairs)
    return dataclasses.replace(changed, schedule=config.schedule.shortened(changed.num_steps))


def whole_steps(num_pairs: float, config: TrainConfig) -> int:
    """num_pairs in whole batches: at least one batch and `config.least_pairs`, at most `config.num_pairs`."""
    steps = max(1, int(max(num_pairs, config.least_pairs)) // config.global_batch_size)
    return min(config.num_pairs, steps * config.global_batch_size)


def _measured_rate(config: TrainConfig, seconds: float, prepare: Callable[[], tuple[Training, Step]]) -> float:
    """Pairs per second of all ranks together, over at least one update and about `seconds` seconds."""
    training, step = prepare()
    clocks = [time.monotonic()]  # before the first update, and after each
    try:
        batches = iter(training.loader)
        most = max(_WARM_UP + 1, _OF_THE_RUN * config.num_steps)
        while len(clocks) == 1 or (len(clocks) <= most and not distributed.any_rank(clocks[-1] - clocks[0] >= seconds)):
            training.optimizer.zero_grad()
            step(next(batches), training.step)
            training.optimizer.step(0.0, config.optimizer.clip_norm)
            training.step += 1
            clocks.append(time.monotonic())
        durations = [after - before for before, after in itertools.pairwise(clocks)]
        return config.global_batch_size / trimmed_mean(durations[min(_WARM_UP, len(durations) - 1) :])
    finally:
        training.loader.close()


def trimmed_mean(seconds: list[float]) -> float:
    """Mean of the updates' times without the slowest fifth: drops stalls, but keeps a loader that is always late."""
    return statistics.mean(sorted(seconds)[: math.ceil((1 - _SLOWEST) * len(seconds))])
