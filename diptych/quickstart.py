"""The main job on the embedded pairs: train, test zero-shot, and write a page about it."""

import dataclasses
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import torch

from diptych.data.benchmarks import Benchmark
from diptych.data.playground import Playground, playground_tasks
from diptych.embed.model import Model
from diptych.evaluate import ZeroShot, confusion_matrix, read_predictions, run_record
from diptych.recipes import configure
from diptych.report import Confusion, Match, Pair, QuickstartReport, Retrieval, Similarity, write_report
from diptych.train import Run, TrainConfig, fit, read_log

logger = logging.getLogger(__name__)

PAIRS = 120_000  # four to five minutes on two cores
UNIQUE_PAIRS = 50_000
SIZE = 64
CONFUSED_TASK = "shape"
_POOL = 400  # test pairs among which neighbours are looked for
_OURS = ("checkpoints", "tensorboard", "predictions", "model")


@dataclasses.dataclass(frozen=True)
class Quickstart:
    """What a quickstart leaves: the run with its results, the tasks they are of, and the page.

    `report` is None where SIGINT or SIGTERM stopped the training; the checkpoint is written.
    """

    run: Run
    tasks: list[Benchmark]
    report: Path | None


def run_quickstart(out: Path, *, num_pairs: int = PAIRS, seed: int = 0, resume: bool = False) -> Quickstart:
    """Train on the playground, measure every task, write out/report.html and out/results.jsonl.

    Args:
        out: folder of the run; what an earlier quickstart left there is replaced unless `resume`.
        num_pairs: pairs to train on, with repetition.
        seed: of the weights, and of the training pictures.
        resume: go on with a run that was stopped.
    """
    if not resume:
        _clear(out)
    config = configure(
        "quickstart",
        (f"playground:{min(UNIQUE_PAIRS, num_pairs)}",),
        str(out),
        num_pairs=num_pairs,
        top={"seed": seed},
        loader={"seed": seed},
    )
    tasks = playground_tasks(seed=seed, size=SIZE)
    evaluators = [ZeroShot(task, predictions_folder=out / "predictions") for task in tasks]
    run = fit(config, evaluators, resume=resume)
    if not run.finished:
        return Quickstart(run, tasks, None)
    report = out / "report.html"
    write_report(_report(run, config, tasks, seed), report)
    return Quickstart(run, tasks, report)


def _report(run: Run, config: TrainConfig, tasks: list[Benchmark], seed: int) -> QuickstartReport:
    pairs = _pairs(Playground(_POOL, seed=seed, size=SIZE, split="test"))
    pictures, captions = [pair.image for pair in pairs], [pair.caption for pair in pairs]
    cosines = (run.model.encode_images(pictures) @ run.model.encode_texts(captions).T).numpy()
    shown = _distinct(captions, 10)
    return QuickstartReport(
        title=f"A CLIP model learned pictures from {config.num_pairs:,} captions and now classifies with words alone",
        results=run.results,
        chance={task.name: 1 / len(task.class_names) for task in tasks},
        log=read_log(run.folder),
        similarity=Similarity(
            [pictures[i] for i in shown], [captions[i] for i in shown], cosines[np.ix_(shown, shown)]
        ),
        captions_of_pictures=[
            _nearest(i, pictures, captions, captions, cosines) for i in _distinct(captions, 4, start=20)
        ],
        pictures_of_captions=[
            _nearest(i, captions, pictures, captions, cosines.T) for i in _distinct(captions, 4, start=40)
        ],
        confusion=_confusion(run, next(task for task in tasks if task.name == CONFUSED_TASK)),
        training_pairs=_pairs(Playground(12, seed=seed, size=SIZE)),
        facts=_facts(run, config, run.model, seed),
        next_steps=_NEXT_STEPS,
    )


def _pairs(playground: Playground) -> list[Pair]:
    """The first shard's pictures with the first caption of each."""
    return [Pair(np.asarray(sample.image), sample.texts[0]) for sample in playground.read(0)]


def _distinct(captions: list[str], number: int, start: int = 0) -> list[int]:
    """Indices of the first `number` different captions from `start` on."""
    chosen: dict[str, int] = {}
    for index in range(start, len(captions)):
        chosen.setdefault(captions[index], index)
    return list(chosen.values())[:number]


def _nearest(query: int, queries: list, items: list, captions: list[str], scores: np.ndarray, k: int = 5) -> Retrieval:
    """The k best different items for a query; right is an item whose caption is the query's own."""
    seen: set[str] = set()
    matches = []
    for index in np.argsort(-scores[query], kind="stable"):
        if captions[index] in seen:
            continue
        seen.add(captions[index])
        matches.append(Match(items[index], float(scores[query, index]), captions[index] == captions[query]))
        if len(matches) == k:
            break
    return Retrieval(queries[query], matches)


def _confusion(run: Run, task: Benchmark) -> Confusion:
    (path,) = (run.folder / "predictions").rglob(f"{task.name}-{task.split}-ensemble.parquet")
    predictions = read_predictions(path)
    counts = confusion_matrix(predictions.labels, predictions.classes[:, 0], len(task.class_names))
    return Confusion(task.name, task.class_names, counts)


def _facts(run: Run, config: TrainConfig, model: Model, seed: int) -> dict[str, str]:
    log = read_log(run.folder)
    record = run_record("diptych quickstart")
    seconds = log[-1]["seconds"]
    return {
        "command": f"diptych quickstart --pairs {config.num_pairs} --seed {seed}",
        "commit": str(record["commit"]),
        "machine": str(record["machine"]),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "seconds": f"{seconds:.1f}",
        "parameters": str(config.model.num_parameters()),
        "pairs": f"{config.num_pairs:,}",
        "different pairs": f"{min(UNIQUE_PAIRS, config.num_pairs):,}",
        "batch size": str(config.global_batch_size),
        "seed": str(seed),
    }


_NEXT_STEPS = (
    ("diptych classify picture.png --labels 'red star,blue circle'", "name your own pictures with your own words"),
    ("diptych train my-shards/ --recipe tiny-rn --epochs 10 --out runs/mine", "train on your own pairs"),
    ("diptych evaluate runs/mine/model cifar10/", "measure a model on an evaluation set"),
)


def _clear(out: Path) -> None:
    """Remove what an earlier quickstart wrote, and nothing else."""
    if not (out / "config.json").exists():
        return
    for name in _OURS:
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "report.html").unlink(missing_ok=True)
