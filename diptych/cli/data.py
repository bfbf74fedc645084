"""Commands for evaluation sets: what is there, how to get it, and the sets that the paper derives from others."""

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli import paths
from diptych.cli.common import Option, Seed, app, examples, show

data_app = typer.Typer(
    help="Evaluation sets of the paper: check them, fetch them, derive them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(data_app, name="data")

Root = Annotated[
    Path, typer.Argument(parser=paths.path, help="Folder of evaluation sets, each in a folder of its own.")
]
Sets = Annotated[list[str] | None, Option("--set", help="This set only; may be repeated.")]


@data_app.command(epilog=examples("diptych data check sets/", "diptych data check sets/ --set CIFAR10 --set Food101"))
def check(
    root: Root,
    sets: Sets = None,
    strict: Annotated[bool, Option("--strict", help="Exit with 1 where a set that is there has a problem.")] = False,
) -> None:
    """Say which sets of the paper are there, whole and of the paper's size, and where to get the others."""
    from diptych.evalsets.checking import check_data, missing_lines, states_table
    from diptych.evalsets.user_sets import own_cards

    own = {card.name for card in own_cards(root)} if root.is_dir() else set()
    states = check_data(root, None if sets is None else [name for name in sets if name not in own])
    if any(state.present for state in states):
        show(states_table(states))
    elif states:
        print(f"none of {len(states)} sets of the paper is there")
    if own:
        print(f"sets of your own, which can be measured, too: {', '.join(sorted(own))}")
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
    name: Annotated[str, typer.Argument(help="The set to derive; a wrong name lists all.")],
    source: Annotated[Path, typer.Argument(parser=paths.path, help="What it is made from, as its authors publish it.")],
    out: Annotated[Path, typer.Argument(parser=paths.path, help="Folder for the set; it appears whole or not at all.")],
    seed: Annotated[int, Option(help="Of the drawing; by default as the archive itself is read.")] = 2021,
) -> None:
    """Make a set that the paper derives from another one, by seeded rules."""
    from diptych.evalsets.preparing import prepare

    print(f"the set: {prepare(name, source, out, seed=seed)}")


@data_app.command(epilog=examples("diptych data fetch CIFAR10 sets/CIFAR10"))
def fetch(
    name: Annotated[str, typer.Argument(help="A set of the paper with a place on the hub, or a hub id OWNER/NAME.")],
    out: Annotated[Path, typer.Argument(parser=paths.path, help="Folder for it; a broken-off download goes on.")],
    endpoint: Annotated[str | None, Option(help="Another hub than huggingface.co.")] = None,
    revision: Annotated[str | None, Option(help="Branch, tag or commit.")] = None,
) -> None:
    """Download a set from the Hugging Face hub: pictures in shards or parquet files, never code."""
    from diptych.errors import InputError
    from diptych.evalsets.cards import get_card
    from diptych.evalsets.hub_download import fetch

    repo = name if "/" in name else get_card(name).hub
    if repo is None:
        raise InputError(f"{name} is not on the hub in a form that is read here: {get_card(name).homepage}")
    print(f"the set: {fetch(repo, out, endpoint=endpoint, revision=revision)}")


@data_app.command(epilog=examples("diptych data embedded sets/"))
def embedded(root: Root, seed: Seed = 0) -> None:
    """Write the sets that need no download: scikit-learn's handwritten digits, and the playground's tasks."""
    from diptych.evalsets.embedded import write_embedded
    from diptych.progress import progress_bar

    for folder in write_embedded(root, seed=seed, track=progress_bar):
        print(folder)
