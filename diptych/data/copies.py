"""Random copies of an image, as the copy detector is trained on: the transforms of the CLIP paper's appendix C."""

import dataclasses
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from diptych.data.decoding import picture_errors
from diptych.errors import ConfigError

FILTERS = (
    Image.Resampling.NEAREST,
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.HAMMING,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)
_ROTATION_FILTERS = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
_LARGEST_SIDE = 1024


@dataclasses.dataclass(frozen=True)
class CopyAugmentation:
    """How a copy differs from its image. The paper states neither magnitudes nor probabilities: these are Diptych's.

    Attributes:
        crop: probability of a crop at a random place.
        least_area: the crop keeps at least this share of the area; its side is drawn uniformly.
        aspect: sides are scaled independently, by factors whose ratio is at most exp(aspect).
        rotate: probability of a rotation. degrees: its standard deviation.
        sides: the copy's shorter side in pixels is drawn between these, uniformly in its logarithm: "down- and
            upscaling to various sizes".
        jpeg: probability of a JPEG compression. quality: its range.
        hue, saturation, value: largest shift of the hue in turns; largest logarithms of the factors of saturation and
            value.
    Raises:
        ConfigError: a value is out of range.
    Source: CLIP paper, appendix C.
    """

    crop: float = 0.8
    least_area: float = 0.3
    aspect: float = 0.35
    rotate: float = 0.3
    degrees: float = 6.0
    sides: tuple[int, int] = (24, 256)
    jpeg: float = 0.6
    quality: tuple[int, int] = (15, 95)
    hue: float = 0.08
    saturation: float = 0.9
    value: float = 0.4

    def __post_init__(self) -> None:
        for name in ("crop", "rotate", "jpeg", "least_area", "hue"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"CopyAugmentation.{name} is {getattr(self, name)!r}; it must be a number from 0 to 1"
                )
        for name in ("aspect", "saturation", "value"):
            if not 0 <= getattr(self, name) <= 3:
                raise ConfigError(
                    f"CopyAugmentation.{name} is {getattr(self, name)!r}; it must be a number from 0 to 3"
                )
        if not 0 <= self.degrees <= 180:
            raise ConfigError(f"CopyAugmentation.degrees is {self.degrees!r}; it must be a number from 0 to 180")
        for name, largest in (("sides", _LARGEST_SIDE), ("quality", 100)):
            low, high = getattr(self, name)
            if not 1 <= low <= high <= largest:
                raise ConfigError(
                    f"CopyAugmentation.{name} is {(low, high)}; use two rising numbers from 1 to {largest}"
                )

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can represent."""
        values: Mapping[str, Any] = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def decoding_target(self, image_size: int) -> int:
        """The short side, in pixels, at which the smallest crop of a decoded image still has image_size pixels."""
        return math.ceil(image_size / math.sqrt(max(self.least_area, 1e-3)))


@picture_errors()
def copy_image(image: Image.Image, config: CopyAugmentation, rng: np.random.Generator) -> Image.Image:
    """A changed copy of an image.

    Each step that interpolates draws its own algorithm, because the detector must not depend on one.

    Args:
        image: RGB, of any size.
        config: kinds and strengths of the changes.
        rng: the only source of randomness; the number of its draws does not depend on the image.
    Returns:
        RGB, with a shorter side within `config.sides`.
    Raises:
        ImageError: there is not enough memory.
    """
    draws = rng.random(20)
    filters = rng.integers(0, 6, size=4)
    noise = rng.normal(size=1)
    if draws[0] < config.rotate:
        fill = tuple(int(256 * draw) for draw in draws[1:4])
        resample = _ROTATION_FILTERS[filters[0] % 3]
        image = image.rotate(float(noise[0]) * config.degrees, resample, fillcolor=fill)
    box = (0.0, 0.0, float(image.width), float(image.height))
    if draws[7] < config.crop:
        box = _crop(image.size, config, draws[4:7])
    image = image.resize(_new_size(box, config, draws[8:10]), FILTERS[filters[1]], box=box)
    image = jitter_hsv(
        image,
        config.hue * (2 * draws[10] - 1),
        math.exp(config.saturation * (2 * draws[11] - 1)),
        math.exp(config.value * (2 * draws[12] - 1)),
    )
    if draws[13] < config.jpeg:
        low, high = config.quality
        image = recompress(image, int(low + draws[14] * (high + 1 - low)))
    return image


def _crop(size: tuple[int, int], config: CopyAugmentation, draws: np.ndarray) -> tuple[float, float, float, float]:
    """The box (left, top, right, bottom) of a crop with the image's aspect ratio."""
    least = math.sqrt(config.least_area)
    side = least + (1 - least) * draws[0]
    width, height = side * size[0], side * size[1]
    left, top = draws[1] * (size[0] - width), draws[2] * (size[1] - height)
    return left, top, min(left + width, size[0]), min(top + height, size[1])


def _new_size(box: tuple[float, float, float, float], config: CopyAugmentation, draws: np.ndarray) -> tuple[int, int]:
    """Width and height of the copy."""
    low, high = config.sides
    short = low * (high / low) ** draws[0]
    stretch = math.exp(config.aspect * (draws[1] - 0.5))
    width, height = (box[2] - box[0]) * stretch, (box[3] - box[1]) / stretch
    scale = short / min(width, height)
    # A strip of extreme aspect ratio is squeezed, or it would have millions of pixels.
    width, height = (max(1, min(round(scale * side), 4 * _LARGEST_SIDE)) for side in (width, height))
    return width, height


def jitter_hsv(image: Image.Image, hue: float, saturation: float, value: float) -> Image.Image:
    """Shift the hue by `hue` turns; multiply saturation and value."""
    h, s, v = image.convert("HSV").split()
    turn = round(256 * hue)
    h = h.point([(level + turn) % 256 for level in range(256)])
    s, v = (
        channel.point([min(255, round(factor * level)) for level in range(256)])
        for channel, factor in ((s, saturation), (v, value))
    )
    return Image.merge("HSV", (h, s, v)).convert("RGB")


def recompress(image: Image.Image, quality: int, format: str = "JPEG") -> Image.Image:
    """The image after lossy compression."""
    buffer = io.BytesIO()
    image.save(buffer, format, quality=quality)
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")
