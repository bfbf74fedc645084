"""A scene: the content of an image, drawn from a seeded generator before it is rendered and captioned.

Lengths and positions are fractions of the image's side, so that a scene can be rendered at any size.
"""

import bisect
import itertools
import random
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

from diptych.data.playground import masks
from diptych.data.playground.scene_vocabulary import (
    COLOURS,
    KIND_WEIGHTS,
    KINDS,
    NUMBERS,
    PATTERNS,
    POSITIONS,
    RELATIONS,
    RGB,
    SEEN_COUNTS,
    SEEN_PAIRS,
    TEXTURES,
    WORDS,
    fitting_backgrounds,
)

T = TypeVar("T")
JITTER = 10
ANGLES = (-12, -6, 0, 6, 12)
# Diameters at 64 px. Captions call the small ones small and the large ones large; the medium ones have no size word.
DIAMETERS = {"small": (18, 20, 22), "": (26, 28), "large": (32, 34, 36)}
MANY_DIAMETERS = (12, 14, 16)
TWO_DIAMETERS = (18, 20, 22, 24)


class Thing(NamedTuple):
    """A shape with its position: center and diameter are fractions of the image's side, angle is in degrees."""

    colour: str
    shape: str
    texture: str
    size: str
    rgb: RGB
    x: float
    y: float
    diameter: float
    angle: int


class Background(NamedTuple):
    """The background of a scene: row of BACKGROUNDS, pattern, and variant of the pattern."""

    row: int
    pattern: str
    variant: int


class Scene(NamedTuple):
    """All facts of one image; fields that do not apply to its kind are empty.

    Attributes:
        kind: "single", "count", "relation", "word" or "digit".
        things: the shapes; in a relation scene the first thing is `relation` the second, e.g. left of it.
        ink: color of the word or the digit; `ink_rgb` is its jittered value.
        panel: whether the word is on a sign.
        digit: 0 to 9; digit_index is the index of its image in scikit-learn's set.
        x, y, extent, angle: position, height and rotation of the word or the digit.
    """

    kind: str
    background: Background
    things: tuple[Thing, ...] = ()
    position: str = ""
    relation: str = ""
    word: str = ""
    panel: bool = False
    digit: int | None = None
    digit_index: int = 0
    ink: str = ""
    ink_rgb: RGB = (0, 0, 0)
    x: float = 0.5
    y: float = 0.5
    extent: float = 0.0
    angle: int = 0


def pick(rng: random.Random, items: Sequence[T]) -> T:
    """Return one of the items; uses only random(), whose stream Python guarantees to be stable."""
    return items[int(rng.random() * len(items))]


def draw_kind(rng: random.Random, kinds: tuple[str, ...] | None) -> str:
    """Return the kind of the next scene: uniformly from `kinds`, or from all kinds by their weights if None."""
    if kinds is not None:
        return pick(rng, kinds)
    return KINDS[min(bisect.bisect(_CUMULATIVE, rng.random()), len(KINDS) - 1)]


def draw_scene(rng: random.Random, kind: str, split: str) -> Scene:
    """Draw a scene of a kind; held-out combinations never occur."""
    if kind == "single":
        return single_scene(rng, *pick(rng, SEEN_PAIRS))
    if kind == "count":
        # Draw the number first, then the pair, so that all numbers are equally frequent.
        return count_scene(rng, *pick(rng, _SEEN_OF_COUNT[int(rng.random() * len(_SEEN_OF_COUNT))]))
    if kind == "relation":
        first, second = pick(rng, SEEN_PAIRS), pick(rng, SEEN_PAIRS)
        while first[0] == second[0] or first[1] == second[1]:
            second = pick(rng, SEEN_PAIRS)
        return relation_scene(rng, first, second, pick(rng, RELATIONS))
    if kind == "word":
        return word_scene(rng, pick(rng, WORDS))
    return digit_scene(rng, split)


def single_scene(rng: random.Random, colour: str, shape: str) -> Scene:
    """Draw a scene with one thing of this color and shape, in one of nine positions."""
    size = pick(rng, ("small", "", "large"))
    diameter = pick(rng, DIAMETERS[size]) / 64
    place = int(rng.random() * 9)
    low, high = diameter / 2 + 0.02, 1 - diameter / 2 - 0.02
    x = min(max(0.19 + 0.31 * (place % 3) + 0.09 * (rng.random() - 0.5), low), high)
    y = min(max(0.19 + 0.31 * (place // 3) + 0.09 * (rng.random() - 0.5), low), high)
    thing = Thing(colour, shape, _texture(rng), size, _jitter(rng, colour), x, y, diameter, pick(rng, ANGLES))
    return Scene("single", _background(rng, colour), (thing,), position=POSITIONS[place])


def count_scene(rng: random.Random, count: int, colour: str, shape: str) -> Scene:
    """Draw a scene with `count` things of this color and shape, in different cells of a 3 x 3 grid."""
    cells = list(range(9))
    diameter = pick(rng, MANY_DIAMETERS) / 64
    texture = _texture(rng)
    rgb = _jitter(rng, colour)
    # Stars extend a tenth beyond their diameter. Neighbors must not touch; otherwise they could not be counted.
    play = 1 / 3 - 1.12 * diameter - 0.03
    things = []
    for _ in range(count):
        cell = cells.pop(int(rng.random() * len(cells)))
        x = (cell % 3 + 0.5) / 3 + play * (rng.random() - 0.5)
        y = (cell // 3 + 0.5) / 3 + play * (rng.random() - 0.5)
        things.append(Thing(colour, shape, texture, "small", rgb, x, y, diameter, pick(rng, ANGLES)))
    return Scene("count", _background(rng, colour), tuple(things))


def relation_scene(rng: random.Random, first: tuple[str, str], second: tuple[str, str], relation: str) -> Scene:
    """Draw two things, each a (color, shape); the first one is `relation` the second, e.g. left of it."""
    shift = 0.24 * (rng.random() - 0.5)
    things = []
    for (colour, shape), side in ((first, -1), (second, 1)):
        if relation in ("right of", "below"):
            side = -side
        along = 0.5 + side * (0.25 + 0.06 * (rng.random() - 0.5))
        across = 0.5 + shift + 0.1 * (rng.random() - 0.5)
        x, y = (along, across) if relation in ("left of", "right of") else (across, along)
        diameter = pick(rng, TWO_DIAMETERS) / 64
        things.append(Thing(colour, shape, _texture(rng), "", _jitter(rng, colour), x, y, diameter, pick(rng, ANGLES)))
    return Scene("relation", _background(rng, first[0], second[0]), tuple(things), relation=relation)


def word_scene(rng: random.Random, word: str) -> Scene:
    """Draw a scene that shows a written word, as in the paper's OCR tasks (appendix E.2, table 14)."""
    ink = pick(rng, tuple(COLOURS))
    x, y = 0.5 + 0.1 * (rng.random() - 0.5), 0.5 + 0.5 * (rng.random() - 0.5)
    extent = pick(rng, (18, 20, 22)) / 64
    return Scene(
        "word",
        _background(rng, ink),
        word=word,
        panel=rng.random() < 0.4,
        ink=ink,
        ink_rgb=_jitter(rng, ink),
        x=x,
        y=y,
        extent=extent,
        angle=pick(rng, (-6, -3, 0, 0, 0, 3, 6)),
    )


def digit_scene(rng: random.Random, split: str) -> Scene:
    """Draw a scene with a real handwritten digit of the split (the paper uses MNIST)."""
    index = pick(rng, masks.digit_indices(split))
    ink = pick(rng, tuple(COLOURS))
    extent = pick(rng, (36, 42, 48, 54)) / 64
    play = 1 - extent
    x, y = 0.5 + play * (rng.random() - 0.5), 0.5 + play * (rng.random() - 0.5)
    rgb = _jitter(rng, ink)
    digit = int(masks.digits()[1][index])
    background = _background(rng, ink)
    return Scene("digit", background, digit=digit, digit_index=index, ink=ink, ink_rgb=rgb, x=x, y=y, extent=extent)


def facts(scene: Scene) -> dict[str, Any]:
    """Return the facts of the scene as a plain dictionary, for metadata and tests."""
    known: dict[str, Any] = {"kind": scene.kind, "pattern": scene.background.pattern}
    if scene.kind in ("single", "count"):
        thing = scene.things[0]
        known.update(colour=thing.colour, shape=thing.shape, texture=thing.texture, count=len(scene.things))
        if scene.kind == "single":
            known.update(position=scene.position, size=thing.size)
    elif scene.kind == "relation":
        known.update(relation=scene.relation, things=tuple((thing.colour, thing.shape) for thing in scene.things))
    elif scene.kind == "word":
        known.update(word=scene.word, colour=scene.ink)
    else:
        known.update(digit=scene.digit, name=NUMBERS[scene.digit or 0], colour=scene.ink, digit_index=scene.digit_index)
    return known


def _texture(rng: random.Random) -> str:
    return "solid" if rng.random() < 0.7 else TEXTURES[1 + int(rng.random() * 3)]


def _jitter(rng: random.Random, colour: str) -> RGB:
    red, green, blue = COLOURS[colour]
    moves = [int((rng.random() * 2 - 1) * JITTER) for _ in range(3)]
    return (
        min(max(red + moves[0], 0), 255),
        min(max(green + moves[1], 0), 255),
        min(max(blue + moves[2], 0), 255),
    )


def _background(rng: random.Random, *colours: str) -> Background:
    pattern = pick(rng, ("plain", *PATTERNS))
    return Background(pick(rng, fitting_backgrounds(frozenset(colours))), pattern, int(rng.random() * 8))


_CUMULATIVE = tuple(itertools.accumulate(KIND_WEIGHTS))
_SEEN_OF_COUNT = tuple(tuple(triples) for _, triples in itertools.groupby(SEEN_COUNTS, key=lambda triple: triple[0]))
