"""diptych data: check, download and prepare evaluation sets."""

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli import parse
from diptych.cli.common import app, examples, show
from diptych.cli.options import Datasets, OldDatasets, Option, Seed, datasets

data_app = typer.Typer(
    help="Evaluation sets of the paper: check, download and prepare them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(data_app, name="data")

Root = Annotated[Path, typer.Argument(parser=parse.path, help="Folder of evaluation sets, one folder for each.")]


@data_app.command(
    epilog=examples("diptych data check sets/", "diptych data check sets/ --dataset CIFAR10 --dataset Food101")
)
def check(
    root: Root,
    dataset: Datasets = None,
    strict: Annotated[
        bool, Option("--strict", help="Exit with status 1 if a set that is present has a problem.")
    ] = False,
    old_datasets: OldDatasets = None,
) -> None:
    """Show which sets of the paper are present, whether they have the paper's sizes, and where to get the others."""
    from diptych.evalsets.checking import check_data, missing_lines, states_table
    from diptych.evalsets.user_sets import own_cards

    own = {card.name for card in own_cards(root)} if root.is_dir() else set()
    names = datasets(dataset, old_datasets)
    states = check_data(root, None if names is None else [name for name in names if name not in own])
    if any(state.present for state in states):
        show(states_table(states))
    elif states:
        print(f"none of the {len(states)} sets of the paper is there")
    if own:
        print(f"your own sets, which can be measured too: {', '.join(sorted(own))}")
    if absent := missing_lines(states, root):
        print("\n".join(["missing, and where to get them:", *absent]))
    if strict and any(state.problems for state in states):
        raise typer.Exit(1)


@data_app.command(
    epilog=examples(
        "diptych data prepare RenderedSST2 sst2/ sets/RenderedSST2",
        "diptych data prepare KITTI kitti/ sets/KITTI",
    )
)
def prepare(
    name: Annotated[str, typer.Argument(help="Name of the set; a wrong name lists all names.")],
    source: Annotated[Path, typer.Argument(parser=parse.path, help="The source data, as its authors publish it.")],
    out: Annotated[
        Path, typer.Argument(parser=parse.path, help="Folder for the set; it is written whole or not at all.")
    ],
    seed: Annotated[
        int,
        Option(
            help="Seed of the random draws; by default the seed that Diptych uses when it reads the archive directly."
        ),
    ] = 2021,
) -> None:
    """Derive a set of the paper from another data set, by seeded rules."""
    from diptych.evalsets.preparing import prepare

    print(f"the set: {prepare(name, source, out, seed=seed)}")


@data_app.command(epilog=examples("diptych data fetch CIFAR10 sets/CIFAR10"))
def fetch(
    name: Annotated[str, typer.Argument(help="A set of the paper that is on the hub, or a hub id OWNER/NAME.")],
    out: Annotated[
        Path, typer.Argument(parser=parse.path, help="Folder for the set; an interrupted download continues.")
    ],
    endpoint: Annotated[str | None, Option(help="Address of a hub other than huggingface.co.")] = None,
    revision: Annotated[str | None, Option(help="Branch, tag or commit.")] = None,
) -> None:
    """Download a set from the Hugging Face hub: images in shards or parquet files, never code."""
    from diptych.errors import InputError
    from diptych.evalsets.cards import get_card
    from diptych.evalsets.hub_download import fetch

    repo = name if "/" in name else get_card(name).hub
    if repo is None:
        raise InputError(
            f"{name} is not on the hub in a form that Diptych reads; get it from {get_card(name).homepage}"
        )
    print(f"the set: {fetch(repo, out, endpoint=endpoint, revision=revision)}")


@data_app.command(epilog=examples("diptych data embedded sets/"))
def embedded(root: Root, seed: Seed = 0) -> None:
    """Write ten small sets that need no download: scikit-learn's handwritten digits and the playground's tasks."""
    from diptych.evalsets.embedded import write_embedded
    from diptych.progress import progress_bar

    for folder in write_embedded(root, seed=seed, track=progress_bar):
        print(folder)
