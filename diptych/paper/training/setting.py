"""The base run and the labeled sets of figures 2 and 9."""

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

UNIQUE_PAIRS = 50_000  # pairs of the playground


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
    """The contrastive run from which the runs of a figure are derived.

    Raises:
        ConfigError: unknown recipe, or too few pairs.
    """
    recipe_name = recipe or ("compact-rn" if data else "playground-rn")
    source = tuple(data) if data else (f"playground:{min(UNIQUE_PAIRS, pairs)}",)
    loader = {"global_batch_size": batch_size, "seed": seed, "num_workers": workers}
    return configure(
        recipe_name, source, str(out), num_pairs=pairs, settings=settings or (), top={"seed": seed}, loader=loader
    )


def sets(
    data: Sequence[str] | None,
    evaluate: Sequence[str] | None,
    template: str,
    pictures: int | None,
    image_size: int,
    seed: int,
) -> list[Benchmark]:
    """The labeled sets, with one template and at most `pictures` images each; without data, the playground's tasks.

    Raises:
        InputError: data without a set, or a set without data.
        DataError: a set cannot be read.
    """
    if bool(data) != bool(evaluate):
        raise InputError("give both --data (pairs to train on) and --evaluate (sets to measure on), or neither")
    if not evaluate:
        return playground_tasks(seed=seed, size=image_size, num_samples=pictures or 1000)
    opened = [thinned(open_benchmark(path), pictures) for path in evaluate]
    return [dataclasses.replace(benchmark, templates=check_templates(template)) for benchmark in opened]
