"""diptych train: an image and a text encoder from (image, text) pairs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import paths
from diptych.cli.common import app, examples, exit_if_stopped, is_main, show
from diptych.cli.options import (
    PAIRS_HELP,
    CaptionColumn,
    Device,
    Fraction,
    ImageColumn,
    Init,
    InitActivation,
    InitHeads,
    Number,
    Option,
    Recipe,
    Resume,
    Seed,
    Settings,
    Workers,
)

if TYPE_CHECKING:
    from diptych.evalsets.benchmark import Benchmark
    from diptych.train import TrainConfig
    from diptych.train.config import InitConfig

Epochs = Annotated[Fraction, Option(help="Passes over the data, instead of --pairs; counts the pairs first.")]
Minutes = Annotated[
    Fraction,
    Option(help="Minutes to train, converted at the start into a number of pairs; --pairs is then the upper limit."),
]
TokenizerName = Annotated[
    str | None,
    Option(parser=paths.path, help="train (from the captions), openai, init (that of --init), or a tokenizer.json."),
]
EvaluationSets = Annotated[
    list[str] | None, Option(parser=paths.path, help="Evaluation set for a zero-shot test at the end; may be repeated.")
]
HeldOut = Annotated[
    Fraction, Option(help="Share of the pairs that only the validation loss uses; 0.01 by default, 0 for none.")
]
DryRun = Annotated[
    bool, Option("--dry-run", help="Print configuration, parameters, FLOPs, memory and time, and write nothing.")
]


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
    out: Annotated[Path, Option(parser=paths.path, help="Folder for the run: log, checkpoints, model.")],
    recipe: Recipe = "compact-rn",
    pairs: Annotated[Number, Option(help="Pairs that the whole run sees, repetitions included.")] = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    settings: Settings = None,
    init: Init = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    activation: InitActivation = None,
    heads: InitHeads = None,
    dry_run: DryRun = False,
    batch_size: Annotated[Number, Option(help="Pairs per update, over all processes.")] = None,
    learning_rate: Annotated[Fraction, Option(help="Peak learning rate.")] = None,
    weight_decay: Annotated[Fraction, Option(help="Decoupled weight decay; gains and biases have none.")] = None,
    warmup_steps: Annotated[Number, Option(help="Updates of linear warm-up.")] = None,
    tokenizer: TokenizerName = None,
    workers: Workers = None,
    precision: Annotated[str, Option(help="auto (bf16 if the processor computes in it), bf16 or fp32.")] = "auto",
    device: Device = "auto",
    seed: Seed = 0,
    checkpoint_steps: Annotated[Number, Option(help="Updates between checkpoints.")] = None,
    checkpoint_minutes: Annotated[Fraction, Option(help="Minutes between checkpoints.")] = None,
    evaluate: EvaluationSets = None,
    evaluate_steps: Annotated[Number, Option(help="Updates between tests; by default one test at the end.")] = None,
    held_out: HeldOut = None,
    resume: Resume = False,
) -> None:
    """Train an image and a text encoder on (image, text) pairs.

    After Ctrl-C, a signal or a crash, the same command with --resume continues with exactly the same losses.
    """
    from diptych.embed.names import check_name

    if init is not None:
        check_name(init)
    benchmarks = _opened(evaluate or [])
    from diptych.recipes import configure  # this imports torch
    from diptych.train.held_out import held_out_share

    measuring = {"evaluate_steps": evaluate_steps, "held_out": held_out_share(held_out, out, resume)}
    config = configure(
        recipe,
        tuple(data),
        str(out),
        num_pairs=pairs,
        epochs=epochs,
        minutes=minutes,
        init=init_config(init, activation, heads),
        settings=settings or [],
        top={"tokenizer": tokenizer, "precision": precision, "device": device, "seed": seed, **measuring},
        columns={"image": image_column, "caption": caption_column},
        loader={"global_batch_size": batch_size, "num_workers": workers, "seed": seed},
        optimizer={"learning_rate": learning_rate, "weight_decay": weight_decay},
        schedule={"warmup_steps": warmup_steps},
        checkpoint={"every_steps": checkpoint_steps, "every_minutes": checkpoint_minutes},
    )
    _plan(config) if dry_run else _train(config, benchmarks, resume)


def _plan(config: "TrainConfig") -> None:
    from diptych.train.plan import make_plan

    if is_main():
        print(make_plan(config))


def _opened(sets: list[str]) -> "list[Benchmark]":
    from diptych.evalsets.benchmark import open_benchmark

    return [open_benchmark(path) for path in sets]


def _train(config: "TrainConfig", benchmarks: "list[Benchmark]", resume: bool) -> None:
    from diptych.evaluate import ZeroShot, zero_shot_table
    from diptych.run_page import write_run_page
    from diptych.train import fit

    predictions = config.folder / "predictions"
    evaluators = [ZeroShot(benchmark, predictions_folder=predictions) for benchmark in benchmarks]
    run = fit(config, evaluators, resume=resume)
    exit_if_stopped(run)
    if not is_main():
        return
    if benchmarks:
        show(zero_shot_table(run.results, benchmarks))
    print(f"the report: {write_run_page(run, evaluators)}\nthe model: {run.folder / 'model'}")


def init_config(weights: str | None, activation: str | None, heads: str | None) -> "InitConfig":
    """The model to start from, as --init, --activation and --heads name it."""
    from diptych.embed.stated import parse_heads
    from diptych.train.config import InitConfig

    return InitConfig(weights, activation=activation, heads=None if heads is None else parse_heads(heads))
