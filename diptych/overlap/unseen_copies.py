"""Copies of a photograph as people make them, by seeded rules: the transforms that the copy detectors are tested on.

None of them is a transform of the shipped detector's training (crop and zoom, aspect, resizing, small rotation, JPEG,
HSV jitter); a strong crop keeps less than training does. Each has the severities 1 to 3; 2 is the usual strength.

Lengths are fractions of the short side, so that small and large photographs change alike. Random draws depend only on
the seed, the rule's name and the photograph's key, so that the severities of one copy differ only in strength. With the
same versions of Pillow and numpy the pixels are identical.
"""

import dataclasses
import hashlib
import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, features

from diptych.data.shifts import shift_pixels
from diptych.errors import ConfigError

VERSION = 1
"""Increased whenever a transform gives different pixels."""

SEVERITIES = (1, 2, 3)
USUAL = 2
"""The severity whose copies are of usual strength."""

Apply = Callable[[Image.Image, int, np.random.Generator], Image.Image]
"""(RGB image, severity, generator) -> RGB image, of any size."""

_WORDS = (
    *("when", "you", "finally", "see", "the", "sun", "after", "work", "nobody", "ever", "told", "me", "about", "this"),
    *("monday", "morning", "mood", "best", "day", "photo", "free", "sample", "stock", "studio", "preview", "archive"),
)
_NUM_TILES = 5  # of a watermark along the short side
_SMALLEST_FONT = 6  # pixels; smaller letters are unreadable smears


@dataclasses.dataclass(frozen=True)
class CopyRule:
    """One way to copy a photograph.

    Attributes:
        about: what it does, in one line.
        apply: the function that changes the image.
        is_combination: whether it consists of several other rules.
    """

    about: str
    apply: Apply
    is_combination: bool = False


def make_copy(image: Image.Image, name: str, severity: int, key: str, *, seed: int = 0) -> Image.Image:
    """Copy a photograph.

    Args:
        image: of any mode; it is not changed.
        name: one of COPY_RULES.
        severity: 1, 2 or 3.
        key: the photograph's key, which determines the random draws together with the seed.
        seed: seed of the draws.
    Returns:
        An RGB image; its size may differ.
    Raises:
        ConfigError: there is no such rule or severity, or this installation of Pillow lacks its codec.
    """
    if name not in COPY_RULES:
        raise ConfigError(f"there is no copy rule {name!r}; there are: {', '.join(COPY_RULES)}")
    if severity not in SEVERITIES:
        raise ConfigError(f"{name} has the severities 1 to {SEVERITIES[-1]}; got {severity!r}")
    if reason := why_missing(name):
        raise ConfigError(f"{name}: {reason}")
    digest = hashlib.sha256(f"{seed}\0{name}\0{key}".encode("utf-8", "surrogatepass")).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16], "little"))
    return COPY_RULES[name].apply(image.convert("RGB"), severity, rng)


def why_missing(name: str) -> str:
    """Why a rule cannot be used here: its codec is missing. "" if it can."""
    codec = _CODECS.get(name)
    if codec is None or features.check(codec):
        return ""
    return f"this installation of Pillow has no {codec} codec; install pillow>=11.3 from PyPI"


def available_rules() -> tuple[str, ...]:
    """The names of the rules that this installation of Pillow can apply."""
    return tuple(name for name in COPY_RULES if not why_missing(name))


# ------------------------------------------------------------------ what is added to the photograph


def _screenshot(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """The photograph inside an app: bars above and below with an address and buttons, margins at the sides."""
    share = (0.06, 0.14, 0.25)[severity - 1]
    short = min(image.size)
    top, bottom, left, right = (round(share * short * factor) for factor in rng.uniform(0.4, 1.6, 4))
    dark = bool(rng.random() < 0.5)
    ground = tuple(int(value) for value in rng.integers(12, 40, 3) + (0 if dark else 205))
    ink = (225, 225, 225) if dark else (60, 60, 60)
    canvas = Image.new("RGB", (image.width + left + right, image.height + top + bottom), ground)
    canvas.paste(image, (left, top))
    draw = ImageDraw.Draw(canvas)
    words = _phrase(rng, 3)
    if top >= _SMALLEST_FONT:
        draw.text((left + 1, 0), words, fill=ink, font=_font(0.6 * top))
    radius = max(1, round(0.2 * bottom))
    for button in range(3):  # like, share, save
        x = left + round((0.15 + 0.35 * button) * image.width)
        y = top + image.height + bottom // 2
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=ink)
    return canvas


def _watermark_text(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """One word, semi-transparent, in rows across the photograph."""
    opacity = (0.2, 0.35, 0.55)[severity - 1]
    short = min(image.size)
    size = max(_SMALLEST_FONT, 0.16 * short * rng.uniform(0.8, 1.2))
    word = str(rng.choice(_WORDS[14:])).upper()
    diagonal = math.ceil(math.hypot(*image.size))
    layer = Image.new("L", (diagonal, diagonal))
    draw, font = ImageDraw.Draw(layer), _font(size)
    width = max(1.0, draw.textlength(word, font=font))
    for row, y in enumerate(range(0, diagonal, max(1, round(2.4 * size)))):
        for column in range(-1, math.ceil(diagonal / (1.5 * width)) + 1):
            draw.text((round((1.5 * column + 0.75 * (row % 2)) * width), y), word, fill=255, font=font)
    layer = layer.rotate(float(rng.uniform(15, 40)), Image.Resampling.BICUBIC)
    left, top = (diagonal - image.width) // 2, (diagonal - image.height) // 2
    mask = layer.crop((left, top, left + image.width, top + image.height))
    return _painted(image, mask, opacity, 255 if rng.random() < 0.7 else 0)


def _watermark_pattern(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """A semi-transparent lattice of lines or rings."""
    opacity = (0.2, 0.35, 0.55)[severity - 1]
    short = min(image.size)
    step = short / _NUM_TILES * rng.uniform(0.8, 1.3)
    line = max(1, round(0.012 * short * rng.uniform(0.8, 1.6)))
    mask = Image.new("L", image.size)
    draw = ImageDraw.Draw(mask)
    rings = rng.random() < 0.5
    for place in np.arange(-max(image.size), 2 * max(image.size), step):
        if rings:
            for y in np.arange(step / 2, image.height + step, step):
                draw.ellipse((place, y, place + 0.7 * step, y + 0.7 * step), outline=255, width=line)
        else:
            draw.line((place, 0, place + image.height, image.height), fill=255, width=line)
            draw.line((place, image.height, place + image.height, 0), fill=255, width=line)
    return _painted(image, mask, opacity, 255 if rng.random() < 0.7 else 0)


def _overlaid_text(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """White capitals with black outlines, at the top and the bottom, as in a meme."""
    size = (0.09, 0.13, 0.18)[severity - 1] * min(image.size)
    num_lines = (1, 1, 2)[severity - 1]
    copied = image.copy()
    draw, font = ImageDraw.Draw(copied), _font(size)
    edge = max(1, round(size / 9))
    phrases = [_phrase(rng, 5).upper() for _ in range(4)]
    places = [(line, line * 1.15 * size) for line in range(num_lines)]
    if severity > 1:
        places += [(2 + line, image.height - (num_lines - line) * 1.25 * size) for line in range(num_lines)]
    for number, y in places:
        words = phrases[number]
        while " " in words and draw.textlength(words, font=font) > 0.96 * image.width:
            words = words.rpartition(" ")[0]
        x = (image.width - draw.textlength(words, font=font)) / 2
        draw.text((x, y), words, fill="white", font=font, stroke_width=edge, stroke_fill="black")
    return copied


# ------------------------------------------------------------------ what is done to its pixels


def _blur(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Gaussian blur; a shift of `diptych.data.shifts`, whose strengths are fractions of the short side."""
    return Image.fromarray(shift_pixels(np.asarray(image), "gaussian blur", (1, 3, 5)[severity - 1]))


def _grey(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Without colours; stronger: with less contrast, then in eight levels of grey."""
    pixels = shift_pixels(np.asarray(image), "greyscale")
    if severity > 1:
        pixels = np.rint(128 + 0.75 * (pixels.astype(np.float64) - 128)).astype(np.uint8)
    if severity > 2:
        pixels = (pixels // 32 * 32 + 16).astype(np.uint8)
    return Image.fromarray(pixels)


def _mirror(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """Left and right exchanged; stronger: a margin is cut off, too."""
    mirrored = ImageOps.mirror(image)
    kept = (1.0, 0.9, 0.75)[severity - 1]
    return _window(mirrored, kept, 1.0, rng)


def _colour_cast(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """The light of a lamp or of dusk: another gain and gamma for each channel."""
    strength = (0.15, 0.3, 0.5)[severity - 1]
    direction = rng.standard_normal(3)
    direction -= direction.mean()
    direction /= max(1e-9, float(np.abs(direction).max()))
    gamma = 2.0 ** (strength * rng.uniform(-1, 1))
    pixels = (np.asarray(image) / 255.0) ** gamma * (1 + strength * direction)
    return Image.fromarray(np.clip(np.rint(255 * pixels), 0, 255).astype(np.uint8))


def _strong_crop(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    """A window of 50, 35 or 25 % of the area, of any position and of nearly the same shape."""
    area = (0.5, 0.35, 0.25)[severity - 1]
    return _window(image, math.sqrt(area), float(rng.uniform(0.85, 1.18)), rng)


def _webp(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    return _recompressed(image, "WEBP", (50, 20, 5)[severity - 1])


def _avif(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    return _recompressed(image, "AVIF", (45, 25, 10)[severity - 1])


def _chain(*rules: Apply) -> Apply:
    """Several rules, one after the other, all at the same severity."""

    def apply(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
        for rule, seed in zip(rules, rng.integers(0, 2**63, len(rules)), strict=True):
            image = rule(image, severity, np.random.default_rng(seed))
        return image

    return apply


# ------------------------------------------------------------------ parts


def _phrase(rng: np.random.Generator, count: int) -> str:
    return " ".join(str(word) for word in rng.choice(_WORDS, count))


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(max(_SMALLEST_FONT, size))


def _painted(image: Image.Image, mask: Image.Image, opacity: float, value: int) -> Image.Image:
    """The image with a value painted where the mask is, semi-transparent."""
    return Image.composite(
        Image.new("RGB", image.size, (value,) * 3), image, mask.point([round(opacity * level) for level in range(256)])
    )


def _window(image: Image.Image, side: float, aspect: float, rng: np.random.Generator) -> Image.Image:
    """A window of `side`² of the area, `aspect` times as wide as the image's own shape, at a random place."""
    stretch = min(math.sqrt(aspect), 1 / side) if aspect > 1 else max(math.sqrt(aspect), side)
    width = max(1, round(image.width * side * stretch))
    height = max(1, round(image.height * side / stretch))
    across, down = rng.random(2)
    left, top = round(across * (image.width - width)), round(down * (image.height - height))
    return image.crop((left, top, left + width, top + height))


def _recompressed(image: Image.Image, codec: str, quality: int) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, codec, quality=quality)
    with Image.open(stream) as opened:
        return opened.convert("RGB")


_CODECS = {"webp": "webp", "avif": "avif", "screenshot, text, webp": "webp", "crop, watermark, avif": "avif"}

COPY_RULES: dict[str, CopyRule] = {
    "screenshot": CopyRule("bars and margins of an app around it; 6, 14 or 25 % of the short side", _screenshot),
    "text watermark": CopyRule("a word across it, semi-transparent; opacity 0.2, 0.35 or 0.55", _watermark_text),
    "pattern watermark": CopyRule("lines or rings across it; opacity 0.2, 0.35 or 0.55", _watermark_pattern),
    "overlaid text": CopyRule("a meme's capitals: one line, two lines, four larger lines", _overlaid_text),
    "blur": CopyRule("Gaussian; standard deviation 1.5, 3 or 6 % of the short side", _blur),
    "grey": CopyRule("without colours; with 75 % of the contrast; in eight levels", _grey),
    "mirror": CopyRule("left and right exchanged; then 90 or 75 % of each side kept", _mirror),
    "colour cast": CopyRule("other gains and gamma of the channels; up to 15, 30 or 50 %", _colour_cast),
    "strong crop": CopyRule("a window of 50, 35 or 25 % of the area", _strong_crop),
    "webp": CopyRule("WebP compression; quality 50, 20 or 5", _webp),
    "avif": CopyRule("AVIF compression; quality 45, 25 or 10", _avif),
    "mirror, grey": CopyRule("both", _chain(_mirror, _grey), True),
    "crop, colour cast": CopyRule("both", _chain(_strong_crop, _colour_cast), True),
    "screenshot, text, webp": CopyRule("all three", _chain(_overlaid_text, _screenshot, _webp), True),
    "crop, watermark, avif": CopyRule("all three", _chain(_strong_crop, _watermark_text, _avif), True),
}
