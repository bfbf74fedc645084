"""Commands that use a model: measure, classify, average."""

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli import paths
from diptych.cli.classify import run_classify_command
from diptych.cli.common import (
    SETS_HELP,
    Activation,
    Device,
    Heads,
    ModelOption,
    Option,
    Partial,
    Workers,
    app,
    examples,
    refuse_unwritable,
    show,
)
from diptych.cli.suite import run_suite_command
from diptych.errors import InputError

EvaluationOut = Annotated[
    Path | None,
    Option(
        parser=paths.path,
        help="File for Results, .jsonl; Predictions go beside it. By default none. A folder with --suite.",
    ),
]


@app.command(
    epilog=examples(
        "diptych evaluate runs/quickstart/model cifar10/ --out results.jsonl",
        "diptych evaluate imagenet/ cifar10/ --model ViT-B-32.pt --split test",
        "diptych evaluate hf:openai/clip-vit-base-patch32 cifar10/",
        "diptych evaluate ViT-B-32.pt --suite paper --data-root sets/ --out runs/paper",
    )
)
def evaluate(
    model_and_datasets: Annotated[list[str], typer.Argument(parser=paths.model, help=SETS_HELP)],
    model: ModelOption = None,
    out: EvaluationOut = None,
    split: Annotated[str | None, Option(help="Which split to measure; test. A suite knows its own.")] = None,
    workers: Workers = 1,
    precision: Annotated[
        str, Option(help="fp32 (exact), bf16, or auto (the fastest that the machine does well).")
    ] = "fp32",
    device: Device = "auto",
    activation: Activation = None,
    heads: Heads = None,
    suite: Annotated[
        str | None,
        Option(help="paper: every task of the paper on every set of --data-root; all words are models then."),
    ] = None,
    data_root: Annotated[Path | None, Option(parser=paths.path, help="Folder of evaluation sets for --suite.")] = None,
    task: Annotated[list[str] | None, Option(help="With --suite: this task only; may be repeated.")] = None,
    dataset: Annotated[list[str] | None, Option("--set", help="With --suite: this set only; may be repeated.")] = None,
    partial: Partial = False,
) -> None:
    """Measure zero-shot accuracy, or with --suite paper all that the paper measures, with 99.5 % intervals.

    On sets: single template against the ensemble. With --suite: zero-shot, linear and few-shot probes, retrieval,
    robustness and the rest, resumed where it was stopped, in one report with the paper's own numbers beside.
    """
    from diptych.embed.names import check_name

    if suite is not None:
        if split is not None:
            raise InputError(f"--split {split} belongs to sets; --suite measures each set's own splits")
        models = [*([] if model is None else [model]), *model_and_datasets]
        folder = out or Path("runs/paper")
        run_suite_command(suite, models, data_root, folder, task, dataset, precision, workers, device, partial)
        return
    if data_root or task or dataset or partial:
        raise InputError("--data-root, --task, --set and --partial belong to --suite paper")
    name, *datasets = model_and_datasets if model is None else [model, *model_and_datasets]
    if not datasets:
        raise InputError(f"nothing to measure {name} on: diptych evaluate MODEL DATASET_DIR ...")
    if out is not None:
        refuse_unwritable(out)
    check_name(name)
    from diptych.evalsets.benchmark import open_benchmark

    benchmarks = [open_benchmark(dataset, split or "test") for dataset in datasets]
    from diptych.embed import load  # torch comes with these, after all that can be refused without it
    from diptych.embed.about import about
    from diptych.evaluate import evaluate_benchmarks, zero_shot_table

    encoder = load(name, None if device == "auto" else device, precision)
    if (no_texts := about(encoder).no_texts) is not None:
        raise InputError(f"{encoder.name} {no_texts}; zero-shot needs texts, --suite paper measures it by probes")
    results = evaluate_benchmarks(encoder, benchmarks, out, num_workers=workers or 0)
    show(zero_shot_table(results, benchmarks))
    if out is None:
        print("nothing was written; --out results.jsonl keeps the results, and predictions beside it")
    else:
        print(f"results: {out}; a row of the same measurement made before is replaced")


@app.command(
    epilog=examples(
        "diptych classify photo.jpg --labels cat,dog",
        "diptych classify holiday/*.jpg --model runs/tiny/model --labels 'cat,dog,a red car'",
        "diptych classify pictures/ --model ViT-B-32.pt --labels @labels.txt --template 'a photo of a {c}.'",
        "diptych classify pictures/ --labels cat,dog --out labels.csv",
    )
)
def classify(
    pictures: Annotated[list[Path], typer.Argument(parser=paths.path, help="Pictures, or folders of pictures.")],
    labels: Annotated[
        str, Option(parser=paths.text_or_file, help="Comma-separated labels, or @file with one label a line.")
    ],
    model: ModelOption = "default",
    template: Annotated[
        list[str] | None,
        Option(parser=paths.text_or_file, help="Prompt with {c} for the label, or @file; several are averaged."),
    ] = None,
    top_k: Annotated[int, Option(help="Labels to show for each picture.")] = 3,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line, for other programs.")] = False,
    out: Annotated[
        Path | None,
        Option(
            parser=paths.path,
            help="Write rows into this .csv, .jsonl or .parquet, not to the screen; the same command resumes.",
        ),
    ] = None,
    device: Device = "auto",
    activation: Activation = None,
    heads: Heads = None,
) -> None:
    """Say which of your labels fits each picture best. No training: the labels are all it needs.

    Results appear batch by batch. With --out a run that was stopped or killed resumes; no row is doubled or lost.
    """
    from diptych.embed.names import check_name
    from diptych.evaluate.classify.label_file import LabelFile
    from diptych.evaluate.classify.question import Question, find_images
    from diptych.evaluate.zero_shot.prompts import read_labels, read_templates

    question = Question(tuple(read_labels(labels)), tuple(read_templates(template or ())), top_k)
    check_name(str(model))
    paths = find_images(pictures)
    file = None if out is None else LabelFile(out, question)
    run_classify_command(str(model), paths, question, file, json_lines, device)


@app.command(
    epilog=examples(
        "diptych interpolate runs/quickstart/model runs/tuned/model --share 0.5 --out runs/between",
        "diptych interpolate runs/quickstart/model runs/tuned/model --shares 0,0.25,0.5,0.75,1 --evaluate cifar10/",
    )
)
def interpolate(
    zero_shot: Annotated[
        str, typer.Argument(parser=paths.model, help="The model before fine-tuning: folder, weight file or default.")
    ],
    fine_tuned: Annotated[
        str, typer.Argument(parser=paths.model, help="The model after it, of the same architecture.")
    ],
    share: Annotated[float | None, Option(help="Of the fine-tuned weights, 0 to 1, in the model to save.")] = None,
    out: Annotated[Path | None, Option(parser=paths.path, help="Folder for the model of --share.")] = None,
    shares: Annotated[str | None, Option(help="Several shares with commas between, to be measured.")] = None,
    evaluate: Annotated[
        list[str] | None, Option(parser=paths.path, help="Evaluation set for --shares; may be repeated.")
    ] = None,
    device: Device = "auto",
    activation: Activation = None,
    heads: Heads = None,
) -> None:
    """Average the weights of a model before and after fine-tuning (WiSE-FT, arXiv 2109.01903).

    Often better than both: what fine-tuning taught, and the robustness that it costs.
    """
    from diptych.embed.names import check_name

    check_name(zero_shot)
    check_name(fine_tuned)

    from diptych.embed import load_model
    from diptych.embed.interpolation import interpolate
    from diptych.evalsets.benchmark import open_benchmark
    from diptych.evaluate.zero_shot.shares import measure_shares, parse_shares, shares_table

    if (share is None) == (shares is None):
        raise InputError("name either one --share to save, with --out, or several --shares to measure, with --evaluate")
    if share is not None and (out is None or evaluate):
        raise InputError("--share saves one model: give --out FOLDER, and no --evaluate")
    if shares is not None and (out is not None or not evaluate):
        raise InputError("--shares measures: give --evaluate SET, and no --out")
    wanted = parse_shares(str(share) if shares is None else shares)
    benchmarks = [open_benchmark(path) for path in evaluate or []]
    where = None if device == "auto" else device
    first, second = load_model(zero_shot, device=where), load_model(fine_tuned, device=where)
    if out is not None:
        interpolate(first, second, wanted[0]).save(out)
        print(f"the model: {out}")
    else:
        show(shares_table(measure_shares(first, second, wanted, benchmarks)))
