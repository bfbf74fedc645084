"""Synthetic shifts: the images of any labeled set, corrupted or rendered in another style, reproducibly.

All lengths are fractions of an image's short side, so that a shift has the same effect on small and large images (only
JPEG's blocks of 8 pixels do not scale). The image size does not change. Random draws depend only on the seed, the
shift's name and the sample's key; order, worker processes and severity do not change them, so severities differ only in
strength. With the same versions of Pillow and numpy, the pixels are bit-identical.

These are not natural shifts, and the parameters are Diptych's own: results compare with each other, not with published
results for ImageNet-C, -R or -Sketch.
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
"""Increased whenever a shift gives different pixels."""

_MEDIAN_SIDE = 96  # maximum short side, in pixels, at which medians are computed

FAMILIES = ("noise", "blur", "light and colour", "form", "rendition")

Apply = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""(pixels uint8 (height, width, 3), strength, the sample's generator) -> pixels, uint8 or float of the same shape."""


@dataclasses.dataclass(frozen=True)
class Shift:
    """One way to change an image.

    Attributes:
        about: what it does, in one line.
        strengths: the parameter at severity 1, 2, ...; a rendition has only one severity.
        apply: the function that changes the pixels.
        family: one of FAMILIES; "rendition" changes the style, the others are corruptions.
    """

    about: str
    strengths: tuple[float, ...]
    apply: Apply
    family: str

    @property
    def severities(self) -> tuple[int, ...]:
        """1 to 5, or only 1."""
        return tuple(range(1, len(self.strengths) + 1))


def shift_pixels(pixels: np.ndarray, name: str, severity: int = 1, *, key: str = "", seed: int = 0) -> np.ndarray:
    """Apply a shift to one image.

    Args:
        pixels: uint8 (height, width, 3).
        name: one of SHIFTS.
        severity: 1 to 5; 1 for renditions.
        key: the sample's key, which determines its random draws together with the seed.
        seed: seed of the draws.
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
    """A variant's title: "gaussian noise 3"; only the name for a rendition."""
    return f"{name} {severity}" if len(_get(name, severity).strengths) > 1 else name


def variants(names: Sequence[str] | None = None, severities: Sequence[int] | None = None) -> list[tuple[str, int]]:
    """All (name, severity) pairs of some shifts: the given severities of corruptions, the only one of renditions.

    Args:
        names: names from SHIFTS; None for all.
        severities: None for all five.
    Raises:
        ConfigError: there is no such shift or severity.
    """
    pairs = []
    for name in SHIFTS if names is None else names:
        _get(name, 1)
        known = SHIFTS[name].severities
        pairs += [(name, severity) for severity in (known if severities is None or len(known) == 1 else severities)]
    for name, severity in pairs:
        _get(name, severity)
    return pairs


@dataclasses.dataclass(frozen=True)
class ShiftedSource(WrappedSource):
    """A labeled source with every image changed; keys, texts, labels and broken samples stay the same.

    Attributes:
        source: the source of the unchanged images.
        name: one of SHIFTS.
        severity: 1 to 5; 1 for renditions.
        seed: seed of the random draws.
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
        """A digest of the source's fingerprint, the shift, and the versions of Pillow and numpy."""
        settings = (VERSION, self.name, self.severity, self.seed, np.__version__, Image.__version__)
        return hashlib.sha256(f"{self.source.fingerprint} {settings}".encode()).hexdigest()

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
    if severity not in (known := SHIFTS[name].severities):
        raise ConfigError(f"{name} has the severities {known[0]} to {known[-1]}; got {severity}")
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
    """Blur along a line through each pixel, in one random direction."""
    length, angle = share * min(pixels.shape[:2]), rng.uniform(0, math.pi)
    reach = math.ceil(length / 2) + 1
    along = np.linspace(-length / 2, length / 2, 16 * (2 * reach + 1))
    x, y = reach + along * math.cos(angle), reach + along * math.sin(angle)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for down in (0, 1):  # each point of the line is distributed over the four cells around it
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
    """Rotate to the left or to the right at random; the corners show the image mirrored at its edges."""
    height, width = pixels.shape[:2]
    turn = degrees if rng.random() < 0.5 else -degrees
    diagonal = math.hypot(height, width)
    if diagonal**2 > 4 * MAX_PIXELS:
        raise ImageError(f"a strip of {width} x {height} pixels is too long to be rotated")
    down, right = math.ceil((diagonal - height) / 2) + 2, math.ceil((diagonal - width) / 2) + 2
    mirrored = Image.fromarray(np.pad(pixels, ((down, down), (right, right), (0, 0)), mode="symmetric"))
    turned = np.asarray(mirrored.rotate(turn, Image.Resampling.BICUBIC))
    return turned[down : down + height, right : right + width]


# ------------------------------------------------------------------ renditions


def _sketch(pixels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Sobel edges of the smoothed gray image as black lines on white; the strongest 2 % are fully black."""
    strength = _edges(_gaussian_blur(pixels, share, rng))
    most = max(float(np.quantile(strength, 0.98)), 1e-6)
    ink = np.clip((strength / most - 0.2) / 0.8, 0, 1)
    return np.repeat(255 * (1 - ink)[:, :, None], 3, axis=2)


def _cartoon(pixels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Flat areas of few colors (four values per channel) with dark outlines."""
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
    """Brush strokes: each pixel becomes the median of its neighborhood, and the colors become more saturated."""
    return _saturation(_median(pixels, share), 1.5, rng)


# ------------------------------------------------------------------ parts


def _grey(pixels: np.ndarray) -> np.ndarray:
    """float64 (height, width): ITU-R 601 luma."""
    return pixels @ np.array([0.299, 0.587, 0.114])


def _median(pixels: np.ndarray, share: float) -> np.ndarray:
    """The median of the square around each pixel; on a small copy of large images, because its cost grows steeply."""
    height, width = pixels.shape[:2]
    shrink = min(1.0, _MEDIAN_SIDE / min(height, width))
    small = Image.fromarray(pixels)
    if shrink < 1:
        small = small.resize((round(width * shrink), round(height * shrink)), Image.Resampling.BOX)
    size = 2 * math.floor(share * min(small.size) / 2) + 1
    flat = small.filter(ImageFilter.MedianFilter(max(3, size)))
    return np.asarray(flat.resize((width, height), Image.Resampling.BICUBIC) if shrink < 1 else flat)


def _edges(pixels: np.ndarray) -> np.ndarray:
    """float64 (height, width): magnitude of the Sobel gradient of the gray image."""
    grey = np.pad(_grey(pixels), 1, mode="edge")
    rows = grey[:-2] + 2 * grey[1:-1] + grey[2:]
    columns = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]
    return np.hypot(rows[:, 2:] - rows[:, :-2], columns[2:] - columns[:-2])


def _convolve(pixels: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """float64 (height, width, 3): the weighted mean around each pixel; edge pixels are repeated beyond the border."""
    height, width = pixels.shape[:2]
    reach = len(kernel) // 2
    padded = np.pad(pixels.astype(np.float64), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    size = padded.shape[:2]
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(kernel / kernel.sum(), size)[:, :, None]
    return np.fft.irfft2(spectrum, size, axes=(0, 1))[2 * reach :, 2 * reach :][:height, :width]


SHIFTS: dict[str, Shift] = {
    "gaussian noise": Shift(
        "adds Gaussian noise to each value; standard deviation as a share of white",
        (0.03, 0.05, 0.08, 0.12, 0.18),
        _gaussian_noise,
        "noise",
    ),
    "shot noise": Shift(
        "Poisson noise of photon counts; number of photons for white", (120, 60, 30, 15, 7), _shot_noise, "noise"
    ),
    "gaussian blur": Shift(
        "Gaussian weights; standard deviation", (0.015, 0.022, 0.03, 0.042, 0.06), _gaussian_blur, "blur"
    ),
    "defocus blur": Shift("the mean over a disc; radius", (0.02, 0.03, 0.04, 0.055, 0.075), _defocus_blur, "blur"),
    "motion blur": Shift(
        "the mean along a line in any direction; length", (0.05, 0.08, 0.11, 0.15, 0.2), _motion_blur, "blur"
    ),
    "brightness": Shift(
        "raises each value; increase as a share of white", (0.1, 0.2, 0.3, 0.4, 0.5), _brightness, "light and colour"
    ),
    "contrast": Shift(
        "moves each channel toward its mean; remaining share of the distance",
        (0.6, 0.45, 0.32, 0.22, 0.14),
        _contrast,
        "light and colour",
    ),
    "pixelate": Shift("coarse blocks; number along the short side", (28, 24, 20, 16, 12), _pixelate, "form"),
    "jpeg": Shift("JPEG compression, 4:2:0; libjpeg quality", (50, 35, 25, 15, 8), _jpeg, "form"),
    "saturation": Shift("moves colors away from gray; factor", (1.5, 2, 3, 5, 8), _saturation, "light and colour"),
    "rotation": Shift("rotates to either side, mirrored at the edges; degrees", (6, 12, 20, 30, 45), _rotation, "form"),
    "sketch": Shift("black lines on white along edges; smoothing radius", (0.012,), _sketch, "rendition"),
    "cartoon": Shift("few flat colors with dark outlines; side of the median filter", (0.04,), _cartoon, "rendition"),
    "greyscale": Shift("without colors", (1,), _greyscale, "rendition"),
    "inverted": Shift("the negative: white minus each value", (1,), _inverted, "rendition"),
    "painting": Shift("median of each neighborhood, more saturated; its side", (0.09,), _painting, "rendition"),
}
"""All shifts by name."""
