"""A row of `diptych classify`: an image with its best labels, for people and for programs."""

import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Classified:
    """What `classify_pictures` says about one image.

    Attributes:
        path: the file.
        classes: its best classes with their probabilities, best first; empty for a broken image.
        error: why it could not be read; None for a good one.
    """

    path: Path
    classes: tuple[tuple[str, float], ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: {"path", "classes": [{"label", "probability"}], "error"}."""
        classes = [{"label": label, "probability": probability} for label, probability in self.classes]
        return {"path": str(self.path), "classes": classes, "error": self.error}


def print_classified(rows: Iterable[Classified], *, as_json: bool = False) -> bool:
    """Print a line per image on stdout, at once: its path and best classes, or why it is broken.

    Args:
        rows: of `classify_pictures`.
        as_json: one object per line: {"path", "classes": [{"label", "probability"}], "error"}.
    Returns:
        True where no image was broken.
    """
    is_good = True
    for row in rows:
        is_good &= row.error is None
        print(json.dumps(row.to_dict()) if as_json else _line(row))
    sys.stdout.flush()
    return is_good


def _line(row: Classified) -> str:
    best = ", ".join(f"{label} {probability:.1%}" for label, probability in row.classes)
    line = f"{row.path}: {best if row.error is None else f'error: {row.error}'}"
    # A file may be named with control characters, or with bytes that are no text.
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
