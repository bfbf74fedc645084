"""diptych overlap: which evaluation images occur in the training data, and what that changes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli import parse
from diptych.cli.common import app, examples, resumable
from diptych.cli.options import Backend, Fraction, ModelOption, Offline, Option, Workers
from diptych.errors import ConfigError, InputError

if TYPE_CHECKING:
    from diptych.overlap.find import OverlapConfig

DETECTORS = "default (comes with Diptych), pdq or phash (extra: overlap), or any model"

overlap_app = typer.Typer(
    help="Which evaluation images occur in the training data, and what that changes in the accuracy.",
    rich_markup_mode="rich",
)
app.add_typer(overlap_app, name="overlap")

Train = Annotated[
    list[str] | None,
    Option("--train", parser=parse.path, help="Training data, in any form of diptych train; may be repeated."),
]
Sets = Annotated[
    list[str] | None,
    Option("--eval", parser=parse.path, help="Evaluation set, or any folder of images; may be repeated."),
]
Out = Annotated[Path | None, Option("--out", parser=parse.path, help="Folder for index, verdicts and report.")]
DetectorName = Annotated[str, Option("--detector", parser=parse.model, help=f"Copy detector: {DETECTORS}.")]
Thresholds = Annotated[
    list[str] | None,
    Option("--threshold", help="Score from which on an image overlaps: 0.9, or SET=0.9; may be repeated."),
]
Choices = Annotated[
    Path | None,
    Option(
        parser=parse.path,
        help="Decisions or thresholds made elsewhere (.csv or .jsonl), instead of a review; docs/overlap_review.md.",
    ),
]
Processes = Annotated[int, Option(min=1, help="Processes that embed and search, on the CPU.")]
ExactCheck = Annotated[
    bool,
    Option(
        "--exact-check",
        help="Check the nearest training images pixel by pixel: nearly no false alarms; 25 pairs/s on a core "
        "(extra: overlap).",
    ),
]
Approximate = Annotated[
    bool,
    Option(
        "--approximate",
        help="Search in an approximate index and measure how many copies that misses; for hundreds of millions of "
        "training images (extra: overlap).",
    ),
]
UpsideDown = Annotated[
    bool, Option("--upside-down", help="Search each image upside down and turned by 180 degrees, too.")
]
Split = Annotated[str, Option(help="Split of the evaluation sets.")]
SameData = Annotated[bool, Option("--same-data", help="The evaluation images may be files of the training data.")]


@overlap_app.callback(
    invoke_without_command=True,
    epilog=examples(
        "diptych overlap --train shards/ --eval cifar10/ --eval my-birds/ --out overlap/",
        "diptych overlap --train shards/ --eval cifar10/ --model default --out overlap/",
        "diptych overlap --train shards/ --eval cifar10/ --out overlap/ --threshold 0.9",
        "diptych overlap remove --train shards/ --eval cifar10/ --out overlap/ --clean kept/",
    ),
)
def overlap(
    context: typer.Context,
    train: Train = None,
    sets: Sets = None,
    out: Out = None,
    model: ModelOption = None,
    task: Annotated[
        list[str] | None,
        Option("--task", help="How the model's accuracy is measured: zero_shot (default), linear_probe."),
    ] = None,
    detector: DetectorName = "default",
    exact_check: ExactCheck = False,
    upside_down: UpsideDown = False,
    approximate: Approximate = False,
    threshold: Thresholds = None,
    choices: Choices = None,
    split: Split = "test",
    same_data: SameData = False,
    workers: Workers = 1,
    processes: Processes = 1,
    backend: Backend = "",
    offline: Offline = False,
) -> None:
    """Search every evaluation image in the training data, and compare the accuracy with and without the copies.

    After Ctrl-C or a crash, run the same command again: finished work is kept. Sets and shards may be added later.
    """
    if context.invoked_subcommand is not None:
        return
    from diptych.overlap.overlap_analysis import run_overlap
    from diptych.overlap.overlap_page import caution, headline, search_recall
    from diptych.overlap.subset_results import TASKS

    if task and model is None:
        raise InputError("--task says how a model is measured, but no model is given: add --model")
    fields = {"detector": detector, "exact_check": exact_check, "approximate": approximate, "split": split}
    config = _config(train, sets, out, workers, upside_down, num_processes=processes, same_data=same_data, **fields)
    with resumable():
        run = run_overlap(config, model, tasks=task or TASKS, threshold=_thresholds(threshold), choices=choices)
    if warning := caution(run.thresholds):
        print(warning)
    print(f"{headline(run.found, run.thresholds)}.")
    if recall := search_recall(run.found, run.thresholds):
        print(f"{recall}.")
    print(f"the report:   {run.report}\nthe verdicts: {run.duplicates}")
    if run.results is not None:
        print(f"the numbers:  {run.results}")
    elif model is not None:
        print("no accuracy: none of the sets has classes")


@overlap_app.command(
    epilog=examples(
        "diptych overlap remove --train shards/ --eval cifar10/ --out overlap/ --clean clean/",
        "diptych overlap remove --train shards/ --eval cifar10/ --out overlap/ --clean strict/ --threshold 0.8",
        "diptych overlap remove --train shards/ --inner 0.3 --exact-check --out overlap-inner/ --clean once/",
    )
)
def remove(
    train: Train = None,
    sets: Sets = None,
    out: Out = None,
    clean: Annotated[Path | None, Option(parser=parse.path, help="Folder for the clean shards.")] = None,
    inner: Annotated[
        Fraction,
        Option(
            help="Keep only the first of training images whose score with each other is at least this: a cosine such "
            "as 0.95, or with --exact-check the check's score, such as 0.3."
        ),
    ] = None,
    detector: DetectorName = "default",
    exact_check: ExactCheck = False,
    upside_down: UpsideDown = False,
    approximate: Approximate = False,
    threshold: Thresholds = None,
    choices: Choices = None,
    split: Split = "test",
    same_data: SameData = False,
    workers: Workers = 1,
    processes: Processes = 1,
) -> None:
    """Write the training data without the samples that overlap with evaluation sets, as tar shards with a datasheet.

    With --inner, copies inside the training data are removed, too; then --eval may be left out.
    """
    from diptych.overlap.overlap_analysis import remove_overlap

    if clean is None:
        raise InputError("name a folder for the clean shards: --clean FOLDER")
    fields = {"detector": detector, "exact_check": exact_check, "approximate": approximate, "split": split}
    config = _config(train, sets, out, workers, upside_down, num_processes=processes, same_data=same_data, **fields)
    with resumable():
        sheet = remove_overlap(config, clean, threshold=_thresholds(threshold), choices=choices, inner=inner)
    print(f"{sheet.num_kept:,} of {sheet.num_samples:,} samples are kept; removed:")
    for name, count in sheet.num_overlapping.items():
        print(f"  {count:,} that overlap with {name} (threshold {sheet.thresholds[name]:g}, {sheet.decided_by[name]})")
    if inner is not None:
        print(f"  {sheet.num_duplicates:,} that repeat another training image (threshold {inner:g})")
    print(f"the shards: {clean}\nthe list:   {clean / 'removed.parquet'} (diptych train --exclude takes it)")


@overlap_app.command(
    epilog=examples("diptych overlap review overlap/", "diptych overlap review overlap/ --reviewer ada")
)
def review(
    folder: Annotated[Path, typer.Argument(parser=parse.path, help="Folder of the analysis (--out).")],
    reviewer: Annotated[
        str | None, Option(help="Your name; each reviewer has a file. By default the name of your account.")
    ] = None,
    port: Annotated[int, Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    browser: Annotated[bool, Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    judgements: Annotated[int, Option(min=1, help="Judgements of each set, after which the page says enough.")] = 40,
) -> None:
    """Judge pairs around the thresholds in a local page, with keys y, n, u (unsure) and z (undo).

    Each decision is saved at once. Afterwards, run diptych overlap again with the same options: it takes the threshold
    with high precision and most recall for each set.
    """
    import getpass

    from diptych.overlap.review_folder import ReviewFolder
    from diptych.serve.review_server import serve_review

    data = ReviewFolder(folder)
    serve_review(
        data,
        reviewer or getpass.getuser(),
        port=port,
        open_browser=browser,
        on_ready=lambda url, _: print(f"review at {url} (Ctrl-C ends it)", flush=True),
        num_judgements=judgements,
    )


def _config(
    train: list[str] | None,
    sets: list[str] | None,
    out: Path | None,
    workers: int | None,
    upside_down: bool,
    **fields: Any,
) -> "OverlapConfig":
    from diptych.overlap.find import OverlapConfig
    from diptych.overlap.image_views import ALL_VIEWS, USUAL_VIEWS

    if out is None:
        raise InputError("name a folder for the index and the report: --out FOLDER")
    views = ALL_VIEWS if upside_down else USUAL_VIEWS
    fields |= {"views": views, "num_workers": workers or 0}
    return OverlapConfig(train=tuple(train or ()), sets=tuple(sets or ()), out=str(out), **fields)


def _thresholds(values: list[str] | None) -> float | dict[str, float] | None:
    """The number for all sets, or a number by set."""
    if not values:
        return None
    by_set: dict[str, float] = {}
    for value in values:
        name, equals, number = value.rpartition("=")
        try:
            score = float(number)
        except ValueError:
            raise ConfigError(f"--threshold is {value!r}; write a number, or SET=NUMBER") from None
        if not equals:
            if len(values) > 1:
                raise ConfigError(f"--threshold {value} is for all sets; give it alone, or SET=NUMBER for each")
            return score
        by_set[name] = score
    return by_set
