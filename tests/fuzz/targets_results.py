"""Files of our own making that may have been changed: results, predictions, checkpoints, kept vectors."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mutations import odd_value
from shaded_sets import Shades, write_folders
from target import Seed, Target

from diptych.evalsets.cards import get_card
from diptych.evaluate.classify.classified import Classified
from diptych.evaluate.classify.label_file import LabelFile
from diptych.evaluate.classify.question import Question
from diptych.evaluate.predictions import read_predictions, write_predictions
from diptych.evaluate.provenance import run_record
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks.probe_tasks import LINEAR_PROBE
from diptych.evaluate.tasks.task import Setting
from diptych.evaluate.tasks.zero_shot import ZERO_SHOT
from diptych.paper.exhibit_table import EXHIBITS
from diptych.paper.run import write
from diptych.paper.summary import SUMMARY
from diptych.records import Predictions, check_result, merge_results, parse_result, read_results, write_results
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
        row: dict[str, Any] = {**ROW, rng.choice([*ROW, "more"]): odd_value(rng)}
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
    own = parse_result({**ROW, "model": "another"})
    write_results([own], path)
    merge_results([own], path)
    assert own in read_results(path) and len(read_results(path)) <= len(results) + 1


# ---- exhibits of results


def exhibit_seeds(folder: Path) -> list[Seed]:
    """A few numbers of each task."""
    run_record()  # it asks Git, which is no file's doing, and remembers the answer
    rows = [exhibit_row(random.Random(number)) for number in range(400)]
    return [Seed("exhibits.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())]


def exhibit_row(rng: random.Random) -> dict[str, Any]:
    """A number that some exhibit shows, with what its task tells beside it."""
    task, sets = rng.choice([need for exhibit in EXHIBITS.values() for need in exhibit.needs])
    settings = {"gflops": 4.4, "train": 900, "reference": 50, "lambda": 0.3, "train_examples": 40, "validation": "val"}
    settings |= {"examples_per_class": 4, "values": [0.4, 0.5, 0.6], "of": "CIFAR10", "severity": 3}
    settings |= {"shift": "gaussian_noise"} if rng.random() < 0.1 else {}
    breeds = {f"Breed {number}": number / 40 for number in range(37)}
    settings |= {"accuracy": breeds, "probability": breeds} if rng.random() < 0.1 else {}
    row = {**ROW, "task": task, "dataset": rng.choice(sets), "model": rng.choice(["m", "ViT-B-32/openai", "RN50"])}
    if rng.random() < 0.5:  # a row of today; the others are of the form before `condition`
        del row["paper"]
        row["condition"] = rng.choice(CONDITIONS)
    return {**row, "metric": rng.choice(METRICS), "protocol": rng.choice(PROTOCOLS), "run": {"settings": settings}}


PROTOCOLS = (
    "single",
    "ensemble",
    "features",
    "projected",
    "probe 4-shot",
    "probe full-shot",
    "projected 1-shot",
    "nearest",
)
PROTOCOLS += ("probe 4-shot on imagenet-a", "static", "adaptive", "words", "image to text", "text to image", "frames")
PROTOCOLS += ("adapted", "draws", "names", "frames_averaged")
CONDITIONS: tuple[dict[str, Any], ...] = (
    {},
    {"classifier": "probe", "shots": 4},
    {"classifier": "probe", "shots": "full", "subset": "ImageNet-A"},
    {"classifier": "static", "subset": "ImageNet-R"},
    {"classifier": "adaptive"},
    {"shift": "gaussian noise", "severity": 3},
    {"shots": 0.5},
    {"subset": 3, "severity": "x"},
)
METRICS = ("accuracy", "mean_per_class_accuracy", "roc_auc", "accuracy_top_5", "recall_at_1", "recall_at_5", "mwap")
METRICS += ("within_25km", "within_1km", "median_error_km", "accuracy_pm_0", "mean_of_top_1_and_5", "map_11_points")


def random_exhibits(rng: random.Random) -> Seed:
    """Rows of which one field, or one thing that a task tells, is odd."""
    rows = [exhibit_row(rng) for _ in range(rng.choice([1, 10, 200]))]
    for row in rng.sample(rows, k=min(len(rows), rng.choice([1, 1, 5]))):
        inside, own = row["run"]["settings"], rng.random() < 0.3
        where, name = (row, rng.choice([*row])) if own else (inside, rng.choice([*inside]))
        where[name] = odd_value(rng)
        if rng.random() < 0.1:
            row["run"] = {"settings": odd_value(rng)}
    return Seed("exhibits.jsonl", "\n".join(map(json.dumps, rows)).encode(), sound=False)


def check_exhibits(path: Path) -> None:
    """All tables and figures are made of it, or it is refused as a whole."""
    out = path.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    made = write([SUMMARY, *EXHIBITS.values()], read_results(path), out)
    assert made.page.stat().st_size > 1000 and "</html>" in made.page.read_text()[-200:]


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


# ---- rows of `classify --out`

QUESTION = Question(labels=("red", "green", "blue"))


def label_seeds(folder: Path) -> list[Seed]:
    """Rows of all three formats, as a whole run and as a stopped one leaves them."""
    seeds = []
    for suffix in ("csv", "jsonl", "parquet"):
        file = LabelFile(folder / f"made.{suffix}", QUESTION)
        with file.writing("m" * 8, []):
            best = (("red", 0.6), ("green", 0.3))
            named = [f"{name}.png" for name in ("a", 'b"\n', "c\udcff", "d")]
            sound = [Classified(Path(name), best, None) for name in named[:3]]
            file.append([*sound, Classified(Path(named[3]), (), "no picture")], file.origins(named))
            rows = file.kept_in.read_bytes()
        seeds.append(Seed(f"labels.{suffix}", (folder / f"made.{suffix}").read_bytes()))
        if suffix == "parquet":
            seeds.append(Seed("labels.parquet.unfinished.jsonl", rows))
    return seeds


def check_labels(path: Path) -> None:
    """The file is read and gone on with, each image once."""
    out = path.with_name(path.name.removesuffix(".unfinished.jsonl"))
    for other in path.parent.glob("labels.*"):
        if other != path:
            other.unlink()
    file = LabelFile(out, QUESTION)
    with file.writing("m" * 8, ["new.png"]) as missing:
        before = file.num_rows
        file.append([Classified(Path(name), (("red", 0.6),), None) for name in missing], file.origins(missing))
    assert LabelFile(out, QUESTION).num_rows == file.num_rows in (before, before + 1)


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
    kept = sorted(path for path in (folder / "whole").rglob("*") if path.is_file() and path.name != "results.jsonl")
    seeds = [Seed(path.relative_to(folder / "whole").as_posix(), path.read_bytes()) for path in kept]
    manifest = next(seed for seed in seeds if seed.name.endswith("manifest.json"))
    huge = {**json.loads(manifest.data), "shape": [2**31 - 1, 1]}  # 8 GB out of 300 bytes
    return [*seeds, Seed(manifest.name, json.dumps(huge).encode())]


def check_kept(path: Path) -> None:
    """Whatever is kept, the numbers are those of before."""
    kind = next(parent for parent in path.parents if parent.name in ("cache", "parts", "predictions"))
    folder, work = kind.parent, kind.parent / "work"
    shutil.rmtree(work, ignore_errors=True)
    # A sound measurement is used as it is: what it was made of would not be looked at.
    left_out = ("parts", "results.jsonl") if kind.name == "cache" else ()
    shutil.copytree(folder / "whole", work, ignore=shutil.ignore_patterns(*left_out))
    shutil.copy(path, work / path.relative_to(folder))
    assert repr(measure(folder, work)) == (folder / "numbers").read_text()


RESULTS = (
    Target("results", result_seeds, check_results, random_rows),
    Target("exhibits", exhibit_seeds, check_exhibits, random_exhibits, slow=True),
    Target("predictions", prediction_seeds, check_predictions),
    Target("labels", label_seeds, check_labels),
    Target("checkpoints", checkpoint_seeds, check_checkpoint),
    Target("kept", kept_seeds, check_kept, slow=True),
)
