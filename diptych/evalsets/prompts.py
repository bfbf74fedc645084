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
_PHOTO = "a photo of a {c}."  # figure 21 shows it for all sets below except SVHN
DEFAULT_TEMPLATES = (_PHOTO,)

# The paper does not publish its names for these sets; the names are those of the sets' authors.
_VID = (
    "airplane, antelope, bear, bicycle, bird, bus, car, cattle, dog, domestic cat, elephant, fox, giant panda, "
    "hamster, horse, lion, lizard, monkey, motorcycle, rabbit, red panda, sheep, snake, squirrel, tiger, train, "
    "turtle, watercraft, whale, zebra"
)
_YAHOO = "bag, building, carriage, centaur, donkey, goat, jet ski, monkey, mug, statue, wolf, zebra"


@dataclasses.dataclass(frozen=True, slots=True)
class Prompts:
    """The class names and templates of a set.

    Attributes:
        class_names: one or more names of each class, by class index.
        templates: texts in which {c} stands for the class name.
        single: the template for use without an ensemble.
    """

    class_names: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]
    single: str


@functools.cache
def prompts_table() -> dict[str, Prompts]:
    """The prompts of each set, by the name in its card's `prompts`.

    Source: the lists that CLIP's authors published; the paper itself prints examples only (section 3.1.4, figure 21).
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
    """Prompts of sets without a published list: subsets of ImageNet's classes, and class names by the sets' authors."""
    imagenet = prompts_table()["ImageNet"]
    with _SHIFTS.open(encoding="utf-8") as file:
        shifts = {row["name"]: row for row in list(map(json.loads, file))[1:]}
    derived = {"ImageNet-Vid": _plain(_VID.split(", ")), "aYahoo": _plain(_YAHOO.split(", "))}
    for name in ("ImageNet-A", "ImageNet-R"):
        names = tuple(imagenet.class_names[index] for (index,) in shifts[name]["classes"])
        derived[name] = dataclasses.replace(imagenet, class_names=names)
    objects = [name.lower() for name in shifts["ObjectNet"]["class_names"]]
    derived["ObjectNet"] = dataclasses.replace(imagenet, class_names=tuple((name,) for name in objects))
    derived["Youtube-BB"] = _plain(shifts["Youtube-BB"]["class_names"])
    for name, count in (("SVHN", 10), ("SVHN-Numbers", 2000)):
        derived[name] = _plain([str(number) for number in range(count)], 'a street sign of the number: "{c}".')
    return derived


def _plain(names: Sequence[str], template: str = _PHOTO) -> Prompts:
    return Prompts(tuple((name,) for name in names), (template,), template)


def get_prompts(name: str) -> Prompts:
    """The prompts of one set. Sets without a published list use ImageNet's names or those of the sets' authors.

    Raises:
        InputError: there is no such row.
    """
    table = prompts_table()
    prompts = table.get(name) or _derived().get(name)
    if prompts is None:
        raise InputError(f"there are no prompts for {name!r}; there are for {', '.join([*table, *_derived()])}")
    return prompts


def published_single(templates: Sequence[str]) -> str | None:
    """The single template of a list that is in the prompts table; None if it is the first, or for any other list."""
    rows = (row for row in prompts_table().values() if set(row.templates) == set(templates))
    single = next((row.single for row in rows), None)
    return None if single in (None, *templates[:1]) else single


def plain_name(name: str) -> str:
    """A class name for comparison: lower case, only letters and digits, without accents."""
    return "".join(letter for letter in unicodedata.normalize("NFKD", name).casefold() if letter.isalnum())
