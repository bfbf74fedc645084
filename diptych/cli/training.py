"""Commands that train."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import paths
from diptych.cli.common import (
    PAIRS_HELP,
    Device,
    Fraction,
    Number,
    Option,
    Resume,
    Seed,
    Workers,
    app,
    examples,
    exit_if_stopped,
    is_main,
    show,
)
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.evalsets.benchmark import Benchmark
    from diptych.train import TrainConfig
    from diptych.train.config import InitConfig

Recipe = Annotated[str, Option(help="Model and hyper-parameters; a wrong name lists all.")]
Settings = Annotated[
    list[str] | None,
    Option("--set", help="NAME=VALUE, any field of the configuration by its dotted name; may be repeated."),
]
Epochs = Annotated[Fraction, Option(help="Passes over the data, in place of --pairs; counts the data first.")]
Minutes = Annotated[
    Fraction, Option(help="Minutes to train, settled at the start as a number of pairs; --pairs is then the most.")
]
Init = Annotated[str | None, Option(parser=paths.model, help="Model to begin with: folder, weight file or default.")]
# Not common's: they go into the run's configuration, for its resumption.
InitActivation = Annotated[str | None, Option(help="Of --init FILE, which does not say it: quick_gelu or gelu.")]
InitHeads = Annotated[
    str | None,
    Option(help="Of --init FILE, which does not say them: heads of the image and the text tower, such as 16,12."),
]
TokenizerName = Annotated[
    str | None,
    Option(parser=paths.path, help="train (from the captions), openai, init (of --init), or a tokenizer.json."),
]
ImageColumn = Annotated[str | None, Option(help="Column of a table with the images' paths, or the images (parquet).")]
CaptionColumn = Annotated[str | None, Option(help="Column of a table with the captions.")]
EvaluationSets = Annotated[
    list[str] | None, Option(parser=paths.path, help="Evaluation set to test zero-shot at the end; may be repeated.")
]
HeldOut = Annotated[
    Fraction, Option(help="Share of the pairs for the validation loss, not trained on; 0.01 at first, 0 for none.")
]
DryRun = Annotated[
    bool, Option("--dry-run", help="Print configuration, parameters, FLOPs, memory and time; write nothing.")
]


@app.command(
    epilog=examples(
        "diptych quickstart", "diptych quickstart --pairs 40000 --out runs/short", "diptych quickstart --resume"
    )
)
def quickstart(
    out: Annotated[Path, Option(parser=paths.path, help="Folder for the model, the results and report.html.")] = Path(
        "runs/quickstart"
    ),
    pairs: Annotated[Number, Option(help="Pairs to train on; fewer is faster and less accurate.")] = None,
    minutes: Annotated[
        Fraction, Option(help="Minutes to train; without --pairs 3.5, but from 60,000 pairs to 120,000.")
    ] = None,
    seed: Seed = 0,
    resume: Resume = False,
) -> None:
    """Train a CLIP on generated picture-caption pairs, test it zero-shot, and write a report page.

    Needs no data and no network: pictures of shapes, words and handwritten digits are drawn as it goes.
    """
    from diptych.evaluate import zero_shot_table
    from diptych.quickstart import run_quickstart

    done = run_quickstart(out, num_pairs=pairs, minutes=minutes, seed=seed, resume=resume)
    exit_if_stopped(done.run)
    show(zero_shot_table(done.run.results, done.tasks))
    print(f"the report:  {done.report}\nthe numbers: {out / 'results.jsonl'}\nthe model:   {out / 'model'}")


@app.command(
    epilog=examples(
        "diptych train 'shards/{00000..00099}.tar' --recipe ViT-B/32 --batch-size 1024 --epochs 32 --out runs/b32",
        "diptych train photos/ --recipe compact-rn --pairs 300000 --evaluate cifar10/ --out runs/tiny",
        "diptych train photos/ --recipe compact-rn --pairs 300000 --evaluate cifar10/ --out runs/tiny --resume",
        "diptych train photos/ --pairs 300000 --set optimizer.learning_rate=2e-3 --out runs/tiny --dry-run",
        "diptych train photos/ --recipe finetune --init runs/quickstart/model --pairs 300000 --out runs/tuned",
        "diptych train playground:50000 --recipe quickstart --epochs 2 --out runs/play",
        "diptych train photos/ --recipe compact-rn --minutes 15 --out runs/quarter",
    )
)
def train(
    data: Annotated[list[str], typer.Argument(parser=paths.path, help=PAIRS_HELP)],
    out: Annotated[Path, Option(parser=paths.path, help="Folder of the run: log, checkpoints, model.")],
    recipe: Recipe = "compact-rn",
    pairs: Annotated[Number, Option(help="Pairs to see in the whole run, with repetition.")] = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    settings: Settings = None,
    init: Init = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    activation: InitActivation = None,
    heads: InitHeads = None,
    dry_run: DryRun = False,
    batch_size: Annotated[Number, Option(help="Pairs per update.")] = None,
    learning_rate: Annotated[Fraction, Option(help="Peak learning rate.")] = None,
    weight_decay: Annotated[Fraction, Option(help="Decoupled weight decay; none on gains and biases.")] = None,
    warmup_steps: Annotated[Number, Option(help="Updates of linear warm-up.")] = None,
    tokenizer: TokenizerName = None,
    workers: Workers = None,
    precision: Annotated[str, Option(help="auto (bf16 where the processor has it), bf16 or fp32.")] = "auto",
    device: Device = "auto",
    seed: Seed = 0,
    checkpoint_steps: Annotated[Number, Option(help="Updates between checkpoints.")] = None,
    checkpoint_minutes: Annotated[Fraction, Option(help="Minutes between checkpoints.")] = None,
    evaluate: EvaluationSets = None,
    evaluate_steps: Annotated[Number, Option(help="Test also every so many updates.")] = None,
    held_out: HeldOut = None,
    resume: Resume = False,
) -> None:
    """Train an image and a text encoder on (image, text) pairs.

    Stopped by Ctrl-C, a signal or a crash, the same command with --resume goes on with exactly the same losses.
    """
    from diptych.embed.names import check_name

    if init is not None:
        check_name(init)
    benchmarks = _opened(evaluate or [])
    from diptych.recipes import configure  # torch comes with this
    from diptych.train.held_out import held_out_share

    measuring = {"evaluate_steps": evaluate_steps, "held_out": held_out_share(held_out, out, resume)}
    config = configure(
        recipe,
        tuple(data),
        str(out),
        num_pairs=pairs,
        epochs=epochs,
        minutes=minutes,
        init=_init(init, activation, heads),
        settings=settings or [],
        top={"tokenizer": tokenizer, "precision": precision, "device": device, "seed": seed, **measuring},
        columns={"image": image_column, "caption": caption_column},
        loader={"global_batch_size": batch_size, "num_workers": workers, "seed": seed},
        optimizer={"learning_rate": learning_rate, "weight_decay": weight_decay},
        schedule={"warmup_steps": warmup_steps},
        checkpoint={"every_steps": checkpoint_steps, "every_minutes": checkpoint_minutes},
    )
    _plan(config) if dry_run else _train(config, benchmarks, resume)


def _init(weights: str | None, activation: str | None, heads: str | None) -> "InitConfig":
    from diptych.embed.stated import parse_heads
    from diptych.train.config import InitConfig

    return InitConfig(weights, activation=activation, heads=None if heads is None else parse_heads(heads))


def _plan(config: "TrainConfig") -> None:
    from diptych.train.plan import make_plan

    if is_main():
        print(make_plan(config))


def _opened(sets: list[str]) -> "list[Benchmark]":
    from diptych.evalsets.benchmark import open_benchmark

    return [open_benchmark(path) for path in sets]


def _train(config: "TrainConfig", benchmarks: "list[Benchmark]", resume: bool) -> None:
    from diptych.evaluate import ZeroShot, zero_shot_table
    from diptych.quickstart import write_run_page
    from diptych.train import fit

    predictions = config.folder / "predictions"
    evaluators = [ZeroShot(one, predictions_folder=predictions) for one in benchmarks]
    run = fit(config, evaluators, resume=resume)
    exit_if_stopped(run)
    if not is_main():
        return
    if benchmarks:
        show(zero_shot_table(run.results, benchmarks))
    print(f"the report: {write_run_page(run, evaluators)}\nthe model: {run.folder / 'model'}")


@app.command(
    epilog=examples(
        "diptych tune photos/ --pairs 20000 --trials 20 --search optimizer.lr=log:1e-4..1e-2 --out runs/tune",
        "diptych tune photos/ --pairs 20000 --trials 20 --sampler grid --search optimizer.lr=1e-4,1e-3 --out runs/grid",
    )
)
def tune(
    data: Annotated[list[str], typer.Argument(parser=paths.path, help=PAIRS_HELP)],
    search: Annotated[
        list[str],
        Option(help="NAME=A,B,C (choices), NAME=LOW..HIGH or NAME=log:LOW..HIGH; may be repeated."),
    ],
    out: Annotated[Path, Option(parser=paths.path, help="Folder of the search: study.log, and a run for each trial.")],
    recipe: Recipe = "compact-rn",
    pairs: Annotated[Number, Option(help="Pairs to see in each trial, with repetition.")] = None,
    epochs: Annotated[Fraction, Option(help="Passes over the data in each trial, in place of --pairs.")] = None,
    trials: Annotated[int, Option(min=1, help="Trials in all; a grid may have fewer.")] = 20,
    sampler: Annotated[str, Option(help="random, grid, or tpe (learns from the trials before).")] = "random",
    first: Annotated[
        list[str] | None,
        Option("--try", help="Settings to try first, NAME=VALUE with spaces between; may be repeated."),
    ] = None,
    objective: Annotated[
        str, Option(help="loss or accuracy, on held-out training pairs; never on a test set.")
    ] = "loss",
    held_out: Annotated[float, Option(help="Share of the pairs that no trial trains on.")] = 0.05,
    settings: Settings = None,
    init: Init = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    activation: InitActivation = None,
    heads: InitHeads = None,
    workers: Workers = None,
    device: Device = "auto",
    seed: Seed = 0,
    resume: Annotated[bool, Option("--resume", help="Go on with the search in --out.")] = False,
) -> None:
    """Search hyper-parameters: short runs, compared on training pairs that none of them saw.

    The paper's way (section 2.5): grid, random and manual search on a small model for one epoch, then adapted by hand
    to the larger ones. Needs the extra: pip install 'diptych[search]'.
    """
    from diptych.recipes import configure
    from diptych.recipes.search import Search, search_hyperparameters, trials_table

    config = configure(
        recipe,
        tuple(data),
        str(out),
        num_pairs=pairs,
        epochs=epochs,
        init=_init(init, activation, heads),
        settings=settings or [],
        top={"device": device, "seed": seed},
        columns={"image": image_column, "caption": caption_column},
        loader={"num_workers": workers, "seed": seed},
    )
    plan = Search(config, tuple(search), tuple(first or ()), trials, sampler, objective, held_out)
    found = search_hyperparameters(plan, resume=resume)
    show(trials_table(found))
    if not found.finished:
        print(f"stopped after {len(found.trials)} trials; go on with the same command and --resume", file=sys.stderr)
        raise typer.Exit(0)
    if found.best is None:
        raise InputError("no trial came to its end: search lower learning rates, or see the runs in the folder")
    print(f"best: {' '.join(f'--set {one}' for one in found.best.settings)}")
