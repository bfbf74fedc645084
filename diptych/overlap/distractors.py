"""Images that are no copies of each other and look alike: hard negatives for copy detectors, made by seeded rules.

Blank and black images, textures, digits, and frames of one scene: what a detector confuses in real data sets.
"""

import math
import random
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from diptych.data.playground.masks import digits
from diptych.data.playground.render import render
from diptych.data.playground.scene import draw_scene
from diptych.errors import ConfigError

_SCENE_KINDS = ("single", "count", "relation")
_LEAST_PATH = 0.3  # of the image's side, between the first and the last frame

FRAMES = 12
"""Frames of one scene; consecutive indices belong to one scene."""


def make_distractors(kind: str, count: int, size: int = 128, *, seed: int = 0) -> Iterator[tuple[str, Image.Image]]:
    """Distractors of one kind with their keys, the same ones for the same arguments.

    Args:
        kind: one of DISTRACTORS.
        count: number of images.
        size: side of each image in pixels.
        seed: seed of the draws.
    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in DISTRACTORS:
        raise ConfigError(f"there is no distractor {kind!r}; there are: {', '.join(DISTRACTORS)}")
    for index in range(count):
        rng = np.random.default_rng([seed, list(DISTRACTORS).index(kind), index])
        yield f"{kind} {index}", DISTRACTORS[kind](index, size, rng, seed)


def _blank(index: int, size: int, rng: np.random.Generator, seed: int) -> Image.Image:
    """One colour; some with a trace of sensor noise."""
    colour = rng.integers(0, 256, 3) if index % 2 else np.full(3, rng.integers(230, 256))
    pixels = np.broadcast_to(colour, (size, size, 3)) + rng.normal(0, 1.5 * (index % 3 == 0), (size, size, 3))
    return _image(pixels)


def _black(index: int, size: int, rng: np.random.Generator, seed: int) -> Image.Image:
    """A dark frame between two shots: black, with noise, or with a faint glow."""
    pixels = np.abs(rng.normal(0, 1 + index % 4, (size, size, 3)))
    if index % 2:
        down, right = np.mgrid[:size, :size] / size - rng.random((2, 1, 1))
        pixels += 25 * np.exp(-8 * (down**2 + right**2))[:, :, None]
    return _image(pixels)


def _texture(index: int, size: int, rng: np.random.Generator, seed: int) -> Image.Image:
    """Filtered noise, stripes or a checkerboard in two colours."""
    down, right = np.mgrid[:size, :size] / size
    if index % 3 == 0:  # noise whose spectrum falls with the frequency, such as sand, grass or clouds
        frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
        fall = np.maximum(frequency, 1 / size) ** rng.uniform(0, 2)
        spectrum = np.fft.rfft2(rng.standard_normal((size, size))) / fall
        wave = np.fft.irfft2(spectrum, (size, size))
        wave = (wave - wave.mean()) / (3 * wave.std() + 1e-9)
    else:
        angle, cycles = rng.uniform(0, np.pi), rng.uniform(4, 24)
        along, across = down * np.sin(angle) + right * np.cos(angle), down * np.cos(angle) - right * np.sin(angle)
        wave = np.sin(2 * np.pi * cycles * along)
        if index % 3 == 2:
            wave = wave * np.sin(2 * np.pi * cycles * across)
    first, second = rng.integers(0, 256, (2, 3))
    share = np.clip(0.5 + 0.5 * wave, 0, 1)[:, :, None]
    return _image(first + share * (second - first) + rng.normal(0, 3, (size, size, 3)))


def _digit(index: int, size: int, rng: np.random.Generator, seed: int) -> Image.Image:
    """A handwritten digit in white on black; each index is another writing, up to their number."""
    written, _ = digits()
    grey = written[(index + 7919 * seed) % len(written)].astype(np.float64)
    picture = Image.fromarray(np.rint(grey / max(1.0, grey.max()) * 255).astype(np.uint8))
    side = round(size * 0.8)
    canvas = Image.new("L", (size, size))
    left, top = (int(place) for place in rng.integers(0, size - side + 1, 2))
    canvas.paste(picture.resize((side, side), Image.Resampling.BICUBIC), (left, top))
    return canvas.convert("RGB")


def _frame(index: int, size: int, rng: np.random.Generator, seed: int) -> Image.Image:
    """A frame of a film: twelve frames show one painted scene, in which each thing moves in a direction of its own."""
    scene_number, time = divmod(index, FRAMES)
    stream = random.Random(f"{seed} frames {scene_number}")
    scene = draw_scene(stream, stream.choice(_SCENE_KINDS), "train")
    moved = []
    for thing in scene.things:
        x, y = thing.x, thing.y
        while math.hypot(x - thing.x, y - thing.y) < _LEAST_PATH:
            x, y = stream.uniform(0.15, 0.85), stream.uniform(0.15, 0.85)
        share = time / (FRAMES - 1)
        moved.append(thing._replace(x=thing.x + share * (x - thing.x), y=thing.y + share * (y - thing.y)))
    return Image.fromarray(render(scene._replace(things=tuple(moved)), size))


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


DISTRACTORS: dict[str, Callable[[int, int, np.random.Generator, int], Image.Image]] = {
    "blank": _blank,
    "black": _black,
    "texture": _texture,
    "digit": _digit,
    "frame": _frame,
}
"""Kind -> function of (index, side in pixels, generator, seed)."""
