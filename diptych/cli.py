"""The command line: parse, call one function, print."""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from diptych.errors import DiptychError, InputError

if TYPE_CHECKING:
    from diptych.train import Run

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
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"$ {line}" for line in lines)


_Option = typer.Option
Device = Annotated[str, _Option(help="auto (the GPU where there is one), cpu, cuda, cuda:1, ...")]
Seed = Annotated[int, _Option(help="Seed of the weights and of the data's order.")]
Workers = Annotated[int | None, _Option(min=0, help="Processes that decode pictures; changes no number.")]
Resume = Annotated[bool, _Option("--resume", help="Go on from the newest checkpoint.")]
ModelOption = Annotated[str | None, _Option(help="Model folder, weight file, or default, which comes with Diptych.")]
Number = int | None
Fraction = float | None

_PAIRS_HELP = "Pairs: tar shards, parquet, CSV/TSV, a folder with .txt files, or playground:NUM."
_SETS_HELP = "MODEL (unless --model is given), then evaluation sets: clip-benchmark/wds layout or a folder per class."


@app.command(
    epilog=_examples(
        "diptych quickstart", "diptych quickstart --pairs 40000 --out runs/short", "diptych quickstart --resume"
    )
)
def quickstart(
    out: Annotated[Path, _Option(help="Folder for the model, the results and report.html.")] = Path("runs/quickstart"),
    pairs: Annotated[Number, _Option(help="Pairs to train on; fewer is faster and less accurate.")] = None,
    seed: Seed = 0,
    resume: Resume = False,
) -> None:
    """Train a CLIP on generated picture-caption pairs, test it zero-shot, and write a report page.

    Needs no data and no network: pictures of shapes, words and handwritten digits are drawn as it goes.
    """
    from diptych.evaluate import zero_shot_table
    from diptych.quickstart import PAIRS, run_quickstart

    done = run_quickstart(out, num_pairs=PAIRS if pairs is None else pairs, seed=seed, resume=resume)
    _exit_if_stopped(done.run)
    _print(zero_shot_table(done.run.results, done.tasks))
    print(f"the report:  {done.report}\nthe numbers: {out / 'results.jsonl'}\nthe model:   {out / 'model'}")


@app.command(
    epilog=_examples(
        "diptych train 'shards/{00000..00099}.tar' --recipe ViT-B/32 --batch-size 1024 --epochs 32 --out runs/b32",
        "diptych train photos/ --recipe compact-rn --pairs 300000 --evaluate cifar10/ --out runs/tiny",
        "diptych train photos/ --recipe compact-rn --pairs 300000 --evaluate cifar10/ --out runs/tiny --resume",
        "diptych train playground:50000 --recipe quickstart --epochs 2 --out runs/play",
    )
)
def train(
    data: Annotated[list[str], typer.Argument(help=_PAIRS_HELP)],
    out: Annotated[Path, _Option(help="Folder of the run: log, checkpoints, model.")],
    recipe: Annotated[str, _Option(help="Model and hyper-parameters; a wrong name lists all.")] = "compact-rn",
    pairs: Annotated[Number, _Option(help="Pairs to see in the whole run, with repetition.")] = None,
    epochs: Annotated[
        Fraction, _Option(help="Passes over the data, in place of --pairs; counts the data first.")
    ] = None,
    batch_size: Annotated[Number, _Option(help="Pairs per update.")] = None,
    learning_rate: Annotated[Fraction, _Option(help="Peak learning rate.")] = None,
    weight_decay: Annotated[Fraction, _Option(help="Decoupled weight decay; none on gains and biases.")] = None,
    warmup_steps: Annotated[Number, _Option(help="Updates of linear warm-up.")] = None,
    tokenizer: Annotated[str | None, _Option(help="train (from the captions), openai, or a tokenizer.json.")] = None,
    workers: Workers = None,
    precision: Annotated[str, _Option(help="auto (bf16 where the processor has it), bf16 or fp32.")] = "auto",
    device: Device = "auto",
    seed: Seed = 0,
    checkpoint_steps: Annotated[Number, _Option(help="Updates between checkpoints.")] = None,
    checkpoint_minutes: Annotated[Fraction, _Option(help="Minutes between checkpoints.")] = None,
    evaluate: Annotated[
        list[str] | None, _Option(help="Evaluation set to test zero-shot at the end; may be repeated.")
    ] = None,
    evaluate_steps: Annotated[Number, _Option(help="Test also every so many updates.")] = None,
    resume: Resume = False,
) -> None:
    """Train an image and a text encoder on (image, text) pairs.

    Stopped by Ctrl-C, SIGTERM or a crash, the same command with --resume goes on with exactly the same losses.
    """
    top = {"tokenizer": tokenizer, "precision": precision, "device": device, "seed": seed}
    components = {
        "top": {**top, "evaluate_steps": evaluate_steps},
        "loader": {"global_batch_size": batch_size, "num_workers": workers, "seed": seed},
        "optimizer": {"learning_rate": learning_rate, "weight_decay": weight_decay},
        "schedule": {"warmup_steps": warmup_steps},
        "checkpoint": {"every_steps": checkpoint_steps, "every_minutes": checkpoint_minutes},
    }
    _train(recipe, tuple(data), out, {"num_pairs": pairs, "epochs": epochs, **components}, evaluate or [], resume)


def _train(
    recipe: str, data: tuple[str, ...], out: Path, changes: dict[str, Any], sets: list[str], resume: bool
) -> None:
    from diptych.data.benchmarks import open_benchmark
    from diptych.evaluate import ZeroShot, zero_shot_table
    from diptych.recipes import configure
    from diptych.train import fit

    benchmarks = [open_benchmark(path) for path in sets]
    config = configure(recipe, data, str(out), **changes)
    run = fit(config, [ZeroShot(one, predictions_folder=out / "predictions") for one in benchmarks], resume=resume)
    _exit_if_stopped(run)
    if run.results:
        _print(zero_shot_table(run.results, benchmarks))
    print(f"the model: {run.folder / 'model'}")


@app.command(
    epilog=_examples(
        "diptych evaluate runs/quickstart/model cifar10/ --out results.jsonl",
        "diptych evaluate imagenet/ cifar10/ --model ViT-B-32.pt --split test",
    )
)
def evaluate(
    model_and_datasets: Annotated[list[str], typer.Argument(help=_SETS_HELP)],
    model: ModelOption = None,
    out: Annotated[Path, _Option(help="Results are appended here; Predictions go beside it.")] = Path("results.jsonl"),
    split: Annotated[str, _Option(help="Which split to measure.")] = "test",
    workers: Workers = 1,
    precision: Annotated[
        str, _Option(help="fp32 (exact), bf16, or auto (the fastest that the machine does well).")
    ] = "fp32",
    device: Device = "auto",
) -> None:
    """Measure zero-shot accuracy: single template against the ensemble, with 99.5 % intervals."""
    from diptych.data.benchmarks import open_benchmark
    from diptych.embed import load
    from diptych.evaluate import evaluate_benchmarks, zero_shot_table

    name, *datasets = model_and_datasets if model is None else [model, *model_and_datasets]
    if not datasets:
        raise InputError(f"nothing to measure {name} on: diptych evaluate MODEL DATASET_DIR ...")
    benchmarks = [open_benchmark(dataset, split) for dataset in datasets]
    _refuse_unwritable(out)
    encoder = load(name, device=None if device == "auto" else device, precision=precision)
    results = evaluate_benchmarks(encoder, benchmarks, out, num_workers=workers or 0)
    _print(zero_shot_table(results, benchmarks))
    print(f"results: {out}")


@app.command(
    epilog=_examples(
        "diptych classify photo.jpg --labels cat,dog",
        "diptych classify holiday/*.jpg --model runs/tiny/model --labels 'cat,dog,a red car'",
        "diptych classify pictures/ --model ViT-B-32.pt --labels @labels.txt --template 'a photo of a {c}.'",
    )
)
def classify(
    pictures: Annotated[list[Path], typer.Argument(help="Pictures, or folders of pictures.")],
    labels: Annotated[str, _Option(help="Comma-separated labels, or @file with one label a line.")],
    model: ModelOption = "default",
    template: Annotated[
        list[str] | None, _Option(help="Prompt with {c} for the label, or @file; several are averaged.")
    ] = None,
    top_k: Annotated[int, _Option(help="Labels to show for each picture.")] = 3,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line, for other programs.")] = False,
    device: Device = "auto",
) -> None:
    """Say which of your labels fits each picture best. No training: the labels are all it needs."""
    from diptych.embed import load
    from diptych.evaluate import classify_pictures, print_classified, read_labels, read_templates

    class_names, templates = read_labels(labels), read_templates(template) if template else None
    encoder = load(str(model), device=None if device == "auto" else device)
    if not print_classified(
        classify_pictures(encoder, pictures, class_names, templates, top_k=top_k), as_json=json_lines
    ):
        raise typer.Exit(1)


def _exit_if_stopped(run: "Run") -> None:
    """After Ctrl-C or SIGTERM: say how to go on, and leave with a shell's status for an interrupted command."""
    if not run.finished:
        print(f"stopped after step {run.step}; go on with the same command and --resume", file=sys.stderr)
        raise typer.Exit(130)


def _refuse_unwritable(out: Path) -> None:
    """Find out before the work, not after it, that its results cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a"):
            pass
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; choose another file (--out)") from error


def _print(table: Any) -> None:
    """A table on stdout: as wide as the terminal, or wide enough for all of it in a file."""
    Console(width=None if sys.stdout.isatty() else 120).print(table)


class _LogHandler(logging.StreamHandler):
    """Log lines on stderr, above a progress bar where there is one: it puts its own stderr in place for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        self.setStream(sys.stderr)
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return level + _printable(super().format(record))


def _printable(text: str) -> str:
    """The text without a terminal's control codes: it may quote names out of files of unknown origin."""
    return "".join(one if one.isprintable() or one == "\n" else "\N{REPLACEMENT CHARACTER}" for one in text)


def _one_line(error: Exception) -> str:
    text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
    return _printable(" ".join(text.split("\n")))


def main() -> None:
    """Entry point: errors of ours are one line, not a traceback; DIPTYCH_DEBUG=1 shows it all."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_LogHandler()])
    logging.getLogger("diptych").setLevel(logging.INFO)
    try:
        app()
    except (DiptychError, OSError) as error:
        if os.environ.get("DIPTYCH_DEBUG"):
            raise
        print(f"error: {_one_line(error)}", file=sys.stderr)
        sys.exit(1)
    # torch says it with a RuntimeError, on a processor as on a GPU; any other RuntimeError is ours to mend.
    except (MemoryError, RuntimeError) as error:
        if os.environ.get("DIPTYCH_DEBUG") or not (isinstance(error, MemoryError) or "memory" in str(error)):
            raise
        print(f"error: out of memory ({_one_line(error)}): try a smaller batch or model", file=sys.stderr)
        sys.exit(1)
