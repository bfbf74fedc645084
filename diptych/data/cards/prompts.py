"""The prompts table: class names and templates of the paper's evaluation sets."""

import dataclasses
import functools
import json
import re
from pathlib import Path

from diptych.errors import InputError

_TABLE = Path(__file__).parents[2] / "assets" / "prompts.jsonl"


@dataclasses.dataclass(frozen=True, slots=True)
class Prompts:
    """A set's words.

    Attributes:
        class_names: of each class, by its index, one name or more.
        templates: with {c} in the place of the class name.
        single: the one to use alone.
    """

    class_names: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]
    single: str


@functools.cache
def prompts_table() -> dict[str, Prompts]:
    """The words of each set, by the name that its card gives as `prompts`.

    Source: the authors' published lists; the paper itself prints examples only (section 3.1.4, figure 21).
    """
    with _TABLE.open(encoding="utf-8") as file:
        _source, *rows = map(json.loads, file)
    return {
        row["name"]: Prompts(
            tuple((names,) if isinstance(names, str) else tuple(names) for names in row["class_names"]),
            tuple(row["templates"]),
            row.get("single", row["templates"][0]),
        )
        for row in rows
    }


def get_prompts(name: str) -> Prompts:
    """One set's words.

    Raises:
        InputError: the table has no such row.
    """
    try:
        return prompts_table()[name]
    except KeyError:
        raise InputError(f"there are no prompts for {name!r}; there are for {', '.join(prompts_table())}") from None


def plain_name(name: str) -> str:
    """A class name for comparison: lower case, letters and digits alone."""
    return re.sub(r"[^a-z0-9]+", "", name.lower())
