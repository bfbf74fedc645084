"""The built-in training pairs: a seeded generator of captioned scenes (docs/playground.md)."""

from diptych.data.playground.playground_source import Playground, make_sample
from diptych.data.playground.scene_vocabulary import HELD_OUT_COUNTS, HELD_OUT_PAIRS, KINDS, SPLITS
from diptych.data.playground.sheet import contact_sheet

__all__ = [
    "HELD_OUT_COUNTS",
    "HELD_OUT_PAIRS",
    "KINDS",
    "SPLITS",
    "Playground",
    "contact_sheet",
    "make_sample",
]
