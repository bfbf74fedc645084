"""The registry of layouts: how the original archive of each set is read."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from diptych.data.source import Source
from diptych.evalsets.prompts import Prompts


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """An original archive, unpacked.

    Attributes:
        read: from the set's folder and "train", "val" or "test" to labelled samples, in the card's order of classes.
            It raises DataError where a file is missing or broken, or the set has no such split.
        needs: what must be there for the folder to be this archive, relative to it; "*" may stand for a name.
        words: from the folder to class names and templates, where the card has no prompts of its own.
        read_fold: like `read`, of the fold with a number (from 1), where the authors publish several.
    """

    read: Callable[[Path, str], Source]
    needs: tuple[str, ...]
    words: Callable[[Path], Prompts] | None = None
    read_fold: Callable[[Path, str, int], Source] | None = None

    def fits(self, folder: Path) -> bool:
        """Whether the folder has what this archive has."""
        return all(next(folder.glob(need), None) is not None for need in self.needs)


LAYOUTS: dict[str, tuple[Layout, ...]] = {}
"""By the card's name; several where the archive is published in several forms, tried in this order."""


def register(layouts: Mapping[str, Layout | tuple[Layout, ...]]) -> None:
    """Add layouts by the card's name, behind those that are there."""
    for name, given in layouts.items():
        LAYOUTS[name] = LAYOUTS.get(name, ()) + (given if isinstance(given, tuple) else (given,))
