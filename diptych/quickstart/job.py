"""The quickstart: train on generated pairs, test zero-shot, and write a report page."""

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
MINUTES = 3.5  # on a slow machine training stops after this time
LEAST_PAIRS = 60_000  # but not before this many pairs: with fewer, the model learns little
UNIQUE_PAIRS = 50_000
SIZE = 64
_HEADLINE = "held_out_colour_shape"  # the task at the top of the page
_FORMER_PRESET = "playground-rn"  # the preset that earlier versions trained
_NUM_SEARCHED = 400  # test pairs in which nearest neighbors are searched
_OWN_FOLDERS = ("checkpoints", "tensorboard", "predictions", "model")


@dataclasses.dataclass(frozen=True)
class Quickstart:
    """The outcome of a quickstart: the run with its results, the tasks of these results, and the page.

    `report` is None if SIGINT or SIGTERM stopped the training; the checkpoint is written in that case.
    """

    run: Run
    tasks: list[Benchmark]
    report: Path | None


def run_quickstart(
    out: str | Path, *, num_pairs: int | None = None, minutes: float | None = None, seed: int = 0, resume: bool = False
) -> Quickstart:
    """Train on the playground, measure every task, write out/report.html and out/results.jsonl.

    Args:
        out: folder of the run. Without `resume`, an earlier quickstart in it is replaced; any other run is refused.
        num_pairs: pairs to train on, with repetition; the upper limit if `minutes` is given too.
        minutes: training time. By default PAIRS or MINUTES, whichever ends first, but at least LEAST_PAIRS.
        seed: seed of the weights and of the training images.
        resume: continue a stopped run.
    """
    out = expanded(out)
    least_pairs = LEAST_PAIRS if num_pairs is None and minutes is None else 0
    if num_pairs is None:
        num_pairs, minutes = PAIRS, MINUTES if minutes is None else minutes
    config = configure(
        "quickstart",
        (f"playground:{min(UNIQUE_PAIRS, num_pairs)}",),
        str(out),
        num_pairs=num_pairs,
        minutes=minutes,
        top={"seed": seed, "least_pairs": least_pairs},
        loader={"seed": seed},
    )
    if not resume:
        _remove_earlier_run(out, config)
    tasks = playground_tasks(seed=seed, size=SIZE)
    evaluators = [ZeroShot(task, predictions_folder=out / "predictions") for task in tasks]
    run = fit(config, evaluators, resume=resume)
    if not run.finished:
        return Quickstart(run, tasks, None)
    if run.config.num_pairs < LEAST_PAIRS:
        logger.warning(
            "%s pairs are few: the model needs %s to learn most of what this page tests",
            f"{run.config.num_pairs:,}",
            f"{LEAST_PAIRS:,}",
        )
    report = out / "report.html"
    write_report(_report(run, evaluators, seed), report)
    return Quickstart(run, tasks, report)


def _report(run: Run, evaluators: list[ZeroShot], seed: int) -> RunReport:
    config = run.config
    pairs = _pairs(Playground(_NUM_SEARCHED, seed=seed, size=SIZE, split="test"))
    return RunReport(
        title=_title(config.num_pairs),
        results=run.results,
        chance={evaluator.benchmark.name: 1 / len(evaluator.benchmark.class_names) for evaluator in evaluators},
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
    """The images of the first shard, each with its first caption."""
    return [Pair(np.asarray(sample.image), sample.texts[0]) for sample in playground.read(0)]


def _next_steps(model: Path) -> tuple[tuple[str, str], ...]:
    """(command, what it does) of the next steps to try."""
    classify = f"diptych classify picture.png --model {shlex.quote(str(model))} --labels 'red star,blue circle'"
    return (
        (classify, "name your own pictures with your own words"),
        ("diptych train my-shards/ --recipe compact-rn --epochs 10 --out runs/mine", "train on your own pairs"),
        ("diptych evaluate runs/mine/model cifar10/", "measure a model on an evaluation set"),
    )


def _remove_earlier_run(out: Path, config: TrainConfig) -> None:
    """Delete only files of an earlier quickstart. `fit` refuses a folder with any other run."""
    try:
        old_config = json.loads((out / "config.json").read_text(encoding="utf-8"))
        models = [json.loads(json.dumps(model.to_dict())) for model in (config.model, get_preset(_FORMER_PRESET))]
        is_quickstart = old_config["model"] in models and is_playground(old_config["data"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if is_quickstart:
        for name in _OWN_FOLDERS:
            shutil.rmtree(out / name, ignore_errors=True)
        (out / "report.html").unlink(missing_ok=True)
