"""diptych train: train an image and a text encoder on (image, text) pairs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import parse
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
    Offline,
    Option,
    Recipe,
    Resume,
    Seed,
    Settings,
    TaskModules,
    Workers,
)

if TYPE_CHECKING:
    from diptych.train import TrainConfig
    from diptych.train.config import InitConfig

Epochs = Annotated[Fraction, Option(help="Passes over the data, instead of --pairs; counts the pairs first.")]
Minutes = Annotated[
    Fraction,
    Option(help="Minutes to train, converted at the start into a number of pairs; --pairs is then the upper limit."),
]
TokenizerName = Annotated[
    str | None,
    Option(parser=parse.path, help="train (from the captions), openai, init (that of --init), or a tokenizer.json."),
]
EvaluationSets = Annotated[
    list[str] | None,
    Option(
        parser=parse.path,
        metavar="SET[:TASK]",
        help="Folder of an evaluation set to measure on at the end: zero-shot, or by a task of diptych suite, as in "
        "cifar10/:linear_probe; may be repeated.",
    ),
]
HeldOut = Annotated[
    Fraction, Option(help="Share of the pairs that only the validation loss uses; 0.01 by default, 0 for none.")
]
Exclude = Annotated[
    str | None,
    Option(
        parser=parse.path,
        metavar="TABLE",
        help="Leave out the samples that removed.parquet of diptych overlap remove lists, or duplicates.parquet of "
        "diptych overlap, which names only the nearest copy of each evaluation image.",
    ),
]
TrainPrecision = Annotated[
    str | None, Option(help="auto (bf16 if the processor computes in it), bf16 or fp32; by default the recipe's.")
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
    data: Annotated[list[str], typer.Argument(parser=parse.path, help=PAIRS_HELP)],
    out: Annotated[Path, Option(parser=parse.path, help="Folder for the run: log, checkpoints, model.")],
    recipe: Recipe = "compact-rn",
    pairs: Annotated[Number, Option(help="Pairs that the whole run sees, repetitions included.")] = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    settings: Settings = None,
    init: Init = None,
    exclude: Exclude = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    activation: InitActivation = None,
    heads: InitHeads = None,
    offline: Offline = False,
    dry_run: DryRun = False,
    batch_size: Annotated[Number, Option(help="Pairs per update, over all processes.")] = None,
    learning_rate: Annotated[Fraction, Option(help="Peak learning rate.")] = None,
    weight_decay: Annotated[Fraction, Option(help="Decoupled weight decay; gains and biases have none.")] = None,
    warmup_steps: Annotated[Number, Option(help="Updates of linear warm-up.")] = None,
    tokenizer: TokenizerName = None,
    workers: Workers = None,
    precision: TrainPrecision = None,
    device: Device = "auto",
    seed: Seed = 0,
    checkpoint_steps: Annotated[Number, Option(help="Updates between checkpoints.")] = None,
    checkpoint_minutes: Annotated[Fraction, Option(help="Minutes between checkpoints.")] = None,
    evaluate: EvaluationSets = None,
    tasks: TaskModules = None,
    evaluate_steps: Annotated[Number, Option(help="Updates between tests; by default one test at the end.")] = None,
    held_out: HeldOut = None,
    resume: Resume = False,
) -> None:
    """Train an image and a text encoder on (image, text) pairs.

    After Ctrl-C, a signal or a crash, run the same command with --resume: it continues with exactly the same losses.
    """
    _check_names(init, evaluate or [])
    from diptych.recipes import configure  # this imports torch
    from diptych.train.held_out import held_out_share

    fields = {"evaluate_steps": evaluate_steps, "held_out": held_out_share(held_out, out, resume), "exclude": exclude}
    config = configure(
        recipe,
        tuple(data),
        str(out),
        num_pairs=pairs,
        epochs=epochs,
        minutes=minutes,
        init=init_config(init, activation, heads),
        settings=settings or [],
        top={"tokenizer": tokenizer, "precision": precision, "device": device, "seed": seed, **fields},
        columns={"image": image_column, "caption": caption_column},
        loader={"global_batch_size": batch_size, "num_workers": workers, "seed": seed},
        optimizer={"learning_rate": learning_rate, "weight_decay": weight_decay},
        schedule={"warmup_steps": warmup_steps},
        checkpoint={"every_steps": checkpoint_steps, "every_minutes": checkpoint_minutes},
    )
    _plan(config) if dry_run else _train(config, evaluate or [], tasks or [], resume)


def _check_names(init: str | None, evaluation_sets: list[str]) -> None:
    from diptych.embed.model_names import check_name

    if init is not None:
        check_name(init)
    for name in evaluation_sets:
        check_evaluation(name)


def _plan(config: "TrainConfig") -> None:
    from diptych.train.plan import make_plan

    if is_main():
        print(make_plan(config))


def check_evaluation(name: str) -> None:
    """Refuse an evaluation set that cannot be opened, before torch is imported."""
    from diptych.evalsets.user_sets import card_of_folder, open_set, split_task

    folder, task = split_task(name)
    open_set(folder) if task is None else card_of_folder(folder)


def _train(config: "TrainConfig", evaluation_sets: list[str], modules: list[str], resume: bool) -> None:
    from diptych.evaluate import ZeroShot, zero_shot_table
    from diptych.evaluate.choose_sets import make_evaluator
    from diptych.evaluate.tasks.registry import load_task_module
    from diptych.quickstart import write_run_page
    from diptych.train import fit

    for module in modules:
        load_task_module(module)
    predictions = config.folder / "predictions"
    evaluators = [make_evaluator(name, predictions) for name in evaluation_sets]
    run = fit(config, evaluators, resume=resume)
    exit_if_stopped(run)
    if not is_main():
        return
    zero_shot = [evaluator for evaluator in evaluators if isinstance(evaluator, ZeroShot)]
    if zero_shot:
        show(zero_shot_table(run.results, [evaluator.benchmark for evaluator in zero_shot]))
    for result in run.results:
        if result.task not in ("zero_shot", "held_out_pairs"):
            print(
                f"{result.task} on {result.dataset}/{result.split}: {result.metric} {result.value:.4f}, n {result.n:,}"
            )
    print(f"the report: {write_run_page(run, zero_shot)}\nthe model: {run.folder / 'model'}")


def init_config(weights: str | None, activation: str | None, heads: str | None) -> "InitConfig":
    """The config of the model to start from, from --init, --activation and --heads."""
    from diptych.embed.weight_file_options import parse_heads
    from diptych.train.config import InitConfig

    return InitConfig(weights, activation=activation, heads=None if heads is None else parse_heads(heads))
