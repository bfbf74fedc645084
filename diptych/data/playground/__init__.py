"""The built-in training pairs: a seeded generator of captioned scenes (docs/playground.md)."""

from diptych.data.playground.sheet import contact_sheet
from diptych.data.playground.source import Playground, make_sample
from diptych.data.playground.vocabulary import HELD_OUT_COUNTS, HELD_OUT_PAIRS, KINDS, SPLITS

__all__ = [
    "HELD_OUT_COUNTS",
    "HELD_OUT_PAIRS",
    "KINDS",
    "SPLITS",
    "Playground",
    "contact_sheet",
    "make_sample",
]
