"""Files of our own making that may have been changed: results, predictions, checkpoints, kept vectors."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mutations import ODD_VALUES
from target import Seed, Target
from test_bad_evaluation_input import Shades, write_folders

from diptych.data.cards.table import get_card
from diptych.evaluate.predictions import read_predictions, write_predictions
from diptych.evaluate.probe.task import LINEAR_PROBE
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks.task import Setting
from diptych.evaluate.tasks.zero_shot import ZERO_SHOT
from diptych.records import Predictions, Result, check_result, merge_results, read_results, write_results
from diptych.train import CheckpointConfig
from diptych.train.checkpoint import Checkpoints

ROW = {"task": "zero_shot", "dataset": "CIFAR10", "split": "test", "metric": "accuracy", "value": 0.5, "n": 10}
ROW |= {"low": 0.4, "high": 0.6, "interval": "clopper-pearson 95%", "protocol": "single", "model": "m"}
ROW |= {"paper": {"value": 0.9, "source": "table 11"}, "run": {"command": "diptych evaluate"}}


# ---- results.jsonl


def result_seeds(folder: Path) -> list[Seed]:
    """Whole rows, a torn last one, two in one line."""
    row = json.dumps(ROW)
    texts = [f"{row}\n{row}\n{row}\n", "", f"{row}\n{row[:90]}", f"{row}{row}\n"]
    odd = [f"{row}\n{'[' * 100_000}\n", f"{row.replace('0.5', 'NaN')}\n", f"{row.replace('10', '1' * 5000)}\n"]
    return [Seed("results.jsonl", text.encode()) for text in texts] + [
        Seed("results.jsonl", text.encode(), sound=False) for text in odd
    ]


def random_rows(rng: random.Random) -> Seed:
    """Rows with one odd value each, some torn, some glued."""
    rows = []
    for _ in range(rng.randrange(1, 5)):
        row: dict[str, Any] = {**ROW, rng.choice([*ROW, "more"]): rng.choice(ODD_VALUES)}
        text = json.dumps(row, ensure_ascii=rng.random() < 0.5)
        rows.append(text[: rng.randrange(len(text))] if rng.random() < 0.2 else text)
    return Seed(
        "results.jsonl", rng.choice(["\n", "\n", "", "\r\n"]).join(rows).encode("utf-8", "surrogatepass"), sound=False
    )


def check_results(path: Path) -> None:
    """What is read can be checked, merged, and read again."""
    results = read_results(path)
    for result in results:
        check_result(result)
    own = Result(**{**ROW, "model": "another"})
    write_results([own], path)
    merge_results([own], path)
    assert own in read_results(path) and len(read_results(path)) <= len(results) + 1


# ---- predictions


def prediction_seeds(folder: Path) -> list[Seed]:
    """With ranks and without."""
    seeds = []
    for ranks in (None, np.array([1, 2, 3])):
        made = Predictions(("a", "b", "c"), np.arange(3), np.ones((3, 2), np.int64), np.ones((3, 2), np.float32), ranks)
        write_predictions(made, folder / "made.parquet")
        seeds.append(Seed("a.parquet", (folder / "made.parquet").read_bytes()))
    return seeds


def check_predictions(path: Path) -> None:
    """Arrays of one length."""
    found = read_predictions(path)
    assert len(found.keys) == len(found.labels) == len(found.classes) == len(found.scores)
    assert found.classes.shape == found.scores.shape and found.labels.ndim == 1


# ---- checkpoints


def checkpoint_seeds(folder: Path) -> list[Seed]:
    """A small state as it is written."""
    state = {"weights": torch.ones(9), "more": [{"lr": 0.5, 3: (1, None)}], "pairs": 7}
    path = Checkpoints(folder / "made", CheckpointConfig()).write(7, state)
    return [Seed("checkpoints/step-000000007.pt", path.read_bytes())]


def check_checkpoint(path: Path) -> None:
    """The newest state, or one error; with a sound one before it, that one."""
    state = Checkpoints(path.parent, CheckpointConfig()).newest()
    assert isinstance(state, dict)


# ---- kept vectors, probes, classifiers


def measure(folder: Path, out: Path) -> list[tuple[Any, ...]]:
    """The numbers of a small set."""
    setting = Setting(folder / "data", cache=out / "cache", predictions=out / "predictions")
    done = run_suite(Shades(), (ZERO_SHOT, LINEAR_PROBE), [get_card("CIFAR10")], setting, out)
    assert not done.skipped
    return [(one.task, one.metric, one.protocol, one.value, one.low, one.high) for one in done.results]


def kept_seeds(folder: Path) -> list[Seed]:
    """All that a measurement keeps."""
    write_folders(folder / "data", ("train", "test"))
    (folder / "numbers").write_text(repr(measure(folder, folder / "whole")))
    kept = sorted(path for path in (folder / "whole" / "cache").rglob("*") if path.is_file())
    return [Seed(path.relative_to(folder / "whole").as_posix(), path.read_bytes()) for path in kept]


def check_kept(path: Path) -> None:
    """Whatever is kept, the numbers are those of before."""
    folder = next(parent.parent for parent in path.parents if parent.name == "cache")
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder / "whole", work, ignore=shutil.ignore_patterns("parts", "results.jsonl"))
    shutil.copy(path, work / path.relative_to(folder))
    assert repr(measure(folder, work)) == (folder / "numbers").read_text()


RESULTS = (
    Target("results", result_seeds, check_results, random_rows),
    Target("predictions", prediction_seeds, check_predictions),
    Target("checkpoints", checkpoint_seeds, check_checkpoint),
    Target("kept", kept_seeds, check_kept, slow=True),
)
