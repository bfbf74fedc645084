"""Commands that measure speed."""

import json
from pathlib import Path
from typing import Annotated

import typer

from diptych.cli import parse
from diptych.cli.common import app, examples, is_main, show
from diptych.cli.options import PAIRS_HELP, Device, Number, Option, Recipe, Settings, Workers

benchmark_app = typer.Typer(
    help="Measure where the time goes on this machine.", no_args_is_help=True, rich_markup_mode="rich"
)
app.add_typer(benchmark_app, name="benchmark")


@benchmark_app.callback()
def benchmark() -> None:
    """Measure where the time goes on this machine."""


@benchmark_app.command(
    epilog=examples(
        "diptych benchmark train",
        "diptych benchmark train 'shards/{00000..00009}.tar' --recipe ViT-B/32 --batch-size 64 --json",
    )
)
def train(
    data: Annotated[list[str] | None, typer.Argument(parser=parse.path, help=PAIRS_HELP)] = None,
    recipe: Recipe = "compact-rn",
    batch_size: Annotated[Number, Option(help="Pairs per update, over all processes.")] = None,
    settings: Settings = None,
    workers: Workers = None,
    device: Device = "auto",
    repeats: Annotated[int, Option(min=1, help="Number of steps to measure.")] = 10,
    json_lines: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> None:
    """Show where the time of a training step goes, and which share of the machine's matrix-product rate it reaches.

    Parts: waiting for data, image tower, text tower, loss, optimizer, communication between processes. Without data it
    trains on generated pairs. It writes nothing.
    """
    from diptych.recipes import configure
    from diptych.train.profile import profile_table, profile_training

    config = configure(
        recipe,
        tuple(data or ["playground:20000"]),
        str(Path("runs/benchmark")),
        num_pairs=10**9,
        settings=settings or [],
        top={"device": device, "tokenizer": None if data else "train"},
        loader={"global_batch_size": batch_size, "num_workers": workers},
    )
    profile = profile_training(config, repeats)
    if not is_main():
        return
    if json_lines:
        print(json.dumps(profile.to_dict()))
    else:
        show(profile_table(profile))
