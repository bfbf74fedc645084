"""Which sets to measure: cards of the sets in a folder by their names, and the card of one folder."""

from collections.abc import Sequence
from pathlib import Path

from diptych.errors import DataError, InputError
from diptych.evalsets.card import Card
from diptych.evalsets.cards import CARDS, get_card
from diptych.evalsets.opening import find_folder, missing
from diptych.evalsets.user_sets import own_card, own_sets
from diptych.evaluate.suite import Skipped
from diptych.files import expanded


def choose_cards(root: Path, names: Sequence[str] | None = None) -> tuple[list[Card], list[Skipped]]:
    """The cards of the sets in a folder, and the folders there that are no evaluation sets, with the reasons.

    Args:
        root: folder of evaluation sets.
        names: of the sets that are wanted; None for all cards of the paper and all sets of the user's.
    Raises:
        InputError: there is no set of a name, or none of the sets is there.
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
        InputError: there is no set of a name, or one of them is not there.
    """
    cards = _named(root, names, *own_sets(root))
    if absent := [missing(card, root) for card in cards if find_folder(card, root) is None]:
        raise DataError("; ".join(absent))
    return cards


def card_of_folder(folder: str | Path) -> tuple[Path, Card]:
    """The folder in which a set lies, and its card: the paper's where the folder is called like one of its sets.

    Raises:
        DataError: there is no such folder, or it holds no evaluation set.
    """
    path = expanded(folder)
    if str(folder) == "" or not path.is_dir():
        raise DataError(f"there is no folder {str(folder) or repr('')} to evaluate on")
    path = path.resolve()
    papers = (card for card in CARDS.values() if find_folder(card, path.parent) == path)
    card = next(papers, None)
    return path.parent, own_card(path) if card is None else card


def _named(root: Path, names: Sequence[str], own: Sequence[Card], refused: dict[str, str]) -> list[Card]:
    if broken := [name for name in names if name in refused]:
        raise InputError(f"{broken[0]} cannot be measured: {refused[broken[0]]}")
    by_name = {card.name: card for card in own}
    try:
        return [by_name.get(name) or get_card(name) for name in names]
    except InputError as error:
        raise InputError(f"{error} In {root} lie, too: {', '.join(by_name)}" if by_name else str(error)) from error
