"""Shifts that are made, not found: any labelled set with its pictures corrupted or drawn anew, the same each time.

All lengths are shares of a picture's short side, so that a shift does to a small picture what it does to a large one
(JPEG's blocks of 8 pixels alone do not scale). The size in pixels stays. What is random is drawn from the seed, the
shift's name and the sample's key alone: order, worker processes and severity change no draw, so severities differ in
strength only. With the same versions of Pillow and numpy the pixels are the same to the bit.

These are no natural shifts, and the parameters are ours: numbers compare with each other, not with published ones for
ImageNet-C, -R or -Sketch.
"""

import dataclasses
import hashlib
import io
import math
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from diptych.data.decoding import MAX_PIXELS, decode_image, picture_errors
from diptych.data.source import Source, WrappedSource
from diptych.errors import ConfigError, ImageError
from diptych.records import Broken, Sample

VERSION = 1
"""Raised whenever a shift would give other pixels."""

_MEDIAN_SIDE = 96  # pixels of the short side at which medians are taken, at most

FAMILIES = ("noise", "blur", "light and colour", "form", "rendition")

Apply = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""From pixels uint8 (height, width, 3), the strength and the sample's draws to pixels, uint8 or float of that shape."""


@dataclasses.dataclass(frozen=True)
class Shift:
    """One way to change a picture.

    Attributes:
        about: what it does, one line.
        strengths: the parameter at severity 1, 2, ...; a rendition has one severity alone.
        apply: the change itself.
        family: one of FAMILIES; the last one's are drawn anew, the others' corrupted.
    """

    about: str
    strengths: tuple[float, ...]
    apply: Apply
    family: str

    @property
    def severities(self) -> tuple[int, ...]:
        """1 to 5, or 1 alone."""
        return tuple(range(1, len(self.strengths) + 1))


def shift_pixels(pixels: np.ndarray, name: str, severity: int = 1, *, key: str = "", seed: int = 0) -> np.ndarray:
    """Change one picture.

    Args:
        pixels: uint8 (height, width, 3).
        name: one of SHIFTS.
        severity: 1 to 5; 1 for renditions.
        key: the sample's, from which its draws follow.
        seed: of the draws.
    Returns:
        uint8 (height, width, 3).
    Raises:
        ConfigError: there is no such shift, or it has no such severity.
    """
    shift = _get(name, severity)
    digest = hashlib.sha256(f"{seed}\0{name}\0{key}".encode("utf-8", "surrogatepass")).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:16], "little"))
    changed = shift.apply(pixels, shift.strengths[severity - 1], rng)
    return changed if changed.dtype == np.uint8 else np.clip(np.rint(changed), 0, 255).astype(np.uint8)


def title(name: str, severity: int) -> str:
    """ "gaussian noise 3"; of a rendition the name alone."""
    return f"{name} {severity}" if len(_get(name, severity).strengths) > 1 else name


def variants(names: Sequence[str] | None = None, severities: Sequence[int] | None = None) -> list[tuple[str, int]]:
    """All (name, severity) pairs of some shifts: of corruptions the severities asked for, of renditions the one.

    Args:
        names: some of SHIFTS; None for all.
        severities: None for all five.
    Raises:
        ConfigError: there is no such shift or severity.
    """
    found = []
    for name in SHIFTS if names is None else names:
        _get(name, 1)
        own = SHIFTS[name].severities
        found += [(name, severity) for severity in (own if severities is None or len(own) == 1 else severities)]
    for name, severity in found:
        _get(name, severity)
    return found


@dataclasses.dataclass(frozen=True)
class ShiftedSource(WrappedSource):
    """A labelled source with every picture changed; keys, texts, labels and what is broken stay.

    Attributes:
        source: the pictures as they are.
        name: one of SHIFTS.
        severity: 1 to 5; 1 for renditions.
        seed: of what is random.
    Raises:
        ConfigError: there is no such shift, or it has no such severity.
    """

    source: Source
    name: str
    severity: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        _get(self.name, self.severity)

    @property
    def fingerprint(self) -> str:
        """The source's own, the shift, and the versions of what made it."""
        made = (VERSION, self.name, self.severity, self.seed, np.__version__, Image.__version__)
        return hashlib.sha256(f"{self.source.fingerprint} {made}".encode()).hexdigest()

    def change(self, item: Sample | Broken, shard: str) -> Sample | Broken:
        """The item with pixels, uint8 (height, width, 3); an image that cannot be decoded becomes Broken."""
        if isinstance(item, Broken):
            return item
        try:
            with picture_errors():
                pixels = np.asarray(decode_image(item.image))
                changed = shift_pixels(pixels, self.name, self.severity, key=item.key, seed=self.seed)
        except ImageError as error:
            return Broken(item.key, shard, str(error))
        return dataclasses.replace(item, image=changed)


def _get(name: str, severity: int) -> Shift:
    if name not in SHIFTS:
        raise ConfigError(f"there is no shift {name!r}; there are: {', '.join(SHIFTS)}")
    if severity not in (own := SHIFTS[name].severities):
        raise ConfigError(f"{name} has the severities {own[0]} to {own[-1]}; got {severity}")
    return SHIFTS[name]


# ------------------------------------------------------------------ corruptions


def _gaussian_noise(pixels: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    return pixels + 255 * sigma * rng.standard_normal(pixels.shape)


def _shot_noise(pixels: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    return rng.poisson(pixels * (photons / 255)) * (255 / photons)


def _gaussian_blur(pixels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    sigma = share * min(pixels.shape[:2])
    reach = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return _convolve(pixels, np.outer(weights, weights))


def _defocus_blur(pixels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    radius = share * min(pixels.shape[:2])
    reach = math.ceil(radius + 0.5)
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return _convolve(pixels, np.clip(radius + 0.5 - np.hypot(down, right), 0, 1))


def _motion_blur(pixels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Along a line through each pixel in one direction, which is drawn."""
    length, angle = share * min(pixels.shape[:2]), rng.uniform(0, math.pi)
    reach = math.ceil(length / 2) + 1
    along = np.linspace(-length / 2, length / 2, 16 * (2 * reach + 1))
    x, y = reach + along * math.cos(angle), reach + along * math.sin(angle)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for down in (0, 1):  # each point of the line is shared among the four cells around it
        for right in (0, 1):
            weight = np.abs(1 - down - (y - top)) * np.abs(1 - right - (x - left))
            np.add.at(kernel, (top + down, left + right), weight)
    return _convolve(pixels, kernel)


def _brightness(pixels: np.ndarray, added: float, rng: np.random.Generator) -> np.ndarray:
    return pixels + 255 * added


def _contrast(pixels: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    mean = pixels.mean(axis=(0, 1))
    return mean + factor * (pixels - mean)


def _saturation(pixels: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    grey = _grey(pixels)[:, :, None]
    return grey + factor * (pixels - grey)


def _pixelate(pixels: np.ndarray, blocks: float, rng: np.random.Generator) -> np.ndarray:
    height, width = pixels.shape[:2]
    share = min(1.0, blocks / min(height, width))
    small = (max(1, round(width * share)), max(1, round(height * share)))
    coarse = Image.fromarray(pixels).resize(small, Image.Resampling.BOX)
    return np.asarray(coarse.resize((width, height), Image.Resampling.NEAREST))


def _jpeg(pixels: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=int(quality), subsampling="4:2:0")
    with Image.open(stream) as opened:
        return np.asarray(opened.convert("RGB"))


def _rotation(pixels: np.ndarray, degrees: float, rng: np.random.Generator) -> np.ndarray:
    """To the left or to the right, which is drawn; the corners show the picture mirrored at its edges."""
    height, width = pixels.shape[:2]
    turn = degrees if rng.random() < 0.5 else -degrees
    diagonal = math.hypot(height, width)
    if diagonal**2 > 4 * MAX_PIXELS:
        raise ImageError(f"{width} x {height} pixels are too long a strip to be turned")
    down, right = math.ceil((diagonal - height) / 2) + 2, math.ceil((diagonal - width) / 2) + 2
    mirrored = Image.fromarray(np.pad(pixels, ((down, down), (right, right), (0, 0)), mode="symmetric"))
    turned = np.asarray(mirrored.rotate(turn, Image.Resampling.BICUBIC))
    return turned[down : down + height, right : right + width]


# ------------------------------------------------------------------ renditions


def _sketch(pixels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Edges (Sobel's, of the smoothed grey) as black lines on white; the strongest 2 % are wholly black."""
    strength = _edges(_gaussian_blur(pixels, share, rng))
    most = max(float(np.quantile(strength, 0.98)), 1e-6)
    ink = np.clip((strength / most - 0.2) / 0.8, 0, 1)
    return np.repeat(255 * (1 - ink)[:, :, None], 3, axis=2)


def _cartoon(pixels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Flat areas of few colours (four values a channel) inside dark outlines."""
    flat = _median(pixels, share)
    edges = _edges(flat.astype(np.float64))
    coloured = np.rint(flat / 85.0) * 85
    outline = np.clip(edges / max(float(np.quantile(edges, 0.98)), 1e-6), 0, 1) ** 2
    return coloured * (1 - 0.9 * outline[:, :, None])


def _greyscale(pixels: np.ndarray, _: float, rng: np.random.Generator) -> np.ndarray:
    return np.repeat(_grey(pixels)[:, :, None], 3, axis=2)


def _inverted(pixels: np.ndarray, _: float, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(ImageOps.invert(Image.fromarray(pixels)))


def _painting(pixels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Strokes: each pixel takes the median of those around it, and the colours become deeper."""
    return _saturation(_median(pixels, share), 1.5, rng)


# ------------------------------------------------------------------ parts


def _grey(pixels: np.ndarray) -> np.ndarray:
    """float64 (height, width): luma of ITU-R 601."""
    return pixels @ np.array([0.299, 0.587, 0.114])


def _median(pixels: np.ndarray, share: float) -> np.ndarray:
    """The median of the square around each pixel; of large pictures on a small copy, since its cost grows steeply."""
    height, width = pixels.shape[:2]
    shrink = min(1.0, _MEDIAN_SIDE / min(height, width))
    small = Image.fromarray(pixels)
    if shrink < 1:
        small = small.resize((round(width * shrink), round(height * shrink)), Image.Resampling.BOX)
    size = 2 * math.floor(share * min(small.size) / 2) + 1
    flat = small.filter(ImageFilter.MedianFilter(max(3, size)))
    return np.asarray(flat.resize((width, height), Image.Resampling.BICUBIC) if shrink < 1 else flat)


def _edges(pixels: np.ndarray) -> np.ndarray:
    """float64 (height, width): length of Sobel's gradient of the grey."""
    grey = np.pad(_grey(pixels), 1, mode="edge")
    rows = grey[:-2] + 2 * grey[1:-1] + grey[2:]
    columns = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]
    return np.hypot(rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2])


def _convolve(pixels: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """float64 (height, width, 3): the weighted mean around each pixel; beyond an edge its pixels go on."""
    height, width = pixels.shape[:2]
    reach = len(kernel) // 2
    padded = np.pad(pixels.astype(np.float64), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    size = padded.shape[:2]
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(kernel / kernel.sum(), size)[:, :, None]
    return np.fft.irfft2(spectrum, size, axes=(0, 1))[2 * reach :, 2 * reach :][:height, :width]


SHIFTS: dict[str, Shift] = {
    "gaussian noise": Shift(
        "normal noise is added to each value; standard deviation as a share of white",
        (0.03, 0.05, 0.08, 0.12, 0.18),
        _gaussian_noise,
        "noise",
    ),
    "shot noise": Shift("photons are counted; how many make white", (120, 60, 30, 15, 7), _shot_noise, "noise"),
    "gaussian blur": Shift(
        "normal weights; standard deviation", (0.015, 0.022, 0.03, 0.042, 0.06), _gaussian_blur, "blur"
    ),
    "defocus blur": Shift("the mean over a disc; radius", (0.02, 0.03, 0.04, 0.055, 0.075), _defocus_blur, "blur"),
    "motion blur": Shift(
        "the mean along a line in any direction; length", (0.05, 0.08, 0.11, 0.15, 0.2), _motion_blur, "blur"
    ),
    "brightness": Shift(
        "each value is raised; by which share of white", (0.1, 0.2, 0.3, 0.4, 0.5), _brightness, "light and colour"
    ),
    "contrast": Shift(
        "each channel is drawn to its mean; what is left of the distance",
        (0.6, 0.45, 0.32, 0.22, 0.14),
        _contrast,
        "light and colour",
    ),
    "pixelate": Shift("coarse blocks; how many along the short side", (28, 24, 20, 16, 12), _pixelate, "form"),
    "jpeg": Shift("JPEG compression, 4:2:0; quality of libjpeg's scale", (50, 35, 25, 15, 8), _jpeg, "form"),
    "saturation": Shift(
        "colours are moved away from grey; by which factor", (1.5, 2, 3, 5, 8), _saturation, "light and colour"
    ),
    "rotation": Shift("turned to either side, mirrored at the edges; degrees", (6, 12, 20, 30, 45), _rotation, "form"),
    "sketch": Shift("black lines on white where edges are; smoothing before", (0.012,), _sketch, "rendition"),
    "cartoon": Shift("few flat colours with dark outlines; side of the median", (0.04,), _cartoon, "rendition"),
    "greyscale": Shift("without colours", (1,), _greyscale, "rendition"),
    "inverted": Shift("the negative: each value is taken from white", (1,), _inverted, "rendition"),
    "painting": Shift("the median of each neighbourhood, colours deepened; its side", (0.09,), _painting, "rendition"),
}
"""All shifts by name."""
