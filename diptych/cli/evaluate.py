"""diptych evaluate: zero-shot accuracy on evaluation sets. `--suite paper` is an alias of diptych suite."""

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli import parse
from diptych.cli.common import app, examples, refuse_unwritable, show
from diptych.cli.options import (
    Activation,
    Backend,
    Device,
    Heads,
    ModelOption,
    Offline,
    OldDatasets,
    Option,
    Precision,
    Workers,
    datasets,
)
from diptych.cli.suite import run_suite_command
from diptych.errors import InputError

SUITES = ("paper",)


@app.command(
    epilog=examples(
        "diptych evaluate runs/quickstart/model cifar10/ --out results.jsonl",
        "diptych evaluate my-birds/ cifar10/ --model ViT-B-32.pt --split test",
        "diptych evaluate hf:openai/clip-vit-base-patch32 cifar10/",
    )
)
def evaluate(
    model_and_datasets: Annotated[
        list[str] | None,
        typer.Argument(
            parser=parse.model,
            metavar="MODEL DATASETS...",
            help="MODEL (leave it out with --model), then folders of evaluation sets: clip-benchmark/wds layout, "
            "parquet files, or a folder per class.",
        ),
    ] = None,
    model: ModelOption = None,
    dataset: Annotated[
        list[str] | None,
        Option("--dataset", parser=parse.path, help="Folder of an evaluation set, as in DATASETS; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        Option(
            parser=parse.path,
            help="Write Results into this .jsonl file, and Predictions into a folder next to it. By default nothing is "
            "written.",
        ),
    ] = None,
    split: Annotated[str | None, Option(help="Split to measure; test by default.")] = None,
    workers: Workers = 1,
    backend: Backend = "",
    precision: Precision = "fp32",
    device: Device = "auto",
    activation: Activation = None,
    heads: Heads = None,
    offline: Offline = False,
    suite: Annotated[str | None, Option(hidden=True, help="paper: the same as diptych suite.")] = None,
    data_root: Annotated[Path | None, Option(parser=parse.path, hidden=True)] = None,
    task: Annotated[list[str] | None, Option(hidden=True)] = None,
    old_datasets: OldDatasets = None,
    partial: Annotated[bool, Option("--partial", hidden=True)] = False,
) -> None:
    """Measure the zero-shot accuracy of a model on evaluation sets, with 99.5 % confidence intervals.

    Compares a single prompt template with the ensemble of all templates of each set. To measure everything that the
    CLIP paper measures (linear probes, few-shot, retrieval, robustness), use diptych suite.
    """
    arguments = [*([] if model is None else [model]), *(model_and_datasets or ())]
    names = datasets(dataset, old_datasets)
    if suite is not None:
        if suite not in SUITES:
            raise InputError(f"there is no suite {suite!r}; there is {', '.join(SUITES)}")
        if split is not None:
            raise InputError(f"--split {split} is not an option of the suite, which measures the splits of each set")
        folder = out or Path("runs/paper")
        run_suite_command(arguments, data_root, folder, task, names, precision, workers, device, partial)
        return
    if data_root or task or old_datasets or partial:
        raise InputError("--data-root, --task, --set and --partial are options of diptych suite")
    if not arguments:
        raise InputError("nothing to measure: diptych evaluate MODEL DATASET ...")
    _evaluate(arguments[0], [*arguments[1:], *(names or ())], out, split or "test", workers, precision, device)


def _evaluate(
    name: str, folders: list[str], out: Path | None, split: str, workers: int | None, precision: str, device: str
) -> None:
    from diptych.embed.model_names import check_name

    if not folders:
        raise InputError(f"nothing to measure {name} on: diptych evaluate MODEL DATASET ...")
    if out is not None:
        refuse_unwritable(out)
    check_name(name)
    from diptych.evalsets.user_sets import open_set

    benchmarks = [open_set(folder, split) for folder in folders]
    from diptych.embed import load  # imports torch, so checks that do not need torch come first
    from diptych.embed.about import about
    from diptych.evaluate import evaluate_benchmarks, zero_shot_table

    encoder = load(name, None if device == "auto" else device, precision)
    if (no_texts := about(encoder).no_texts) is not None:
        raise InputError(f"{encoder.name} {no_texts}; zero-shot needs texts, diptych suite measures it by probes")
    results = evaluate_benchmarks(encoder, benchmarks, out, num_workers=workers or 0)
    show(zero_shot_table(results, benchmarks))
    if out is None:
        print("nothing was written; --out results.jsonl keeps the results, and predictions next to it")
    else:
        print(f"results: {out}; they replace earlier results of the same measurement")
