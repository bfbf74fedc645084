"""From a scene to pixels: cached masks, blended with integer arithmetic on small patches."""

import functools

import numpy as np

from diptych.data.playground import masks
from diptych.data.playground.scene import Background, Scene
from diptych.data.playground.scene_vocabulary import BACKGROUNDS, COLOURS, RGB, lightness

# Distance of a background pattern's two tones from its color, in 1/255.
PATTERN_DEPTH = {"gradient": 22, "noise": 13, "grid": 12}
LIGHT_PANEL, DARK_PANEL = (244, 243, 238), (34, 36, 43)


def render(scene: Scene, size: int = 64) -> np.ndarray:
    """Return the image of a scene, uint8 (size, size, 3); the same scene gives the same bytes on every machine."""
    canvas = _ground(scene.background, size)
    for thing in scene.things:
        mask = masks.shape_mask(thing.shape, round(thing.diameter * size), thing.angle, thing.texture)
        _blend(canvas, mask, thing.x, thing.y, thing.rgb)
    if scene.kind == "word":
        _write(canvas, scene)
    elif scene.kind == "digit":
        mask = masks.digit_mask(scene.digit_index, round(scene.extent * size))
        _blend(canvas, mask, scene.x, scene.y, scene.ink_rgb)
    return canvas


def _write(canvas: np.ndarray, scene: Scene) -> None:
    size = canvas.shape[0]
    mask = masks.word_mask(scene.word, round(scene.extent * size), scene.angle)
    height, width = mask.clear.shape[:2]
    x, y = scene.x, scene.y
    if scene.panel:
        height, width = height + round(size / 14), min(width + round(size / 14), size)
        # Keep the sign inside the image, and the word in the center of the sign.
        x = min(max(x, width / 2 / size), 1 - width / 2 / size)
        y = min(max(y, height / 2 / size), 1 - height / 2 / size)
        _blend(canvas, masks.panel_mask(width, height), x, y, _panel_colour(scene.ink))
    _blend(canvas, mask, x, y, scene.ink_rgb)


def _ground(background: Background, size: int) -> np.ndarray:
    if background.pattern == "plain":
        canvas = np.empty((size, size, 3), np.uint8)
        canvas[:] = BACKGROUNDS[background.row][2]
        return canvas
    tones = _tones(background.row, background.pattern)
    return tones[masks.pattern_map(background.pattern, background.variant, size)]


@functools.cache
def _tones(index: int, pattern: str) -> np.ndarray:
    """Return the 32 colors of a background pattern, uint8 (32, 3)."""
    middle, depth = np.array(BACKGROUNDS[index][2]), PATTERN_DEPTH[pattern]
    # White cannot get lighter, nor black darker: shift the range until it fits.
    start = np.clip(middle - depth, 0, 255 - 2 * depth)
    return (start + np.arange(32)[:, None] * (2 * depth) // 31).astype(np.uint8)


def _blend(canvas: np.ndarray, mask: masks.Mask, x: float, y: float, colour: RGB) -> None:
    """Blend a mask's tones onto the canvas, centered at (x, y) in fractions of the side, but moved to stay inside."""
    size = canvas.shape[0]
    height, width = mask.clear.shape[:2]
    # A word may be wider than the image; it is then cut off at the image's border.
    left, top = round(x * size - width / 2), round(y * size - height / 2)
    if min(left, top) < 0 or left + width > size or top + height > size:
        left, top = min(max(left, 0), max(size - width, 0)), min(max(top, 0), max(size - height, 0))
    patch = canvas[top : top + height, left : left + width]
    height, width = patch.shape[:2]
    blended = patch * mask.clear[:height, :width]
    blended += mask.main[:height, :width] * np.array(colour, np.uint16)
    if mask.second is not None:
        blended += mask.second[:height, :width] * np.array(_second_tone(colour), np.uint16)
    blended += 128
    blended >>= 8
    patch[:] = blended


def _second_tone(colour: RGB) -> RGB:
    """Return a texture's second tone: lighter than its color, or darker if the color is light."""
    red, green, blue = colour
    if 2 * red + 5 * green + blue > 8 * 180:
        return (red * 9 // 20, green * 9 // 20, blue * 9 // 20)
    return (red + (255 - red) * 7 // 10, green + (255 - green) * 7 // 10, blue + (255 - blue) * 7 // 10)


@functools.cache
def _panel_colour(ink: str) -> RGB:
    return DARK_PANEL if lightness(COLOURS[ink]) > 60 else LIGHT_PANEL
