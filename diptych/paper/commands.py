"""diptych paper: the paper's figures, measured again."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from diptych.data.benchmarks import Benchmark
    from diptych.paper.figure2 import Figure2
    from diptych.paper.figure9 import Figure9
    from diptych.train import TrainConfig

# torch takes seconds to import; each command imports what it needs, so that --help answers at once.
paper_app = typer.Typer(
    help="Measure figures of the CLIP paper again, at a size that fits the machine.", no_args_is_help=True
)

UNIQUE_PAIRS = 50_000
_Option = typer.Option
Data = Annotated[
    list[str] | None, _Option("--data", help="Pairs as for diptych train; the embedded playground by default.")
]
Sets = Annotated[list[str] | None, _Option("--evaluate", help="Evaluation set, needed with --data; may be repeated.")]
RecipeName = Annotated[str | None, _Option("--recipe", help="Hyper-parameters; quickstart, or compact-rn with --data.")]
Pictures = Annotated[int | None, _Option(min=1, help="Pictures of each set to measure on, evenly spread.")]
Template = Annotated[str, _Option(help="Prompt with {c} for sets given by --evaluate.")]
Workers = Annotated[int | None, _Option(min=0, help="Processes that decode pictures; changes no number.")]
BatchSize = Annotated[int | None, _Option(min=1, help="Pairs per update.")]
Seed = Annotated[int, _Option(help="Seed of the weights and of the data's order.")]


@paper_app.command()
def figure2(
    out: Annotated[Path, _Option(help="Folder of the figure and of its runs.")] = Path("runs/figure2"),
    data: Data = None,
    evaluate: Sets = None,
    recipe: RecipeName = None,
    pairs: Annotated[int | None, _Option(help="Pairs per contestant; 60,000, or 200,000 with --data.")] = None,
    batch_size: BatchSize = None,
    pictures: Pictures = None,
    template: Template = "a photo of a {c}.",
    seed: Seed = 0,
    workers: Workers = None,
) -> None:
    """Compare predictive and contrastive objectives: accuracy against pictures seen, at doubling numbers.

    Four trainings one after another. Stopped by Ctrl-C or SIGTERM, the same command goes on.
    """
    from diptych.paper.figure2 import run_figure2

    pairs = pairs or (200_000 if data else 60_000)
    base = base_run(recipe, data, out, pairs, batch_size=batch_size, seed=seed, workers=workers)
    limit = pictures or (2000 if data else 250)
    done = run_figure2(base, sets(data, evaluate, template, limit, base.model.vision.image_size, seed), out)
    if done is None:
        _say_how_to_go_on()
        return
    _print(_figure2_tables(done))
    print(f"the figure:  {done.picture}\nthe page:    {done.page}\nthe numbers: {done.numbers}")


@paper_app.command()
def figure9(
    out: Annotated[Path, _Option(help="Folder of the figure and of its runs.")] = Path("runs/figure9"),
    data: Data = None,
    evaluate: Sets = None,
    recipe: RecipeName = None,
    pairs: Annotated[int | None, _Option(help="Pairs per model; 100,000, or 300,000 with --data.")] = None,
    batch_size: BatchSize = None,
    size: Annotated[
        list[float] | None, _Option(help="Factor on width and resolution, its square on depth; may be repeated.")
    ] = None,
    pictures: Pictures = None,
    template: Template = "a photo of a {c}.",
    seed: Seed = 0,
    workers: Workers = None,
) -> None:
    """Train a ladder of image towers and fit error against compute with a power law.

    Five trainings one after another. Stopped by Ctrl-C or SIGTERM, the same command goes on.
    """
    from diptych.paper.figure9 import SIZES, run_figure9

    pairs = pairs or (300_000 if data else 100_000)
    base = base_run(recipe, data, out, pairs, batch_size=batch_size, seed=seed, workers=workers)
    limit = pictures or (None if data else 1000)
    done = run_figure9(
        base, lambda pixels: sets(data, evaluate, template, limit, pixels, seed), out, sizes=tuple(size or SIZES)
    )
    if done is None:
        _say_how_to_go_on()
        return
    _print([_figure9_table(done)])
    print(f"the figure:  {done.picture}\nthe page:    {done.page}\nthe numbers: {done.numbers}")


def base_run(
    recipe: str | None,
    data: Sequence[str] | None,
    out: Path,
    pairs: int,
    *,
    batch_size: int | None,
    seed: int,
    workers: int | None,
) -> "TrainConfig":
    """The contrastive run that a figure's runs are changes of.

    Raises:
        ConfigError: there is no such recipe, or too few pairs.
    """
    from diptych.recipes import configure

    chosen = recipe or ("compact-rn" if data else "quickstart")
    source = tuple(data) if data else (f"playground:{min(UNIQUE_PAIRS, pairs)}",)
    loader = {"global_batch_size": batch_size, "seed": seed, "num_workers": workers}
    return configure(chosen, source, str(out), num_pairs=pairs, top={"seed": seed}, loader=loader)


def sets(
    data: Sequence[str] | None,
    evaluate: Sequence[str] | None,
    template: str,
    pictures: int | None,
    image_size: int,
    seed: int,
) -> list["Benchmark"]:
    """The labelled sets, with the template that is used and at most so many pictures each; the playground's tasks
    where no data are named.

    Raises:
        InputError: data without a set, or a set without data.
        DataError: a set is broken.
    """
    import dataclasses

    from diptych.data.benchmarks import open_benchmark
    from diptych.data.playground import playground_tasks
    from diptych.errors import InputError
    from diptych.evaluate.prompts import check_templates
    from diptych.paper.runs import thinned

    if bool(data) != bool(evaluate):
        raise InputError("give both --data (pairs to train on) and --evaluate (sets to measure on), or neither")
    if not evaluate:
        return playground_tasks(seed=seed, size=image_size, num_samples=pictures or 1000)
    opened = [thinned(open_benchmark(path), pictures) for path in evaluate]
    return [dataclasses.replace(one, templates=check_templates(template)) for one in opened]


def _say_how_to_go_on() -> None:
    print("stopped; all is saved, and the same command goes on", file=sys.stderr)


def _print(tables: Sequence[Table]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in tables:
        console.print(table)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    from rich.box import SIMPLE_HEAD

    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(str, row))
    return table


def _figure2_tables(done: "Figure2") -> list[Table]:
    from diptych.paper.figure2 import TRANSFORMER, ratio_in_words
    from diptych.paper.published import EFFICIENCY

    pairs = [f"{one.pairs:,}" for one in done.curves[TRANSFORMER]]
    rows = [[name, *(f"{100 * one.accuracy:.1f}" for one in curve)] for name, curve in done.curves.items()]
    rows.append(["chance", *[f"{100 * done.chance:.1f}"] * len(pairs)])
    ratios = [
        [fast, slow, f"{100 * found.accuracy:.1f}", ratio_in_words(found), EFFICIENCY.get((fast, slow), "")]
        for (fast, slow), found in done.ratios.items()
    ]
    return [
        _table("Zero-shot accuracy, %, after so many pairs", ["objective", *pairs], rows),
        _table("Times fewer pictures", ["this one", "than this one", "at, %", "here", "paper"], ratios),
    ]


def _figure9_table(done: "Figure9") -> Table:
    rows = [[name, f"{x:.4f}", f"{y:.1f}"] for name, x, y in zip(done.names, done.gflops, done.errors, strict=True)]
    return _table(f"Error, %, against compute: {done.law.in_words()}", ["model", "GFLOPs", "mean error"], rows)
