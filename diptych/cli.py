"""The command line: parse, call one function, print."""

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from diptych.errors import DiptychError

# torch takes seconds to import; each command imports what it needs, so that --help answers at once.
app = typer.Typer(
    help="Train, measure and use CLIP models: learn from (image, text) pairs, classify with words.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _examples(*lines: str) -> str:
    """The examples under a command's help; one line each."""
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"  $ {line}" for line in lines)


@app.command(
    epilog=_examples(
        "diptych quickstart", "diptych quickstart --pairs 40000 --out runs/short", "diptych quickstart --resume"
    )
)
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the model, the results and report.html.")] = Path(
        "runs/quickstart"
    ),
    pairs: Annotated[int | None, typer.Option(help="Pairs to train on; fewer is faster and less accurate.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the weights and of the pictures.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
) -> None:
    """Train a CLIP on generated picture-caption pairs, test it zero-shot, and write a report page.

    Needs no data and no network: pictures of shapes, words and handwritten digits are drawn as it goes.
    """
    from diptych.quickstart import PAIRS, run_quickstart

    report = run_quickstart(out, num_pairs=pairs or PAIRS, seed=seed, resume=resume)
    print(f"\nThe report: {report}\nThe numbers: {out / 'results.jsonl'}\nThe model: {out / 'model'}")


@app.command(
    epilog=_examples(
        "diptych train 'shards/{00000..00099}.tar' --recipe ViT-B/32 --batch-size 1024 --epochs 32 --out runs/b32",
        "diptych train photos/ --recipe tiny-rn --pairs 300000 --evaluate cifar10/ --out runs/tiny",
        "diptych train playground:50000 --recipe quickstart --epochs 2 --out runs/play",
        "diptych train photos/ --recipe tiny-rn --pairs 300000 --evaluate cifar10/ --out runs/tiny --resume",
    )
)
def train(
    data: Annotated[
        list[str],
        typer.Argument(
            help="Pairs: tar shards, parquet, CSV/TSV, a folder with .txt files, or playground:NUM."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run: log, checkpoints, model.")],
    recipe: Annotated[
        str, typer.Option(help="Architecture with its hyper-parameters; a wrong name lists all.")
    ] = "tiny-rn",
    pairs: Annotated[int | None, typer.Option(help="Pairs to see in the whole run, with repetition.")] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the data, in place of --pairs; counts the data first.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs per update.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Decoupled weight decay, not on gains and biases.")] = None,
    warmup_steps: Annotated[int | None, typer.Option(help="Updates of linear warm-up.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="train (from the captions), openai, or a tokenizer.json.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that decode pictures; changes no number.")] = None,
    precision: Annotated[str, typer.Option(help="auto (bf16 where the processor has it), bf16 or fp32.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the weights and of the data's order.")] = 0,
    checkpoint_steps: Annotated[int | None, typer.Option(help="Updates between checkpoints.")] = None,
    checkpoint_minutes: Annotated[float | None, typer.Option(help="Minutes between checkpoints.")] = None,
    evaluate: Annotated[
        list[str] | None, typer.Option(help="Evaluation set to test zero-shot at the end; may be repeated.")
    ] = None,
    evaluate_steps: Annotated[int | None, typer.Option(help="Test also every so many updates.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")] = False,
) -> None:
    """Train an image and a text encoder on (image, text) pairs.

    Stopped by Ctrl-C, SIGTERM or a crash, the same command with --resume goes on with exactly the same losses.
    """
    from diptych.data.benchmarks import open_benchmark
    from diptych.evaluate import ZeroShot, zero_shot_table
    from diptych.recipes import configure
    from diptych.train import fit

    config = configure(
        recipe,
        tuple(data),
        str(out),
        num_pairs=pairs,
        epochs=epochs,
        top={
            "tokenizer": tokenizer,
            "precision": precision,
            "device": device,
            "seed": seed,
            "evaluate_steps": evaluate_steps,
        },
        loader={"local_batch_size": batch_size, "num_workers": workers, "seed": seed},
        optimizer={"learning_rate": learning_rate, "weight_decay": weight_decay},
        schedule={"warmup_steps": warmup_steps},
        checkpoint={"every_steps": checkpoint_steps, "every_minutes": checkpoint_minutes},
    )
    evaluators = [ZeroShot(open_benchmark(path)) for path in evaluate or []]
    run = fit(config, evaluators, resume=resume)
    if not run.finished:
        print(f"stopped at step {run.step} of {config.num_steps}; go on with the same command and --resume")
        raise typer.Exit(130)
    if run.results:
        Console().print(zero_shot_table(run.results))
    print(f"the model: {run.folder / 'model'}")


@app.command(
    epilog=_examples(
        "diptych evaluate runs/quickstart/model cifar10/ --out results.jsonl",
        "diptych evaluate ViT-B-32.pt imagenet/ cifar10/ --split test",
    )
)
def evaluate(
    model: Annotated[str, typer.Argument(help="Model folder or weight file.")],
    datasets: Annotated[
        list[str], typer.Argument(help="Evaluation sets: clip-benchmark/wds layout, or a folder per class.")
    ],
    out: Annotated[Path, typer.Option(help="Results are appended here; Predictions go beside it.")] = Path(
        "results.jsonl"
    ),
    split: Annotated[str, typer.Option(help="Which split to measure.")] = "test",
    workers: Annotated[int, typer.Option(help="Processes that decode pictures; changes no number.")] = 1,
    precision: Annotated[
        str, typer.Option(help="fp32 (exact), bf16, or auto (the fastest that the machine does well).")
    ] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Measure zero-shot accuracy: single template against the ensemble, with 99.5 % intervals."""
    from diptych.embed import load
    from diptych.evaluate import evaluate_benchmarks, zero_shot_table

    encoder = load(model, device=None if device == "auto" else device, precision=precision)
    results = evaluate_benchmarks(encoder, datasets, out, split=split, num_workers=workers)
    Console().print(zero_shot_table(results))
    print(f"results: {out}")


@app.command(
    epilog=_examples(
        "diptych classify holiday/*.jpg --model runs/tiny/model --labels 'cat,dog,a red car'",
        "diptych classify pictures/ --model ViT-B-32.pt --labels @labels.txt --template 'a photo of a {c}.'",
    )
)
def classify(
    pictures: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    labels: Annotated[str, typer.Option(help="Comma-separated labels, or @file with one label a line.")],
    model: Annotated[str, typer.Option(help="Model folder or weight file.")] = "runs/quickstart/model",
    template: Annotated[
        list[str] | None, typer.Option(help="Prompt with {c} for the label; several are averaged.")
    ] = None,
    top_k: Annotated[int, typer.Option(help="Labels to show for each picture.")] = 3,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line, for other programs.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
) -> None:
    """Say which of your labels fits each picture best. No training: the labels are all it needs."""
    from diptych.embed import load
    from diptych.evaluate import classify_pictures, print_classified, read_labels

    encoder = load(model, device=None if device == "auto" else device)
    rows = classify_pictures(encoder, pictures, read_labels(labels), template or None, top_k=top_k)
    if not print_classified(rows, as_json=json_lines):
        raise typer.Exit(1)


def main() -> None:
    """Entry point: errors of ours are one line, not a traceback; DIPTYCH_DEBUG=1 shows it all."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(message)s",
        handlers=[RichHandler(console=Console(stderr=True), show_path=False, show_time=False, markup=False)],
    )
    try:
        app()
    except (DiptychError, OSError) as error:
        if os.environ.get("DIPTYCH_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
