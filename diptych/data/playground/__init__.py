"""The embedded pairs: a seeded generator of captioned scenes, and zero-shot tasks on them (docs/playground.md)."""

from diptych.data.playground.sheet import contact_sheet
from diptych.data.playground.source import Playground, make_sample
from diptych.data.playground.tasks import playground_tasks
from diptych.data.playground.vocabulary import HELD_OUT_COUNTS, HELD_OUT_PAIRS, KINDS, SPLITS

__all__ = [
    "HELD_OUT_COUNTS",
    "HELD_OUT_PAIRS",
    "KINDS",
    "SPLITS",
    "Playground",
    "contact_sheet",
    "make_sample",
    "playground_tasks",
]
