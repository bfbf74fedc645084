"""A row of `diptych classify`: an image with its best labels, as text or JSON."""

import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Classified:
    """The row of `classify_pictures` for one image.

    Attributes:
        path: the file.
        classes: its best classes with their probabilities, best first; empty for a broken image.
        error: why the image could not be read; None if it was read.
    """

    path: Path
    classes: tuple[tuple[str, float], ...] = ()
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The row as a JSON object: {"path", "classes": [{"label", "probability"}], "error"}."""
        classes = [{"label": label, "probability": probability} for label, probability in self.classes]
        return {"path": str(self.path), "classes": classes, "error": self.error}


def print_classified(rows: Iterable[Classified], *, as_json: bool = False) -> bool:
    """Print one line per image on stdout, and flush: path and best classes, or the error.

    Args:
        rows: from `classify_pictures`.
        as_json: one object per line: {"path", "classes": [{"label", "probability"}], "error"}.
    Returns:
        True if no image was broken.
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
    # File names may contain control characters, or bytes that are not text.
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
