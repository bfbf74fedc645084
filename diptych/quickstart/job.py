"""The main job on the embedded pairs: train, test zero-shot, and write a page about it."""

import dataclasses
import json
import logging
import shlex
import shutil
from pathlib import Path

import numpy as np

from diptych.data.playground import Playground
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.playground_tasks import playground_tasks
from diptych.evaluate import ZeroShot
from diptych.files import expanded
from diptych.model.presets import get_preset
from diptych.quickstart.run_page import facts, matches, prompt_gains, weakest_confusion
from diptych.recipes import configure
from diptych.report import Pair, RunReport, write_report
from diptych.train import Run, TrainConfig, fit, read_log
from diptych.train.inputs import is_playground

logger = logging.getLogger(__name__)

PAIRS = 120_000
MINUTES = 3.5  # a slow machine stops earlier
LEAST_PAIRS = 60_000  # but not before these: with fewer there is little to see
UNIQUE_PAIRS = 50_000
SIZE = 64
_HEADLINE = "held_out_colour_shape"  # the task that leads the page
_FORMER = "playground-rn"  # what earlier versions trained
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


def run_quickstart(
    out: str | Path, *, num_pairs: int | None = None, minutes: float | None = None, seed: int = 0, resume: bool = False
) -> Quickstart:
    """Train on the playground, measure every task, write out/report.html and out/results.jsonl.

    Args:
        out: folder of the run; an earlier quickstart there is replaced unless `resume`, any other run is refused.
        num_pairs: pairs to train on, with repetition; at most these where `minutes` is given, too.
        minutes: of training. Without both, PAIRS or MINUTES, whichever ends first, and LEAST_PAIRS on a slow machine.
        seed: of the weights, and of the training pictures.
        resume: go on with a run that was stopped.
    """
    out = expanded(out)
    least = LEAST_PAIRS if num_pairs is None and minutes is None else 0
    if num_pairs is None:
        num_pairs, minutes = PAIRS, MINUTES if minutes is None else minutes
    config = configure(
        "quickstart",
        (f"playground:{min(UNIQUE_PAIRS, num_pairs)}",),
        str(out),
        num_pairs=num_pairs,
        minutes=minutes,
        top={"seed": seed, "least_pairs": least},
        loader={"seed": seed},
    )
    if not resume:
        _clear(out, config)
    tasks = playground_tasks(seed=seed, size=SIZE)
    evaluators = [ZeroShot(task, predictions_folder=out / "predictions") for task in tasks]
    run = fit(config, evaluators, resume=resume)
    if not run.finished:
        return Quickstart(run, tasks, None)
    if run.config.num_pairs < LEAST_PAIRS:
        logger.warning(
            "%s pairs are few: on %s the model learns most of what this page tests",
            f"{run.config.num_pairs:,}",
            f"{LEAST_PAIRS:,}",
        )
    report = out / "report.html"
    write_report(_report(run, evaluators, seed), report)
    return Quickstart(run, tasks, report)


def _report(run: Run, evaluators: list[ZeroShot], seed: int) -> RunReport:
    config = run.config
    pairs = _pairs(Playground(_POOL, seed=seed, size=SIZE, split="test"))
    return RunReport(
        title=_title(config.num_pairs),
        results=run.results,
        chance={one.benchmark.name: 1 / len(one.benchmark.class_names) for one in evaluators},
        headline=_HEADLINE,
        gains=prompt_gains(run, evaluators),
        log=read_log(run.folder),
        **matches(run.model, pairs),
        confusion=weakest_confusion(run, evaluators),
        training_pairs=_pairs(Playground(12, seed=seed, size=SIZE)),
        facts=facts(
            run,
            f"diptych quickstart --pairs {config.num_pairs} --seed {seed} --out {config.out}",
            {"different pairs": f"{min(UNIQUE_PAIRS, config.num_pairs):,}"},
        ),
        next_steps=_next_steps(run.folder / "model"),
    )


def _title(num_pairs: int) -> str:
    if num_pairs < LEAST_PAIRS:
        return f"A CLIP model after {num_pairs:,} captions: it takes {LEAST_PAIRS:,} to learn most of these tasks"
    return f"A CLIP model learned pictures from {num_pairs:,} captions and now classifies with words alone"


def _pairs(playground: Playground) -> list[Pair]:
    """The first shard's pictures with the first caption of each."""
    return [Pair(np.asarray(sample.image), sample.texts[0]) for sample in playground.read(0)]


def _next_steps(model: Path) -> tuple[tuple[str, str], ...]:
    """Commands to go on with, and what for."""
    classify = f"diptych classify picture.png --model {shlex.quote(str(model))} --labels 'red star,blue circle'"
    return (
        (classify, "name your own pictures with your own words"),
        ("diptych train my-shards/ --recipe compact-rn --epochs 10 --out runs/mine", "train on your own pairs"),
        ("diptych evaluate runs/mine/model cifar10/", "measure a model on an evaluation set"),
    )


def _clear(out: Path, config: TrainConfig) -> None:
    """Remove what an earlier quickstart wrote, and nothing else: `fit` refuses a folder with any other run."""
    try:
        before = json.loads((out / "config.json").read_text(encoding="utf-8"))
        models = [json.loads(json.dumps(model.to_dict())) for model in (config.model, get_preset(_FORMER))]
        ours = before["model"] in models and is_playground(before["data"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if ours:
        for name in _OURS:
            shutil.rmtree(out / name, ignore_errors=True)
        (out / "report.html").unlink(missing_ok=True)
