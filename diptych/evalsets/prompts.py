"""The prompts table: class names and templates of the paper's evaluation sets."""

import dataclasses
import functools
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from diptych.errors import InputError

_ASSETS = Path(__file__).parents[1] / "assets"
_TABLE, _SHIFTS = _ASSETS / "prompts.jsonl", _ASSETS / "imagenet_shifts.jsonl"
_PHOTO = "a photo of a {c}."  # figure 21 shows it for all sets below but SVHN
DEFAULT_TEMPLATES = (_PHOTO,)

# The paper does not publish its names for these; they are those of the sets' own authors.
_VID = (
    "airplane, antelope, bear, bicycle, bird, bus, car, cattle, dog, domestic cat, elephant, fox, giant panda, "
    "hamster, horse, lion, lizard, monkey, motorcycle, rabbit, red panda, sheep, snake, squirrel, tiger, train, "
    "turtle, watercraft, whale, zebra"
)
_YAHOO = "bag, building, carriage, centaur, donkey, goat, jet ski, monkey, mug, statue, wolf, zebra"


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


@functools.cache
def _derived() -> dict[str, Prompts]:
    """Sets for which the authors published no list: subsets of ImageNet's classes, and classes named by others."""
    imagenet = prompts_table()["ImageNet"]
    with _SHIFTS.open(encoding="utf-8") as file:
        shifts = {row["name"]: row for row in list(map(json.loads, file))[1:]}
    found = {"ImageNet-Vid": _plain(_VID.split(", ")), "aYahoo": _plain(_YAHOO.split(", "))}
    for name in ("ImageNet-A", "ImageNet-R"):
        names = tuple(imagenet.class_names[index] for (index,) in shifts[name]["classes"])
        found[name] = dataclasses.replace(imagenet, class_names=names)
    objects = [name.lower() for name in shifts["ObjectNet"]["class_names"]]
    found["ObjectNet"] = dataclasses.replace(imagenet, class_names=tuple((name,) for name in objects))
    found["Youtube-BB"] = _plain(shifts["Youtube-BB"]["class_names"])
    for name, count in (("SVHN", 10), ("SVHN-Numbers", 2000)):
        found[name] = _plain([str(number) for number in range(count)], 'a street sign of the number: "{c}".')
    return found


def _plain(names: Sequence[str], template: str = _PHOTO) -> Prompts:
    return Prompts(tuple((name,) for name in names), (template,), template)


def get_prompts(name: str) -> Prompts:
    """One set's words; of sets outside of the authors' lists, ImageNet's own or those of the sets' authors.

    Raises:
        InputError: there is no such row.
    """
    table = prompts_table()
    found = table.get(name) or _derived().get(name)
    if found is None:
        raise InputError(f"there are no prompts for {name!r}; there are for {', '.join([*table, *_derived()])}")
    return found


def published_single(templates: Sequence[str]) -> str | None:
    """The template to use alone out of a list that is one of the table's; None for another list, and for the first."""
    rows = (row for row in prompts_table().values() if set(row.templates) == set(templates))
    single = next((row.single for row in rows), None)
    return None if single in (None, *templates[:1]) else single


def plain_name(name: str) -> str:
    """A class name for comparison: lower case, letters and digits alone, without accents."""
    return "".join(one for one in unicodedata.normalize("NFKD", name).casefold() if one.isalnum())
