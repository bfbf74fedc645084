"""diptych evaluate --suite paper: all that the data at hand allows, in one report."""

from pathlib import Path

import typer

from diptych.cli.common import print_skipped, suite_setting
from diptych.errors import InputError

SUITES = ("paper",)


def run_suite_command(
    suite: str,
    models: list[str],
    data_root: Path | None,
    out: Path,
    tasks: list[str] | None,
    sets: list[str] | None,
    precision: str,
    workers: int | None,
    device: str,
) -> None:
    """Measure each model by all tasks on all sets that are there, and write every exhibit."""
    from diptych.data.cards.opening import find_folder
    from diptych.data.cards.own import own_cards
    from diptych.data.cards.table import CARDS, get_card
    from diptych.embed.others import open_encoder
    from diptych.evaluate.suite import read_all, run_suite
    from diptych.evaluate.tasks import USUAL, get_tasks
    from diptych.paper.exhibits import EXHIBITS
    from diptych.paper.run import write
    from diptych.paper.summary import SUMMARY

    if suite not in SUITES:
        raise InputError(f"there is no suite {suite!r}; there is {', '.join(SUITES)}")
    if not models:
        raise InputError("nothing to measure: diptych evaluate MODEL --suite paper --data-root FOLDER")
    setting = suite_setting(models, data_root, out, None, workers)
    chosen = get_tasks(tasks or USUAL)
    own = {card.name: card for card in own_cards(setting.data)}
    cards = [own.get(name) or get_card(name) for name in sets] if sets else [*CARDS.values(), *own.values()]
    present = [card for card in cards if find_folder(card, setting.data) is not None]
    typer.echo(f"{len(present)} of {len(cards)} sets are there: {', '.join(card.title for card in present) or 'none'}")
    skipped = []
    for name in models:
        encoder = open_encoder(name, None if device == "auto" else device, precision)
        skipped += run_suite(encoder, chosen, cards, setting, out, announce=typer.echo).skipped
    made = write([SUMMARY, *EXHIBITS.values()], read_all(out), out, skipped)
    print_skipped(skipped)
    print(f"results: {out / 'results.jsonl'}\nthe report: {made.page}")
