"""What figures 2 and 9 are trained and measured on: a base run, and labelled sets."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from diptych.errors import InputError
from diptych.evalsets.benchmark import Benchmark, open_benchmark
from diptych.evalsets.playground_tasks import playground_tasks
from diptych.evaluate.zero_shot.class_prompts import check_templates
from diptych.paper.training.runs import thinned
from diptych.recipes import configure
from diptych.train import TrainConfig

UNIQUE_PAIRS = 50_000  # of the playground


def base_run(
    recipe: str | None,
    data: Sequence[str] | None,
    out: Path,
    pairs: int,
    *,
    batch_size: int | None,
    seed: int,
    workers: int | None,
    settings: Sequence[str] | None = None,
) -> TrainConfig:
    """The contrastive run that a figure's runs are changes of.

    Raises:
        ConfigError: there is no such recipe, or too few pairs.
    """
    chosen = recipe or ("compact-rn" if data else "playground-rn")
    source = tuple(data) if data else (f"playground:{min(UNIQUE_PAIRS, pairs)}",)
    loader = {"global_batch_size": batch_size, "seed": seed, "num_workers": workers}
    return configure(
        chosen, source, str(out), num_pairs=pairs, settings=settings or (), top={"seed": seed}, loader=loader
    )


def sets(
    data: Sequence[str] | None,
    evaluate: Sequence[str] | None,
    template: str,
    pictures: int | None,
    image_size: int,
    seed: int,
) -> list[Benchmark]:
    """The labelled sets, with the template that is used and at most so many pictures each; the playground's tasks
    where no data are named.

    Raises:
        InputError: data without a set, or a set without data.
        DataError: a set is broken.
    """
    if bool(data) != bool(evaluate):
        raise InputError("give both --data (pairs to train on) and --evaluate (sets to measure on), or neither")
    if not evaluate:
        return playground_tasks(seed=seed, size=image_size, num_samples=pictures or 1000)
    opened = [thinned(open_benchmark(path), pictures) for path in evaluate]
    return [dataclasses.replace(one, templates=check_templates(template)) for one in opened]
