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
