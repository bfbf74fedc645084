"""`diptych.evaluate(model, sets, tasks)`: run the suite's tasks on any sets in one call that returns Results."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from diptych.embed.encoder import Encoder
from diptych.embed.resolver import as_encoder, load
from diptych.errors import ConfigError, InputError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.card import Card
from diptych.evalsets.user_sets import card_of_folder
from diptych.evaluate.choose_sets import cards_of_names
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks.registry import get_tasks
from diptych.evaluate.tasks.task import Setting, Task
from diptych.files import expanded
from diptych.records import Result


def evaluate(
    model: str | Path | Encoder | Any,
    sets: str | Path | Sequence[str | Path],
    tasks: str | Sequence[str] = ("zero_shot",),
    *,
    data_root: str | Path | None = None,
    out: str | Path | None = None,
    cache: str | Path | None = None,
    predictions: str | Path | None = None,
    num_workers: int = 0,
    seed: int = 0,
    partial: bool = False,
    device: str | torch.device | None = None,
    precision: str = "fp32",
) -> list[Result]:
    """Measure a model by tasks on evaluation sets: the same numbers as `diptych suite`.

    Each task measures the sets that it applies to. A folder with the name of a set of the paper is measured as that
    set, with the paper's metric and prompts, and its Results carry that set's name.

    Args:
        model: a name that `diptych.load` takes, or an Encoder.
        sets: folders of evaluation sets; with `data_root`, names of sets in that folder.
        tasks: names of tasks; `diptych.evaluate.tasks.registry.TASKS` lists all of them.
        data_root: a folder of evaluation sets, if `sets` are names such as "CIFAR10".
        out: write Results into this folder, as `diptych suite --out` does. Results that it already holds for the same
            model, data and task are reused. None writes nothing.
        cache: cache encoded images and classifiers in this folder; None caches nothing.
        predictions: write Predictions into this folder, one file per measurement; None writes none.
        num_workers: processes that decode images; the numbers do not depend on it.
        seed: seed of every draw (few-shot samples, splits, resamples).
        partial: also measure sets that lack many of their classes.
        device, precision: as in `diptych.load`, if the model is given by name.
    Returns:
        The Results, set by set.
    Raises:
        InputError: a set or the model cannot be used, or a measurement failed. With `out`, all other measurements are
            made first and saved.
        ConfigError: a task does not exist, a task applies to none of the sets, or none of the tasks applies to a set.
    """
    chosen = get_tasks([tasks] if isinstance(tasks, str) else tasks)
    if not chosen:
        raise ConfigError("name at least one task")
    rows = _find_sets(sets, data_root)
    _check_applies(chosen, rows)
    encoder = load(model, device, precision) if isinstance(model, str | Path) else as_encoder(model)
    results, failures = [], []
    with tempfile.TemporaryDirectory(prefix="diptych-") as nowhere:
        folder = expanded(nowhere if out is None else out)
        for root, card in rows:
            setting = Setting(root, _path(cache), _path(predictions), num_workers, seed, partial)
            outcome = run_suite(encoder, [task for task in chosen if task.applies(card)], [card], setting, folder)
            results += outcome.results
            failures += [f"{row.task} on {row.dataset} could not be measured: {row.reason}" for row in outcome.skipped]
            if failures and out is None:
                break  # without `out`, later results would be lost
    if failures:
        raise InputError("\n".join(failures))
    return results


def _check_applies(tasks: Sequence[Task], rows: Sequence[tuple[Path, Card]]) -> None:
    """Check that each task applies to at least one set and that each set has at least one task."""
    for task in tasks:
        if not any(task.applies(card) for _, card in rows):
            raise ConfigError(f"the task {task.name} applies to none of these sets: {_names(rows)}")
    for _, card in rows:
        if not any(task.applies(card) for task in tasks):
            raise ConfigError(f"none of these tasks applies to {card.title}: {', '.join(task.name for task in tasks)}")


def _path(folder: str | Path | None) -> Path | None:
    return None if folder is None else Path(folder)


def _names(rows: Sequence[tuple[Path, Card]]) -> str:
    return ", ".join(card.title for _, card in rows)


def _find_sets(sets: str | Path | Sequence[str | Path], data_root: str | Path | None) -> list[tuple[Path, Card]]:
    """The parent folder and the card of each set."""
    requested: list[Any] = [sets] if isinstance(sets, str | Path | Benchmark) else list(sets)
    if not requested:
        raise InputError("name at least one evaluation set")
    for entry in requested:
        if isinstance(entry, Benchmark):
            where = "" if entry.folder is None else f" {str(entry.folder)!r}"
            raise InputError(
                f"{entry.name}: a task opens the set's splits itself, so give the folder{where}, not a Benchmark; "
                "ZeroShot(benchmark) measures one split"
            )
        if not isinstance(entry, str | Path):
            raise InputError(f"a set is given by its folder or its name, not by {type(entry).__name__}")
    if data_root is None:
        rows = [card_of_folder(entry) for entry in requested]
    else:
        root = expanded(data_root)
        rows = [(root, card) for card in cards_of_names(root, [str(entry) for entry in requested])]
    counts = Counter(card.name for _, card in rows)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise InputError(f"two evaluation sets are called {twice[0]}; measure them in two calls")
    return rows
