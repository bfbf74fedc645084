"""`diptych.evaluate(model, sets, tasks)`: the suite's tasks on any sets, as one call that returns Results."""

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
from diptych.evaluate.choosing import card_of_folder, cards_of_names
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks.table import get_tasks
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

    Each task measures those of the sets to which it applies. A folder that is called like a set of the paper is
    measured as that set, with the paper's metric and prompts, and its Results carry that set's name.

    Args:
        model: a name that `diptych.load` takes, or an Encoder.
        sets: folders of evaluation sets; with `data_root` names of sets in that folder.
        tasks: names of tasks; `diptych.evaluate.tasks.table.TASKS` has all of them.
        data_root: a folder of evaluation sets, for `sets` that are names such as "CIFAR10".
        out: write Results into this folder, as `diptych suite --out` does, and do not measure again what it holds of
            the same model, data and task; None writes nothing.
        cache: keep encoded images and classifiers in this folder; None keeps nothing.
        predictions: write Predictions into this folder, one file per measurement; None writes none.
        num_workers: processes that decode images; it changes no number.
        seed: of every draw (few-shot samples, splits, resamples).
        partial: measure also sets of which many classes are missing.
        device, precision: as in `diptych.load`, for a model that is given by its name.
    Returns:
        The Results, set by set.
    Raises:
        InputError: a set or the model cannot be used, or something could not be measured. With `out`, all other
            measurements are made first, and kept.
        ConfigError: there is no such task, a task applies to none of the sets, or a set to none of the tasks.
    """
    chosen = get_tasks([tasks] if isinstance(tasks, str) else tasks)
    if not chosen:
        raise ConfigError("name at least one task")
    rows = _find_sets(sets, data_root)
    _check_applies(chosen, rows)
    encoder = load(model, device, precision) if isinstance(model, str | Path) else as_encoder(model)
    results, failed = [], []
    with tempfile.TemporaryDirectory(prefix="diptych-") as nowhere:
        folder = expanded(nowhere if out is None else out)
        for root, card in rows:
            setting = Setting(root, _path(cache), _path(predictions), num_workers, seed, partial)
            measured = run_suite(encoder, [task for task in chosen if task.applies(card)], [card], setting, folder)
            results += measured.results
            failed += [f"{row.task} on {row.dataset} could not be measured: {row.reason}" for row in measured.skipped]
            if failed and out is None:
                break  # nothing would be kept
    if failed:
        raise InputError("\n".join(failed))
    return results


def _check_applies(tasks: Sequence[Task], rows: Sequence[tuple[Path, Card]]) -> None:
    """Each task must apply to one of the sets, and each set to one of the tasks."""
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
    """The folder in which each set lies, and its card."""
    given: list[Any] = [sets] if isinstance(sets, str | Path | Benchmark) else list(sets)
    if not given:
        raise InputError("name at least one evaluation set")
    for one in given:
        if isinstance(one, Benchmark):
            where = "" if one.folder is None else f" {str(one.folder)!r}"
            raise InputError(
                f"{one.name}: tasks open a set's splits themselves, so give its folder{where}, not a Benchmark; "
                "ZeroShot(benchmark) measures one split"
            )
        if not isinstance(one, str | Path):
            raise InputError(f"a set is given by its folder or its name, not by {type(one).__name__}")
    if data_root is None:
        rows = [card_of_folder(one) for one in given]
    else:
        root = expanded(data_root)
        rows = [(root, card) for card in cards_of_names(root, [str(one) for one in given])]
    counts = Counter(card.name for _, card in rows)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise InputError(f"two evaluation sets are called {twice[0]}; measure them in two calls")
    return rows
