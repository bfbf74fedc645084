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
"""By name, in the order of table 9; then the natural shifts, then the others."""


def get_card(name: str) -> Card:
    """The card of a set, by its name or one of its folders' names, in any case of letters.

    Raises:
        InputError: there is no such set; the message names those that are called nearly so.
    """
    called = {alias.lower(): card for card in CARDS.values() for alias in card.folders}
    called |= {card.name.lower(): card for card in CARDS.values()}
    if (found := called.get(name.strip().lower())) is not None:
        return found
    near = difflib.get_close_matches(name.strip().lower(), list(called), n=5, cutoff=0.5)
    names = list(dict.fromkeys(called[match].name for match in near))
    hint = f"did you mean {' or '.join(names)}?" if names else f"there are {', '.join(CARDS)}"
    raise InputError(f"there is no card for {name!r}: {hint}")


def is_paper_set(name: str) -> bool:
    """Whether a set of this name is one of the paper's; all others are sets of users."""
    return name in CARDS


def home_of(card: Card) -> Card:
    """The set of which a card is a natural shift, whose classes and training images stand for it; else the card."""
    return card if card.shift_of is None else CARDS[card.shift_of]


def has_shifts(card: Card) -> bool:
    """Whether there are natural shifts of a set."""
    return any(other.shift_of == card.name for other in CARDS.values())


def subsets_of(card: Card) -> tuple[str, ...]:
    """The natural shifts of a set that have some of its classes alone, by name."""
    return tuple(other.name for other in CARDS.values() if other.shift_of == card.name and other.is_subset)
