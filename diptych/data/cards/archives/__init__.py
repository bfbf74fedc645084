"""Readers of the sets' original archives. Importing this makes them known: each module registers its own."""

from diptych.data.cards.archives import binary, faces, folders, lists, matlab, text_in_pictures
from diptych.data.cards.layouts import LAYOUTS

__all__ = ["LAYOUTS", "binary", "faces", "folders", "lists", "matlab", "text_in_pictures"]
