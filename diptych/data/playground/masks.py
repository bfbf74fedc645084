"""Cached anti-aliased masks of everything that a scene can contain.

A mask consists of uint16 arrays with values 0 to 256: how much of a pixel the main tone and the second tone cover.
Integers make the pixels identical on every machine.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SUPERSAMPLING = 4
MAX_CACHED = 8192


class Mask(NamedTuple):
    """Coverage in 1/256: clear + main + second = 256; second is None if there is only one tone.

    Attributes:
        clear: uint16 (h, w, 1), share of the background.
        main, second: uint16 (h, w, 1), share of each tone.
    """

    clear: np.ndarray
    main: np.ndarray
    second: np.ndarray | None


@functools.lru_cache(MAX_CACHED)
def shape_mask(shape: str, diameter: int, angle: int, texture: str) -> Mask:
    """Return the mask of a shape, `diameter` pixels across, rotated by `angle` degrees."""
    side = diameter + 4
    image = _draw_shape(shape, side * SUPERSAMPLING, diameter * SUPERSAMPLING / 2, math.radians(angle))
    inside = np.asarray(image) > 127
    if texture == "solid":
        return _mask(inside, None)
    # The main tone surrounds the shape, so that a texture never breaks the outline.
    return _mask(inside, _shrink(inside, diameter) & _texture(texture, side, diameter, math.radians(angle)))


@functools.lru_cache(MAX_CACHED)
def word_mask(word: str, font_size: int, angle: int) -> Mask:
    """Return the mask of a word in Pillow's built-in font."""
    font = ImageFont.load_default(size=font_size * 4)
    left, top, right, bottom = font.getbbox(word)
    image = Image.new("L", (math.ceil(right - left) + 8, math.ceil(bottom - top) + 8))
    ImageDraw.Draw(image).text((4 - left, 4 - top), word, fill=255, font=font, stroke_width=font_size // 12)
    if angle:
        image = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    width, height = image.width // 4 + 2, image.height // 4 + 2
    padded = Image.new("L", (width * 4, height * 4))
    padded.paste(image, ((padded.width - image.width) // 2, (padded.height - image.height) // 2))
    return _grey_mask(np.asarray(padded.reduce(4)))


@functools.lru_cache(MAX_CACHED)
def panel_mask(width: int, height: int) -> Mask:
    """Return the mask of a sign: a rectangle with round corners."""
    image = Image.new("L", (width * 4, height * 4))
    box = (0, 0, width * 4 - 1, height * 4 - 1)
    ImageDraw.Draw(image).rounded_rectangle(box, radius=height, fill=255)
    return _grey_mask(np.asarray(image.reduce(4)))


@functools.lru_cache(MAX_CACHED)
def digit_mask(index: int, side: int) -> Mask:
    """Return the mask of scikit-learn's handwritten digit number `index`, enlarged to `side` pixels."""
    ink = np.pad(np.clip(digits()[0][index] * (255 / 16), 0, 255).astype(np.uint8), 1)
    image = Image.fromarray(ink).resize((side, side), Image.Resampling.BICUBIC)
    # Increase the contrast; otherwise the enlarged 8 x 8 scans would look blurred.
    steep = np.clip((np.asarray(image).astype(np.int32) - 84) * 3, 0, 255)
    return _grey_mask(steep)


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's handwritten digits: images float (1797, 8, 8) in 0 to 16, and their labels (1797,)."""
    from sklearn.datasets import load_digits  # a slow import that only this kind of scene needs

    data = load_digits()
    return data.images, data.target


@functools.cache
def digit_indices(split: str) -> tuple[int, ...]:
    """Return the indices of a split's digits: test has two tenths, validation one tenth, train the other seven."""
    tenths = {"test": (0, 5), "validation": (3,), "train": (1, 2, 4, 6, 7, 8, 9)}[split]
    return tuple(index for index in range(len(digits()[1])) if index % 10 in tenths)


@functools.cache
def pattern_map(pattern: str, variant: int, size: int) -> np.ndarray:
    """Return a background pattern: uint8 (size, size), 0 (first tone) to 31 (second tone)."""
    y, x = np.mgrid[0:size, 0:size] / size
    if pattern == "gradient":
        directions = (
            x,
            y,
            1 - x,
            1 - y,
            (x + y) / 2,
            (1 + x - y) / 2,
            (1 + y - x) / 2,
            np.hypot(x - 0.5, y - 0.5) * 1.4,
        )
        return np.clip(directions[variant] * 31.99, 0, 31).astype(np.uint8)
    if pattern == "noise":
        # NumPy guarantees that RandomState's stream never changes; for default_rng there is no such guarantee.
        return np.random.RandomState(variant).randint(0, 32, (size, size)).astype(np.uint8)
    period, line = (6 + 2 * (variant % 4)) * size / 64, max(1, round(size / 64))
    offset = variant * period / 3
    on_line = (np.floor((np.arange(size) + offset) % period) < line).astype(bool)
    return np.where(on_line[:, None] | on_line[None, :], 31, 0).astype(np.uint8)


def _mask(inside: np.ndarray, second: np.ndarray | None) -> Mask:
    cover = _coverage(inside)
    if second is None:
        return Mask((256 - cover)[..., None], cover[..., None], None)
    other = np.minimum(_coverage(inside & second), cover)
    return Mask((256 - cover)[..., None], (cover - other)[..., None], other[..., None])


def _shrink(inside: np.ndarray, diameter: int) -> np.ndarray:
    step = round(SUPERSAMPLING * (0.35 + diameter / 60))
    core = inside.copy()
    for axis in (0, 1):
        core &= np.roll(inside, step, axis) & np.roll(inside, -step, axis)
    return core


def _grey_mask(grey: np.ndarray) -> Mask:
    cover = ((grey.astype(np.uint32) * 256 + 127) // 255).astype(np.uint16)[..., None]
    return Mask(256 - cover, cover, None)


def _coverage(inside: np.ndarray) -> np.ndarray:
    side = inside.shape[0] // SUPERSAMPLING
    blocks = inside.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING).sum(axis=(1, 3), dtype=np.uint16)
    return (blocks * (256 // SUPERSAMPLING**2)).astype(np.uint16)


def _draw_shape(shape: str, side: int, radius: float, angle: float) -> Image.Image:
    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    cosine, sine = math.cos(angle), math.sin(angle)

    def place(x: float, y: float) -> tuple[float, float]:
        return side / 2 + radius * (x * cosine - y * sine), side / 2 + radius * (x * sine + y * cosine)

    def disc(x: float, y: float, r: float, fill: int) -> None:
        cx, cy = place(x, y)
        draw.ellipse((cx - r * radius, cy - r * radius, cx + r * radius, cy + r * radius), fill=fill)

    if shape == "circle":
        disc(0, 0, 0.96, 255)
    elif shape == "ring":
        disc(0, 0, 1, 255)
        disc(0, 0, 0.56, 0)
    elif shape == "moon":
        disc(0.2, 0, 1, 255)
        disc(0.7, -0.16, 0.84, 0)
    else:
        draw.polygon([place(x, y) for x, y in _outline(shape)], fill=255)
    return image


def _outline(shape: str) -> list[tuple[float, float]]:
    """Return the corners of a shape that roughly fits the unit circle; y points down."""
    if shape == "square":
        return [(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)]
    if shape == "triangle":
        return [(0, -0.98), (1.02, 0.82), (-1.02, 0.82)]
    if shape == "star":
        radii = (1.1, 0.46)
        turns = [(radii[k % 2], math.pi * k / 5) for k in range(10)]
        return [(r * math.sin(t), 0.06 - r * math.cos(t)) for r, t in turns]
    if shape == "cross":
        a, b = 0.33, 1.0
        return [
            (-a, -b),
            (a, -b),
            (a, -a),
            (b, -a),
            (b, a),
            (a, a),
            (a, b),
            (-a, b),
            (-a, a),
            (-b, a),
            (-b, -a),
            (-a, -a),
        ]
    turns_of_heart = [2 * math.pi * k / 64 for k in range(64)]
    return [
        (
            math.sin(t) ** 3 * 1.04,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 15.4 - 0.1,
        )
        for t in turns_of_heart
    ]


def _texture(texture: str, side: int, diameter: int, angle: float) -> np.ndarray:
    """Return where the second tone is: bool (side * SUPERSAMPLING,) * 2, rotated with the shape."""
    steps = (np.arange(side * SUPERSAMPLING, dtype=np.float32) + 0.5) / SUPERSAMPLING - side / 2
    x, y = np.meshgrid(steps, steps)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    if texture == "striped":
        period = max(4.0, diameter * 0.27)
        return ((u + v) / math.sqrt(2) / period + 0.25) % 1 < 0.45
    if texture == "dotted":
        period = max(4.5, diameter * 0.25)
        return np.hypot(u / period % 1 - 0.5, v / period % 1 - 0.5) < 0.32
    period = max(3.0, diameter * 0.17)
    return (np.floor(u / period) + np.floor(v / period)) % 2 == 0
