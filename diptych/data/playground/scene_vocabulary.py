"""Tables of what the playground can show, and of the combinations that it never shows in training.

The other modules draw from these tables; images and captions contain nothing else.
"""

import functools
import itertools

import numpy as np

RGB = tuple[int, int, int]

SPLITS = ("train", "validation", "test")
KINDS = ("single", "count", "relation", "word", "digit")
KIND_WEIGHTS = (0.56, 0.14, 0.11, 0.10, 0.09)

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "moon", "ring")
COLOURS: dict[str, RGB] = {
    "red": (222, 42, 46),
    "orange": (244, 132, 24),
    "yellow": (250, 212, 38),
    "green": (44, 160, 70),
    "cyan": (34, 190, 206),
    "blue": (44, 92, 220),
    "purple": (134, 56, 186),
    "pink": (246, 124, 184),
}
TEXTURES = ("solid", "striped", "dotted", "checkered")
SIZES = ("small", "large")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COUNTS = (1, 2, 3, 4, 5)
POSITIONS = (
    *("top left", "top", "top right"),
    *("left", "centre", "right"),
    *("bottom left", "bottom", "bottom right"),
)
RELATIONS = ("left of", "right of", "above", "below")
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
PATTERNS = ("plain", "gradient", "noise", "grid")

WORDS = (
    *("tree", "fish", "bird", "lamp", "book", "door", "milk", "snow", "rain", "wind"),
    *("fire", "king", "ship", "boat", "road", "wolf", "frog", "bear", "lion", "duck"),
    *("cake", "salt", "gold", "leaf", "hand", "nose", "foot", "drum", "bell", "coin"),
    *("desk", "jazz", "kite", "nest", "oven", "park", "quiz", "taxi", "vase", "yoga"),
)

# (hue, tone, color): a caption names the hue, or the tone and the hue; white and black have no tone.
BACKGROUNDS: tuple[tuple[str, str, RGB], ...] = (
    ("white", "", (247, 247, 244)),
    ("black", "", (24, 25, 30)),
    ("grey", "light", (198, 201, 206)),
    ("grey", "dark", (74, 78, 86)),
    ("blue", "light", (198, 218, 244)),
    ("blue", "dark", (26, 42, 88)),
    ("green", "light", (207, 233, 205)),
    ("green", "dark", (22, 62, 46)),
    ("purple", "light", (226, 212, 242)),
    ("purple", "dark", (58, 32, 82)),
    ("red", "dark", (90, 24, 32)),
    ("pink", "light", (250, 219, 231)),
    ("yellow", "light", (251, 242, 200)),
    ("orange", "light", (253, 226, 194)),
    ("brown", "dark", (72, 48, 34)),
)

# Never in a training image or a training caption; every color and every shape is held out once.
HELD_OUT_PAIRS: frozenset[tuple[str, str]] = frozenset(
    {
        *(("orange", "circle"), ("red", "square"), ("green", "triangle"), ("purple", "star")),
        *(("blue", "cross"), ("cyan", "heart"), ("pink", "moon"), ("yellow", "ring")),
    }
)

# Pairs that training shows, but never in this number; each number from two to five is held out four times.
HELD_OUT_COUNTS: frozenset[tuple[int, str, str]] = frozenset(
    {
        *((2, "pink", "circle"), (5, "yellow", "circle")),
        *((4, "purple", "square"), (3, "orange", "square")),
        *((5, "blue", "triangle"), (4, "red", "triangle")),
        *((2, "cyan", "star"), (3, "pink", "star")),
        *((3, "green", "cross"), (2, "purple", "cross")),
        *((4, "yellow", "heart"), (5, "blue", "heart")),
        *((5, "orange", "moon"), (4, "cyan", "moon")),
        *((3, "red", "ring"), (2, "green", "ring")),
    }
)

ALL_PAIRS = tuple(itertools.product(COLOURS, SHAPES))
SEEN_PAIRS = tuple(pair for pair in ALL_PAIRS if pair not in HELD_OUT_PAIRS)
SEEN_COUNTS = tuple(
    triple for triple in ((n, *pair) for n in COUNTS for pair in SEEN_PAIRS) if triple not in HELD_OUT_COUNTS
)

MIN_LIGHTNESS_STEP = 22.0
MIN_COLOUR_STEP = 42.0


def lightness(colour: RGB) -> float:
    """Return the perceived lightness L* of an sRGB color, 0 (black) to 100 (white)."""
    return float(_lab(colour)[0])


def plural(shape: str) -> str:
    """Return the plural of a shape's name or of its synonym."""
    return shape + ("es" if shape.endswith("s") else "s")


def with_article(words: str) -> str:
    """Return the words with "a" or "an" in front."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


@functools.cache
def fitting_backgrounds(colours: frozenset[str]) -> tuple[int, ...]:
    """Return the indices of BACKGROUNDS that contrast with all these colors: another hue, and distant in CIE Lab."""

    def fits(hue: str, ground: RGB) -> bool:
        for name in colours:
            step = _lab(COLOURS[name]) - _lab(ground)
            if name == hue or np.linalg.norm(step) < MIN_COLOUR_STEP or abs(step[0]) < MIN_LIGHTNESS_STEP:
                return False
        return True

    return tuple(index for index, (hue, _, ground) in enumerate(BACKGROUNDS) if fits(hue, ground))


@functools.cache
def _lab(colour: RGB) -> np.ndarray:
    values = np.array(colour) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = matrix @ linear / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])
