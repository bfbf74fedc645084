"""Train the runs of a figure: each once, measured at chosen steps, and resumed after a stop."""

import dataclasses
import functools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diptych.data.source import Source
from diptych.embed.encoder import Evaluator
from diptych.errors import ConfigError, DataError
from diptych.evalsets.benchmark import Benchmark
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.files import read_object
from diptych.records import Broken, Result, Sample
from diptych.train import TrainConfig, fit, read_log
from diptych.train.config import check_same_run
from diptych.train.log import read_evaluations

logger = logging.getLogger(__name__)

_SETTINGS = "settings.json"


@dataclasses.dataclass(frozen=True)
class Measured:
    """The accuracy after a number of pairs, over the images of all sets together.

    Attributes:
        pairs: pairs seen so far.
        sets: numbers of correct predictions and of images, by set.
    """

    pairs: int
    sets: dict[str, tuple[int, int]]

    @property
    def n(self) -> int:
        """Number of images of all sets."""
        return sum(n for _, n in self.sets.values())

    @property
    def accuracy(self) -> float:
        """Share of correct predictions, a fraction."""
        return sum(right for right, _ in self.sets.values()) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper-Pearson interval at 99.5 %; slightly too wide if the sets differ in difficulty."""
        return clopper_pearson(sum(right for right, _ in self.sets.values()), self.n)


def train_once(config: TrainConfig, evaluators: Sequence[Evaluator], steps: Sequence[int]) -> bool:
    """Train a run and measure it after each of `steps` updates. A finished run is unchanged, a stopped one is resumed.

    Args:
        config: the run; evaluate_steps and log_steps are replaced so that all of `steps` are measured.
        evaluators: evaluators of the run.
        steps: multiples of the first one; the last is the number of updates of the run.
    Returns:
        whether the run is finished; False after SIGINT or SIGTERM.
    Raises:
        ConfigError: the folder contains a run with another configuration.
    """
    folder, first = config.folder, steps[0]
    if steps[-1] != config.num_steps or any(step % first for step in steps):
        raise ConfigError(f"steps {list(steps)} must be multiples of the first and end with {config.num_steps}")
    log_steps = max(size for size in range(1, 11) if first % size == 0)
    config = dataclasses.replace(config, evaluate_steps=first, log_steps=log_steps)
    if (folder / "results.jsonl").exists():
        check_same_run(read_object(folder / "config.json"), config)
        logger.info("%s is finished", folder)
        return True
    logger.info("training %s: %d pairs", folder, config.num_pairs)
    return fit(
        config, [_AtSteps(evaluator, folder, frozenset(steps)) for evaluator in evaluators], resume="if begun"
    ).finished


@dataclasses.dataclass(frozen=True)
class _AtSteps:
    """An evaluator that only measures after the given updates."""

    evaluator: Evaluator
    folder: Path
    steps: frozenset[int]

    def check(self, encoder: Any) -> None:
        getattr(self.evaluator, "check", lambda _: None)(encoder)

    def __call__(self, encoder: Any) -> list[Result]:
        # The log row of a step is written before the evaluation.
        return self.evaluator(encoder) if read_log(self.folder)[-1]["step"] in self.steps else []


def read_measured(folder: Path, batch_size: int) -> list[Measured]:
    """The measurements of a run in the order of steps: accuracy of the protocol "single".

    Raises:
        DataError: the run has no measurements.
    """
    sets_by_step: dict[int, dict[str, tuple[int, int]]] = {}
    for step, result in read_evaluations(folder):
        if (result.metric, result.protocol) == ("accuracy", "single"):
            sets_by_step.setdefault(step, {})[result.dataset] = (round(result.value * result.n), result.n)
    if not sets_by_step:
        raise DataError(f"{folder}/evaluations.jsonl contains no measurement; delete the folder and train again")
    return [Measured(step * batch_size, sets_by_step[step]) for step in sorted(sets_by_step)]


def claim(out: Path, settings: dict[str, Any]) -> None:
    """Claim the folder for this figure, or refuse it if its runs were measured with other settings.

    Args:
        out: folder of the figure.
        settings: plain data that determines the measurements.
    Raises:
        ConfigError: the folder cannot be written, or contains a figure with other settings; the message lists them.
    """
    path, settings = out / _SETTINGS, json.loads(json.dumps(settings))
    try:
        if path.exists():
            old_settings = read_object(path)
            differing = [f"{name} was {old_settings.get(name)!r}, now {settings[name]!r}" for name in settings]
            differing = [
                text for text, name in zip(differing, settings, strict=True) if old_settings.get(name) != settings[name]
            ]
            if differing:
                raise ConfigError(f"{out} holds another figure: {'; '.join(differing)}; choose another folder (--out)")
            return
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write to {out}: {error.strerror}; choose another folder (--out)") from error


def thinned(benchmark: Benchmark, number: int | None) -> Benchmark:
    """The set with `number` evenly spaced images; the whole set if it has no more, or if `number` is None."""
    if number is None:
        return benchmark
    total = sum(1 for shard in range(len(benchmark.source.shards)) for _ in benchmark.source.read(shard))
    if number >= total:
        return benchmark
    source = _Thinned(benchmark.source, number, total)
    return dataclasses.replace(benchmark, source=source, fingerprint=f"{benchmark.fingerprint}, {number} pictures")


@dataclasses.dataclass(frozen=True)
class _Thinned(Source):
    """A Source with `number` evenly spaced items of another source's `total` items, in one shard."""

    source: Source
    number: int
    total: int

    @property
    def shards(self) -> tuple[str, ...]:
        return (f"{self.number} of {self.total}",)

    @property
    def fingerprint(self) -> str:
        return f"{self.source.fingerprint}, {self.number} of {self.total}"

    @functools.cached_property
    def num_samples(self) -> int | None:
        return self.number

    def files(self, limit: int | None = None) -> Iterator[Path]:
        return self.source.files(limit)

    def read(self, index: int) -> Iterator[Sample | Broken]:
        items = (item for shard in range(len(self.source.shards)) for item in self.source.read(shard))
        for place, item in enumerate(items):
            if (place + 1) * self.number // self.total > place * self.number // self.total:
                yield item


def doubling_steps(num_pairs: int, batch_size: int, number: int) -> list[int]:
    """Updates after which to measure: `number` values, each double the previous one, the last at most at `num_pairs`.

    Raises:
        ConfigError: too few pairs.
    """
    first = num_pairs // batch_size // 2 ** (number - 1)
    if first < 1:
        needed = batch_size * 2 ** (number - 1)
        raise ConfigError(f"{num_pairs} pairs are too few for {number} doublings: give --pairs {needed} or more")
    return [first * 2**power for power in range(number)]


def all_finished(runs: Sequence[Callable[[], bool]]) -> bool:
    """Execute the runs one after another until one is stopped, and return whether all are finished."""
    return all(run() for run in runs)
