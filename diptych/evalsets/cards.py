"""The table of benchmark cards: every evaluation set of the paper by its name."""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from diptych.errors import InputError
from diptych.evalsets.card import Card
from diptych.evalsets.outside_table9 import OTHERS, SHIFTS
from diptych.evalsets.table9_added import ADDED_15
from diptych.evalsets.table9_first import FIRST_12

CARDS: Mapping[str, Card] = MappingProxyType({card.name: card for card in (*FIRST_12, *ADDED_15, *SHIFTS, *OTHERS)})
"""Cards by name: in the order of table 9, then the natural shifts, then the other sets."""


def get_card(name: str) -> Card:
    """The card of a set, by its name or one of its folder names. Case is ignored.

    Raises:
        InputError: there is no such set. The message suggests similar names.
    """
    by_alias = {alias.lower(): card for card in CARDS.values() for alias in card.folders}
    by_alias |= {card.name.lower(): card for card in CARDS.values()}
    if (card := by_alias.get(name.strip().lower())) is not None:
        return card
    similar = difflib.get_close_matches(name.strip().lower(), list(by_alias), n=5, cutoff=0.5)
    names = list(dict.fromkeys(by_alias[match].name for match in similar))
    hint = f"did you mean {' or '.join(names)}?" if names else f"there are {', '.join(CARDS)}"
    raise InputError(f"there is no card for {name!r}: {hint}")


def is_paper_set(name: str) -> bool:
    """Whether a set of this name is one of the paper's; all others are user-defined."""
    return name in CARDS


def home_of(card: Card) -> Card:
    """The set that supplies classes and training images: `shift_of` for a natural shift, else the card itself."""
    return card if card.shift_of is None else CARDS[card.shift_of]


def has_shifts(card: Card) -> bool:
    """Whether a set has natural shifts."""
    return any(other.shift_of == card.name for other in CARDS.values())


def subsets_of(card: Card) -> tuple[str, ...]:
    """The names of a set's natural shifts that have only some of its classes."""
    return tuple(other.name for other in CARDS.values() if other.shift_of == card.name and other.is_subset)
