"""Choose the sets to measure: find the cards of a folder's sets by name, and the card of a single folder."""

from collections.abc import Sequence
from pathlib import Path

from diptych.errors import DataError, InputError
from diptych.evalsets.card import Card
from diptych.evalsets.cards import CARDS, get_card
from diptych.evalsets.opening import find_folder, missing
from diptych.evalsets.user_sets import card_of_folder, open_set, own_sets, split_task
from diptych.evaluate.suite import Skipped
from diptych.evaluate.tasks.registry import get_tasks
from diptych.evaluate.tasks.task import BoundTask, Setting
from diptych.evaluate.zero_shot.evaluator import ZeroShot


def choose_cards(root: Path, names: Sequence[str] | None = None) -> tuple[list[Card], list[Skipped]]:
    """The cards of the sets in a folder, and which folders in it are not evaluation sets, with the reasons.

    Args:
        root: folder of evaluation sets.
        names: names of the wanted sets; None for all sets of the paper and all of the user's own sets.
    Raises:
        InputError: no set has one of the names, or none of the sets exists in the folder.
    """
    own, refused = own_sets(root)
    if names:
        cards = _named(root, names, own, refused)
    else:
        cards = [*CARDS.values(), *own]
    present = [card for card in cards if find_folder(card, root) is not None]
    if not present and names:
        raise InputError("; ".join(missing(card, root) for card in cards))
    if not present:
        raise InputError(
            f"there is no evaluation set in {root}: diptych data check says where to get them, diptych data embedded "
            "writes ten small ones" + "".join(f"; {name}: {reason}" for name, reason in refused.items())
        )
    return cards, [Skipped("any task", name, reason) for name, reason in refused.items()] if names is None else []


def cards_of_names(root: Path, names: Sequence[str]) -> list[Card]:
    """The cards of sets that must all be in a folder.

    Raises:
        InputError: no set has one of the names, or a set is missing from the folder.
    """
    cards = _named(root, names, *own_sets(root))
    if absent := [missing(card, root) for card in cards if find_folder(card, root) is None]:
        raise DataError("; ".join(absent))
    return cards


def make_evaluator(named: str, predictions: Path | None = None) -> ZeroShot | BoundTask:
    """The evaluator for SET or SET:TASK: the task bound to the set in that folder; zero-shot if no task is named.

    Raises:
        DataError: the folder does not exist, or it holds no evaluation set.
        ConfigError: the task does not exist, or it does not apply to the set.
    """
    folder, task = split_task(named)
    if task is None:
        return ZeroShot(open_set(folder), predictions_folder=predictions)
    [chosen] = get_tasks([task])
    root, card = card_of_folder(folder)
    return chosen.bind(card, Setting(root, predictions=predictions))


def _named(root: Path, names: Sequence[str], own: Sequence[Card], refused: dict[str, str]) -> list[Card]:
    if unusable := [name for name in names if name in refused]:
        raise InputError(f"{unusable[0]} cannot be measured: {refused[unusable[0]]}")
    by_name = {card.name: card for card in own}
    try:
        return [by_name.get(name) or get_card(name) for name in names]
    except InputError as error:
        raise InputError(f"{error} In {root} lie, too: {', '.join(by_name)}" if by_name else str(error)) from error
