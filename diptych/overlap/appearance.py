"""How images of Overlap and Clean look, and whether the training text of a copy names the class.

Overlap may differ from Clean in more than overlap: the paper's copies in Kinetics-700 are mostly black frames, those in
CIFAR-100 false alarms of low resolution, and texts of copies in Country211 rarely name the place.

Source: CLIP paper, section 5, which tells of these cases and does not count them.
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from diptych.errors import ShapeError
from diptych.overlap.contamination import Interval
from diptych.overlap.proportions import LEVEL, rate_limits

BLANK_BELOW = 8.0
"""Standard deviation of grey values, of 255, below which an image is called blank. Photographs have about 40 to 80."""
SMALL_BELOW = 64
"""Shorter side in pixels below which an image is called small."""


@dataclasses.dataclass(frozen=True)
class Appearance:
    """What one image looks like.

    Attributes:
        width, height: pixels.
        deviation: standard deviation of its grey values, 0 to 127.5.
    """

    width: int
    height: int
    deviation: float


def measure_appearance(image: Image.Image) -> Appearance:
    """Size and blankness of an image, of any mode. Transparent pixels count with the colour that they have."""
    grey = np.asarray(image.convert("RGB").convert("L"), np.float64)
    return Appearance(image.width, image.height, float(grey.std()))


@dataclasses.dataclass(frozen=True)
class SubsetAppearance:
    """What the images of a subset look like.

    Attributes:
        n: images.
        median_side: median of the shorter side, pixels; None if the subset is empty, as are the others.
        median_deviation: median of the standard deviation of grey values.
        blank, small: shares of images below BLANK_BELOW and SMALL_BELOW.
        blank_interval, small_interval: Clopper-Pearson intervals at 99.5 %.
    """

    n: int
    median_side: float | None = None
    median_deviation: float | None = None
    blank: float | None = None
    small: float | None = None
    blank_interval: Interval | None = None
    small_interval: Interval | None = None


def compare_appearance(images: Sequence[Appearance], overlap: ArrayLike) -> dict[str, SubsetAppearance]:
    """Appearance by subset: "overlap", "clean" and "all".

    Args:
        images: N images of the set.
        overlap: bool (N,), whether each overlaps with the training data.
    Raises:
        ShapeError: the two do not fit together.
    """
    copied = np.asarray(overlap)
    if copied.shape != (len(images),) or (len(images) and copied.dtype != bool):
        raise ShapeError(f"{len(images)} images need a bool row of that length: got {copied.dtype} {copied.shape}")
    sides = np.array([min(image.width, image.height) for image in images], float)
    deviations = np.array([image.deviation for image in images], float)
    rows = {"overlap": copied.astype(bool), "clean": ~copied.astype(bool), "all": np.ones(len(images), bool)}
    return {name: _subset(sides[chosen], deviations[chosen]) for name, chosen in rows.items()}


def _subset(sides: np.ndarray, deviations: np.ndarray) -> SubsetAppearance:
    n = len(sides)
    if not n:
        return SubsetAppearance(0)
    blank, small = int((deviations < BLANK_BELOW).sum()), int((sides < SMALL_BELOW).sum())
    medians = float(np.median(sides)), float(np.median(deviations))
    return SubsetAppearance(n, *medians, blank / n, small / n, _interval(blank, n), _interval(small, n))


_WORD = re.compile(r"[^\W_]+")
_IRREGULAR = {
    **{"people": "person", "children": "child", "mice": "mouse", "geese": "goose", "feet": "foot", "teeth": "tooth"},
    **{"oxen": "ox", "dice": "die", "lice": "louse"},
}
_SHORTEST_PLURAL = 4  # "gas" and "yes" are no plurals
_NO_PLURAL = ("ss", "us", "is")  # glass, bus, iris


def names_class(text: str, class_name: str) -> bool:
    """Whether a text contains a class name as whole words, in any case; the last word may be singular or plural.

    Hyphens, underscores and other punctuation separate words. Plurals are English: "ponies" is "pony". In scripts that
    write no spaces, a name is found only where punctuation surrounds it.

    Args:
        text: any text.
        class_name: one name of the class; one without a letter or digit is never found.
    """
    words, name = (_WORD.findall(value.casefold()) for value in (text, class_name))
    if not name:
        return False
    starts = range(len(words) - len(name) + 1)
    return any(
        words[start : start + len(name) - 1] == name[:-1] and _same_noun(words[start + len(name) - 1], name[-1])
        for start in starts
    )


def _same_noun(first: str, second: str) -> bool:
    return first == second or first in _singulars(second) or second in _singulars(first)


def _singulars(word: str) -> set[str]:
    """Words of which this one may be the plural."""
    found = {_IRREGULAR[word]} if word in _IRREGULAR else set()
    if len(word) >= _SHORTEST_PLURAL and word.endswith("men"):
        found.add(word[:-3] + "man")
    if len(word) < _SHORTEST_PLURAL or not word.endswith("s") or word.endswith(_NO_PLURAL):
        return found
    found.add(word[:-1])
    if word.endswith("ies"):
        found.add(word[:-3] + "y")
    elif word.endswith("ves"):
        found |= {word[:-3] + "f", word[:-3] + "fe"}
    elif word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
        found.add(word[:-2])
    return found


@dataclasses.dataclass(frozen=True)
class NamedShare:
    """How many copies have a training text that names the class of the evaluation image.

    Attributes:
        named, n: copies whose text names it, and all copies with a text.
        interval: Clopper-Pearson interval of the share at 99.5 %; None without texts.
    """

    named: int
    n: int
    interval: Interval | None

    @property
    def share(self) -> float | None:
        """named / n; None without texts."""
        return self.named / self.n if self.n else None


def named_share(texts: Sequence[Sequence[str]], class_names: Sequence[Sequence[str]]) -> NamedShare:
    """The share of copies whose training text names the class.

    Args:
        texts: the texts of each copy, one of which is enough; a copy without text is left out.
        class_names: the names of the class of each copy; one of them is enough.
    Raises:
        ShapeError: their numbers differ.
    """
    if len(texts) != len(class_names):
        raise ShapeError(f"{len(texts)} texts and the class names of {len(class_names)} copies do not fit together")
    answers = [
        any(names_class(text, name) for text in own_texts for name in names)
        for own_texts, names in zip(texts, class_names, strict=True)
        if own_texts
    ]
    return NamedShare(sum(answers), len(answers), _interval(sum(answers), len(answers)) if answers else None)


def _interval(count: int, n: int) -> Interval:
    low, high = rate_limits(count, n, LEVEL)
    return float(low), float(high)
