"""diptych evaluate --suite paper: all that the data at hand allows, in one report."""

from pathlib import Path
from typing import TYPE_CHECKING

from diptych.cli.common import (
    announce,
    print_skipped,
    refuse_equal_names,
    refuse_unwritable_folder,
    resumable,
    show,
    suite_setting,
)
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.evalsets.card import Card
    from diptych.evaluate.suite import Skipped

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
    partial: bool = False,
) -> None:
    """Measure each model by all tasks on all sets that are there, and write every exhibit."""
    from diptych.embed.names import check_name

    for name in models:
        check_name(name)

    from diptych.embed import load
    from diptych.evaluate.suite import read_all, run_suite
    from diptych.evaluate.tasks.table import USUAL, get_tasks
    from diptych.paper.exhibits import EXHIBITS
    from diptych.paper.run import write
    from diptych.paper.summary import SUMMARY
    from diptych.report.table import to_rich

    if suite not in SUITES:
        raise InputError(f"there is no suite {suite!r}; there is {', '.join(SUITES)}")
    if not models:
        raise InputError("nothing to measure: diptych evaluate MODEL --suite paper --data-root FOLDER")
    setting = suite_setting(models, data_root, out, None, workers, partial)
    chosen = get_tasks(tasks or USUAL)
    cards, skipped = choose_cards(setting.data, sets)
    refuse_unwritable_folder(out)
    where = None if device == "auto" else device
    if len(models) > 1:  # a wrong name is found now, not after hours with the first model
        refuse_equal_names(models, [load(name, where, precision).name for name in models])
    for name in models:
        encoder = load(name, where, precision)
        with resumable():
            done = run_suite(encoder, chosen, cards, setting, out, announce=announce)
        skipped += done.skipped
        if done.kept:
            announce(f"{encoder.name}: {done.kept} measured before, still true of this model and data, and kept")
    results = read_all(out)
    made = write([SUMMARY, *EXHIBITS.values()], results, out, skipped, data=setting.data)
    shown = dict(made.shown)
    tables = [*made.shown[0][1].tables, *(shown["shifts"].tables if "shifts" in (tasks or ()) else ())]
    for table in tables:
        show(to_rich(table))
    print_skipped(skipped)
    if not results:
        raise InputError(f"nothing could be measured, for the reasons above; they stand in {made.page}, too")
    print(f"results: {out / 'results.jsonl'}\nthe report: {made.page}")


def choose_cards(root: Path, names: list[str] | None) -> "tuple[list[Card], list[Skipped]]":
    """The cards of the sets to measure, all or those of these names; says which of them are there.

    Beside them, folders of the root that are no evaluation sets, with the reasons.

    Raises:
        InputError: there is no set of a name, or none of them is there.
    """
    from diptych.evalsets.cards import CARDS, get_card
    from diptych.evalsets.opening import find_folder, missing
    from diptych.evalsets.user_sets import own_sets
    from diptych.evaluate.suite import Skipped

    found, refused = own_sets(root)
    if broken := [name for name in names or () if name in refused]:
        raise InputError(f"{broken[0]} cannot be measured: {refused[broken[0]]}")
    own = {card.name: card for card in found}
    try:
        cards = [own.get(name) or get_card(name) for name in names] if names else [*CARDS.values(), *own.values()]
    except InputError as error:
        raise InputError(f"{error} In {root} lie, too: {', '.join(own)}" if own else str(error)) from error
    present = [card for card in cards if find_folder(card, root) is not None]
    if not present and names:
        raise InputError("; ".join(missing(card, root) for card in cards))
    if not present:
        raise InputError(
            f"there is no evaluation set in {root}: diptych data check says where to get them, diptych data embedded "
            "writes ten small ones" + "".join(f"; {name}: {reason}" for name, reason in refused.items())
        )
    announce(f"{len(present)} of {len(cards)} sets are there: {', '.join(card.title for card in present)}")
    return cards, [Skipped("any task", name, reason) for name, reason in refused.items()] if names is None else []
