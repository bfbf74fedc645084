"""How many pairs a run of so many minutes has: a rate measured once, before the first update, settles it."""

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

NO_LIMIT = 10**12  # pairs of a run that only its minutes end
_SHARE = 0.05  # of the budget that measuring may take
_SECONDS = 20.0  # and no more than this
_WARM_UP = 2  # updates that are not counted: buffers fill, kernels are chosen
_SLOWEST = 0.2  # of the updates, nor these: a busy moment at the start must not shorten the run
_OF_THE_RUN = 0.1  # nor more of its updates, where pairs limit the run, too
_USED = 0.96  # of the time that is left: rates fall as a machine grows warm, and the last checkpoint takes its time


def settle_length(
    config: TrainConfig, began: float, folder: Path, prepare: Callable[[], tuple[Training, Step]]
) -> TrainConfig:
    """The configuration with the number of pairs that its minutes allow on this machine, also in config.json.

    A few seconds of real training, with the run's own loader, give the rate. Its weights are thrown away, and the run
    then begins as one of `--pairs` begins: with the same number of pairs the numbers are the same.

    Args:
        config: `num_pairs` is the most; without `minutes` all stays as it is.
        began: time.monotonic() when the run began; the budget counts from there.
        folder: of the run.
        prepare: builds what trains, from the start.
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
            "%.0f pairs/s: %s pairs, the least of this run, take %.1f minutes in place of %g",
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
    """The configuration with the length that was settled when the run began.

    Args:
        saved: the configuration in the checkpoint; None where there is none.
    """
    if saved is None or config.minutes is None or saved.get("minutes") != config.minutes:
        return config
    return with_length(config, int(saved["num_pairs"]))


def with_length(config: TrainConfig, num_pairs: int) -> TrainConfig:
    """The run with that many pairs; its warm-up takes no more than a tenth of the updates."""
    changed = dataclasses.replace(config, num_pairs=num_pairs)
    return dataclasses.replace(changed, schedule=config.schedule.shortened(changed.num_steps))


def whole_steps(num_pairs: float, config: TrainConfig) -> int:
    """That many pairs in whole batches: at least one and `config.least_pairs`, at most `config.num_pairs` pairs."""
    steps = max(1, int(max(num_pairs, config.least_pairs)) // config.global_batch_size)
    return min(config.num_pairs, steps * config.global_batch_size)


def _measured_rate(config: TrainConfig, seconds: float, prepare: Callable[[], tuple[Training, Step]]) -> float:
    """Pairs per second of all ranks together, over at least one update and about so many seconds."""
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
        taken = [after - before for before, after in itertools.pairwise(clocks)]
        return config.global_batch_size / trimmed_mean(taken[min(_WARM_UP, len(taken) - 1) :])
    finally:
        training.loader.close()


def trimmed_mean(seconds: list[float]) -> float:
    """Mean of the updates' times without the slowest fifth: stalls go, a loader that is always late stays."""
    return statistics.mean(sorted(seconds)[: math.ceil((1 - _SLOWEST) * len(seconds))])
