"""Training the runs of a figure: each once, measured at chosen steps, gone on with where it was stopped."""

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
    """The accuracy after so many pairs, over the pictures of all sets together.

    Attributes:
        pairs: pairs seen until then.
        sets: for each set its right answers and its pictures.
    """

    pairs: int
    sets: dict[str, tuple[int, int]]

    @property
    def n(self) -> int:
        """Pictures of all sets."""
        return sum(n for _, n in self.sets.values())

    @property
    def accuracy(self) -> float:
        """Share of right answers, a fraction."""
        return sum(right for right, _ in self.sets.values()) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper-Pearson at 99.5 %; a little wide where the sets differ in difficulty."""
        return clopper_pearson(sum(right for right, _ in self.sets.values()), self.n)


def train_once(config: TrainConfig, evaluators: Sequence[Evaluator], steps: Sequence[int]) -> bool:
    """Train a run and measure it after `steps` updates; a finished run is left as it is, a stopped one gone on with.

    Args:
        config: the run; its evaluate_steps and log_steps are set so that all of `steps` are met.
        steps: multiples of the first one; the last is the number of updates of the run.
    Returns:
        whether the run is finished; False after SIGINT or SIGTERM.
    Raises:
        ConfigError: the folder holds a run of another configuration.
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
    return fit(config, [_AtSteps(one, folder, frozenset(steps)) for one in evaluators], resume="if begun").finished


@dataclasses.dataclass(frozen=True)
class _AtSteps:
    """An evaluator that measures after the given updates and passes over the others."""

    evaluator: Evaluator
    folder: Path
    steps: frozenset[int]

    def check(self, encoder: Any) -> None:
        getattr(self.evaluator, "check", lambda _: None)(encoder)

    def __call__(self, encoder: Any) -> list[Result]:
        # The row of this step is written before it is measured.
        return self.evaluator(encoder) if read_log(self.folder)[-1]["step"] in self.steps else []


def read_measured(folder: Path, batch_size: int) -> list[Measured]:
    """What a run's evaluators measured, in the order of steps: accuracy of the protocol "single".

    Raises:
        DataError: the run has no measurement.
    """
    found: dict[int, dict[str, tuple[int, int]]] = {}
    for step, one in read_evaluations(folder):
        if (one.metric, one.protocol) == ("accuracy", "single"):
            found.setdefault(step, {})[one.dataset] = (round(one.value * one.n), one.n)
    if not found:
        raise DataError(f"{folder}/evaluations.jsonl holds no measurement; delete the folder and train anew")
    return [Measured(step * batch_size, found[step]) for step in sorted(found)]


def claim(out: Path, settings: dict[str, Any]) -> None:
    """Make the folder this figure's, or refuse one whose runs were measured in another way.

    Args:
        settings: plain data that decides what is measured.
    Raises:
        ConfigError: the folder cannot be written, or holds a figure of other settings, which are named.
    """
    path, settings = out / _SETTINGS, json.loads(json.dumps(settings))
    try:
        if path.exists():
            before = read_object(path)
            differing = [f"{name} was {before.get(name)!r}, now {settings[name]!r}" for name in settings]
            differing = [
                text for text, name in zip(differing, settings, strict=True) if before.get(name) != settings[name]
            ]
            if differing:
                raise ConfigError(f"{out} holds another figure: {'; '.join(differing)}; choose another folder (--out)")
            return
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write to {out}: {error.strerror}; choose another folder (--out)") from error


def thinned(benchmark: Benchmark, number: int | None) -> Benchmark:
    """The set with `number` of its pictures, evenly spread over it; all of them where it has no more, or None."""
    if number is None:
        return benchmark
    total = sum(1 for shard in range(len(benchmark.source.shards)) for _ in benchmark.source.read(shard))
    if number >= total:
        return benchmark
    source = _Thinned(benchmark.source, number, total)
    return dataclasses.replace(benchmark, source=source, fingerprint=f"{benchmark.fingerprint}, {number} pictures")


@dataclasses.dataclass(frozen=True)
class _Thinned(Source):
    """A Source with `number` of another's `total` items, evenly spread; its items have one shard."""

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
    """Updates after which to measure: `number` of them, each twice the one before, the last at `num_pairs` at most.

    Raises:
        ConfigError: there are too few pairs.
    """
    first = num_pairs // batch_size // 2 ** (number - 1)
    if first < 1:
        needed = batch_size * 2 ** (number - 1)
        raise ConfigError(f"{num_pairs} pairs are too few for {number} doublings: give --pairs {needed} or more")
    return [first * 2**power for power in range(number)]


def all_finished(runs: Sequence[Callable[[], bool]]) -> bool:
    """Do one run after another until one is stopped; whether all are finished."""
    return all(run() for run in runs)
