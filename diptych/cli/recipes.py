"""diptych recipes: list all recipes, or recommend one for given data on this machine."""

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli import parse
from diptych.cli.common import announce, app, examples, show
from diptych.cli.options import PAIRS_HELP, Number

if TYPE_CHECKING:
    from diptych.recipes.guidance import Advice
    from diptych.train.plan import Plan


@app.command(epilog=examples("diptych recipes", "diptych recipes --pairs 60000"))
def recipes(
    data: Annotated[list[str] | None, typer.Argument(parser=parse.path, help=PAIRS_HELP)] = None,
    pairs: Annotated[
        Number, typer.Option(help="Number of different pairs that you have; without it, DATA is counted.")
    ] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")] = False,
) -> None:
    """List all recipes, or recommend one for DATA, or for a number of pairs, on this machine.

    With DATA or --pairs, each candidate runs a few updates on generated images to measure the time. Accuracies come
    from measured or published runs, each with its source.
    """
    from diptych.recipes.guidance import candidates, choose, measured_config, recipe_rows

    if not data and pairs is None:
        rows = recipe_rows()
        print(json.dumps(rows)) if json_lines else show(_list(rows))
        return
    num_pairs = _count(tuple(data or ())) if pairs is None else pairs
    options = candidates(num_pairs)
    plans: dict[str, Plan] = {}
    for option in options:
        from diptych.train.plan import make_plan

        announce(f"measuring a few updates of {option.recipe}")
        plans[option.recipe] = make_plan(measured_config(option.recipe, tuple(data or ()), num_pairs))
    seconds = {recipe: plan.seconds for recipe, plan in plans.items()}
    at_most = [recipe for recipe, plan in plans.items() if plan.cost.at_most]
    advice = choose(num_pairs, seconds, at_most)
    known_runs = [run for option in options for run in option.known]
    if json_lines:
        runs = [dataclasses.asdict(run) for run in known_runs]
        measured = {"num_pairs": num_pairs, "seconds": seconds, "at_most": at_most}
        print(json.dumps({**measured, **dataclasses.asdict(advice), "known_runs": runs}))
        return
    _print_advice(num_pairs, plans, advice)
    for run in known_runs:
        print(f"known run  {run.recipe} on {run.num_pairs:,} pairs ({run.data}): {run.result} [{run.source}]")
    for advice_line in advice.instead:
        print(f"instead    {advice_line}")


def _print_advice(num_pairs: int, plans: "dict[str, Plan]", advice: "Advice") -> None:
    from diptych.recipes.guidance import EPOCHS

    print(f"pairs      {num_pairs:,}, each seen {EPOCHS} times")
    print(f"recipe     {advice.recipe or 'none: do not train from scratch; see the lines `instead` below'}")
    print(f"reason     {advice.reason}")
    for recipe, plan in plans.items():
        print(f"time here  {recipe}: {plan.time} ({'; '.join(plan.cost.notes)})")


def _count(data: tuple[str, ...]) -> int:
    from diptych.train.inputs import count_pairs, no_pairs, open_pairs

    source = open_pairs(data, 64)
    announce("counting the pairs")
    if not (counted := count_pairs(source)):
        raise no_pairs(data, source)
    return counted


def _list(rows: list[dict[str, Any]]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("recipe", no_wrap=True)
    table.add_column("for")
    for name in ("parameters", "pixels", "batch"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        numbers = (row["parameters"], row["image_size"], row["batch"])
        table.add_row(
            row["recipe"], row["for"], *("as --init" if number is None else f"{number:,}" for number in numbers)
        )
    return table
