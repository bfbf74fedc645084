"""The registry of layouts: how the original archive of each set is read."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from diptych.data.source import Source
from diptych.evalsets.prompts import Prompts


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """An unpacked original archive and its reader.

    Attributes:
        read: maps the set's folder and "train", "val" or "test" to labeled samples. Labels follow the card's order of
            classes. Raises DataError if a file is missing or broken, or if the set has no such split.
        needs: glob patterns, relative to the folder; the folder is this archive if each of them matches.
        words: maps the folder to class names and templates, for cards without prompts.
        read_fold: like `read`, for one fold (counted from 1), if the authors publish several.
    """

    read: Callable[[Path, str], Source]
    needs: tuple[str, ...]
    words: Callable[[Path], Prompts] | None = None
    read_fold: Callable[[Path, str, int], Source] | None = None

    def fits(self, folder: Path) -> bool:
        """Whether the folder contains everything in `needs`."""
        return all(next(folder.glob(need), None) is not None for need in self.needs)


LAYOUTS: dict[str, tuple[Layout, ...]] = {}
"""By card name. An archive that is published in several forms has several layouts; they are tried in this order."""


def register(layouts: Mapping[str, Layout | tuple[Layout, ...]]) -> None:
    """Add layouts by card name, after those that are registered already."""
    for name, added in layouts.items():
        LAYOUTS[name] = LAYOUTS.get(name, ()) + (added if isinstance(added, tuple) else (added,))
