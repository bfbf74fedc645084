"""diptych tune: search hyper-parameters in short runs."""

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli import parse
from diptych.cli.common import announce, app, examples, show
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
    Seed,
    Settings,
    Workers,
)
from diptych.cli.train import init_config
from diptych.errors import InputError

First = Annotated[
    list[str] | None,
    Option("--try", help="Settings to try first, NAME=VALUE separated by spaces; may be repeated."),
]


@app.command(
    epilog=examples(
        "diptych tune photos/ --pairs 20000 --trials 20 --search optimizer.lr=log:1e-4..1e-2 --out runs/tune",
        "diptych tune photos/ --pairs 20000 --trials 20 --sampler grid --search optimizer.lr=1e-4,1e-3 --out runs/grid",
    )
)
def tune(
    data: Annotated[list[str], typer.Argument(parser=parse.path, help=PAIRS_HELP)],
    search: Annotated[
        list[str],
        Option(help="NAME=A,B,C (choices), NAME=LOW..HIGH or NAME=log:LOW..HIGH; may be repeated."),
    ],
    out: Annotated[Path, Option(parser=parse.path, help="Folder for the search: study.log, and a run for each trial.")],
    recipe: Recipe = "compact-rn",
    pairs: Annotated[Number, Option(help="Pairs that each trial sees, repetitions included.")] = None,
    epochs: Annotated[Fraction, Option(help="Passes over the data in each trial, instead of --pairs.")] = None,
    trials: Annotated[int, Option(min=1, help="Number of trials; a grid may have fewer.")] = 20,
    sampler: Annotated[str, Option(help="random, grid, or tpe (learns from earlier trials).")] = "random",
    first: First = None,
    objective: Annotated[
        str, Option(help="loss or accuracy, on held-out training pairs; never on a test set.")
    ] = "loss",
    held_out: Annotated[float, Option(help="Share of the pairs that no trial trains on.")] = 0.05,
    settings: Settings = None,
    init: Init = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    activation: InitActivation = None,
    heads: InitHeads = None,
    offline: Offline = False,
    workers: Workers = None,
    device: Device = "auto",
    seed: Seed = 0,
    resume: Annotated[bool, Option("--resume", help="Continue the search in --out.")] = False,
) -> None:
    """Search hyper-parameters in short runs, and compare them on held-out training pairs.

    The paper (section 2.5) uses grid, random and manual search on a small model for one epoch, and adapts the result by
    hand to larger models. The command needs an extra: pip install 'diptych[search]'.
    """
    from diptych.recipes import configure
    from diptych.recipes.hyperparameter_search import Search, search_hyperparameters, trials_table

    config = configure(
        recipe,
        tuple(data),
        str(out),
        num_pairs=pairs,
        epochs=epochs,
        init=init_config(init, activation, heads),
        settings=settings or [],
        top={"device": device, "seed": seed},
        columns={"image": image_column, "caption": caption_column},
        loader={"num_workers": workers, "seed": seed},
    )
    plan = Search(config, tuple(search), tuple(first or ()), trials, sampler, objective, held_out)
    outcome = search_hyperparameters(plan, resume=resume)
    show(trials_table(outcome))
    if not outcome.finished:
        announce(f"stopped after {len(outcome.trials)} trials; run the same command with --resume to continue")
        raise typer.Exit(0)
    if outcome.best is None:
        raise InputError("no trial finished: search lower learning rates, or look at the runs in the folder")
    print(f"best: {' '.join(f'--set {setting}' for setting in outcome.best.settings)}")
