"""diptych paper figure2 and figure9: train the models of a figure and draw it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from diptych.cli import parse
from diptych.cli.common import examples, show
from diptych.cli.options import Option, Seed, Settings, Workers
from diptych.cli.paper import paper_app

Data = Annotated[
    list[str] | None,
    Option(
        "--data",
        parser=parse.path,
        help="Pairs, as for diptych train; by default the playground, which is generated.",
    ),
]
Sets = Annotated[
    list[str] | None,
    Option("--evaluate", parser=parse.path, help="Evaluation set; --data needs one; may be repeated."),
]
RecipeName = Annotated[
    str | None, Option("--recipe", help="Hyper-parameters; by default quickstart, or compact-rn with --data.")
]
Pictures = Annotated[int | None, Option(min=1, help="Images of each set to measure on, evenly spread.")]
Template = Annotated[str, Option(help="Prompt with {c} for the sets of --evaluate.")]
BatchSize = Annotated[int | None, Option(min=1, help="Pairs per update, over all processes.")]


@paper_app.command(
    epilog=examples(
        "diptych paper figure2",
        "diptych paper figure2 --data tiny-imagenet/train --evaluate tiny-imagenet --out runs/figure2-photos",
    )
)
def figure2(
    out: Annotated[Path, Option(parser=parse.path, help="Folder for the figure and its runs.")] = Path("runs/figure2"),
    data: Data = None,
    evaluate: Sets = None,
    recipe: RecipeName = None,
    pairs: Annotated[int | None, Option(help="Pairs per objective; 60,000 by default, or 200,000 with --data.")] = None,
    batch_size: BatchSize = None,
    pictures: Pictures = None,
    template: Template = "a photo of a {c}.",
    seed: Seed = 0,
    workers: Workers = None,
    settings: Settings = None,
) -> None:
    """Compare predictive and contrastive objectives: accuracy against the number of images seen.

    It trains four models one after another. After Ctrl-C or SIGTERM, run the same command again to resume.
    """
    from diptych.paper.training.figure2 import run_figure2
    from diptych.paper.training.setting import base_run, sets
    from diptych.paper.training.training_tables import figure2_tables

    pairs = pairs or (200_000 if data else 60_000)
    base = base_run(recipe, data, out, pairs, batch_size=batch_size, seed=seed, workers=workers, settings=settings)
    limit = pictures or (2000 if data else 250)
    done = run_figure2(base, sets(data, evaluate, template, limit, base.model.vision.image_size, seed), out)
    _show(done, figure2_tables)


@paper_app.command(
    epilog=examples(
        "diptych paper figure9",
        "diptych paper figure9 --pairs 60000 --size 1 --size 1.5 --size 2 --out runs/short-ladder",
    )
)
def figure9(
    out: Annotated[Path, Option(parser=parse.path, help="Folder for the figure and its runs.")] = Path("runs/figure9"),
    data: Data = None,
    evaluate: Sets = None,
    recipe: RecipeName = None,
    pairs: Annotated[int | None, Option(help="Pairs per model; 100,000 by default, or 300,000 with --data.")] = None,
    batch_size: BatchSize = None,
    size: Annotated[
        list[float] | None, Option(help="Factor for width and resolution, its square for depth; may be repeated.")
    ] = None,
    pictures: Pictures = None,
    template: Template = "a photo of a {c}.",
    seed: Seed = 0,
    workers: Workers = None,
    settings: Settings = None,
) -> None:
    """Train image towers of several sizes, and fit error against compute with a power law.

    It trains five models one after another. After Ctrl-C or SIGTERM, run the same command again to resume.
    """
    from diptych.paper.training.figure9 import SIZES, run_figure9
    from diptych.paper.training.setting import base_run, sets
    from diptych.paper.training.training_tables import figure9_table

    pairs = pairs or (300_000 if data else 100_000)
    base = base_run(recipe, data, out, pairs, batch_size=batch_size, seed=seed, workers=workers, settings=settings)
    limit = pictures or (None if data else 1000)
    done = run_figure9(
        base, lambda pixels: sets(data, evaluate, template, limit, pixels, seed), out, sizes=tuple(size or SIZES)
    )
    _show(done, lambda figure: [figure9_table(figure)])


def _show(figure: Any, tables: Callable[[Any], list[Any]]) -> None:
    """Print the tables and files of a Figure2 or Figure9, or how to resume if the run was stopped (None)."""
    if figure is None:
        print("stopped; everything is saved: run the same command again to resume", file=sys.stderr)
        return
    for table in tables(figure):
        show(table)
    print(f"the figure:  {figure.picture}\nthe page:    {figure.page}\nthe numbers: {figure.numbers}")
