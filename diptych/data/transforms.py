"""From decoded images to model inputs: resize and crop for evaluation, augmentation for training, and normalization.

Pixels stay uint8 until they are on the device; `normalise` runs there. Evaluation pixels are bit-identical to those of
OpenAI's code and of torchvision's `Resize` and `CenterCrop`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from diptych.data.decoding import MAX_PIXELS, decode_image, picture_errors
from diptych.data.preprocessing import (
    Preprocessing,
    check_choice,
    evaluation_array,
    fields_from_dict,
    fields_to_dict,
    is_number,
)
from diptych.errors import ConfigError

__all__ = [
    "MAX_PIXELS",
    "Augmentation",
    "Preprocessing",
    "decode_image",
    "evaluation_pixels",
    "normalise",
    "training_pixels",
]

_CROPS = ("random_square", "centre")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of an image in training. The default is the paper's only augmentation.

    Attributes:
        crop: "random_square" takes the square crop at a random position, "centre" always in the center.
        rescale: range of the crop's area as a fraction of the largest square's area, e.g. (0.5, 1.0); (1, 1) keeps the
            scale.
        flip: probability of a left-right flip; captions with "left", "right" or written words are then wrong.
        colour: strength s of jitter: brightness, contrast and saturation are scaled by factors from 1 - s to 1 + s.
        blur: probability of a Gaussian blur with a radius of 0.1 to 2 pixels.
        low_resolution: probability of halving the resolution and scaling back; it helps on small images.
    Raises:
        ConfigError: a value is unknown or out of range.
    Source: CLIP paper, section 2.3: images are resized, and a random square is cropped; there is no other augmentation.
    """

    crop: str = "random_square"
    rescale: tuple[float, float] = (1.0, 1.0)
    flip: float = 0.0
    colour: float = 0.0
    blur: float = 0.0
    low_resolution: float = 0.0

    def __post_init__(self) -> None:
        check_choice("Augmentation", "crop", self.crop, _CROPS)
        low_high = self.rescale
        if not isinstance(low_high, tuple) or len(low_high) != 2 or not all(is_number(v, 1e-3, 1) for v in low_high):
            raise ConfigError(f"Augmentation.rescale is {low_high!r}; it must be two area fractions from 0.001 to 1")
        if low_high[0] > low_high[1]:
            raise ConfigError(f"Augmentation.rescale is {low_high!r}; the lower fraction comes first")
        for name in ("flip", "colour", "blur", "low_resolution"):
            if not is_number(getattr(self, name), 0, 1):
                raise ConfigError(f"Augmentation.{name} is {getattr(self, name)!r}; it must be a number from 0 to 1")

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can represent."""
        return fields_to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Augmentation":
        """The inverse of to_dict; ConfigError for unknown keys and invalid values."""
        return fields_from_dict(cls, values)

    @property
    def distorts(self) -> bool:
        """Whether pixels change after the crop."""
        return any((self.flip, self.colour, self.blur, self.low_resolution))

    def decoding_target(self, image_size: int) -> int:
        """The short side, in pixels, at which an image's smallest crop still has image_size pixels."""
        return math.ceil(image_size / math.sqrt(self.rescale[0]))


def evaluation_pixels(image: Image.Image, preprocessing: Preprocessing) -> torch.Tensor:
    """`evaluation_array` as a tensor: RGB image of any size -> uint8 (3, R, R)."""
    return torch.from_numpy(evaluation_array(image, preprocessing))


def _square(width: int, height: int, augmentation: Augmentation, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """The square (left, top, right, bottom) to crop, in whole pixels of the image."""
    low, high = augmentation.rescale
    side = short = min(width, height)
    if low < 1:
        side = max(1, round(math.sqrt(low + (high - low) * rng.random()) * short))
    left, top = (width - side) // 2, (height - side) // 2
    if augmentation.crop == "random_square":
        left, top = int(rng.random() * (width - side + 1)), int(rng.random() * (height - side + 1))
    return left, top, left + side, top + side


def _resize(image: Image.Image, size: int, interpolation: str) -> np.ndarray:
    """RGB image -> uint8 (size, size, 3), antialiased.

    torch's uint8 kernel is 6 times as fast as Pillow's; some values differ by 1 of 255 because of rounding.
    """
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(pixels, size=(size, size), mode=interpolation, antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def _distort(image: Image.Image, augmentation: Augmentation, rng: np.random.Generator) -> Image.Image:
    """Flip, color jitter, blur and loss of resolution; each one draws from rng only if it is enabled."""
    if augmentation.flip and rng.random() < augmentation.flip:
        image = ImageOps.mirror(image)
    if augmentation.colour:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhance(image).enhance(1 + augmentation.colour * (2 * rng.random() - 1))
    if augmentation.blur and rng.random() < augmentation.blur:
        image = image.filter(ImageFilter.GaussianBlur(0.1 + 1.9 * rng.random()))
    if augmentation.low_resolution and rng.random() < augmentation.low_resolution:
        image = image.reduce(2).resize(image.size, Image.Resampling.BICUBIC)
    return image


@picture_errors()
def training_pixels(
    image: Image.Image, preprocessing: Preprocessing, augmentation: Augmentation, rng: np.random.Generator
) -> torch.Tensor:
    """Crop a random square and resize it, then distort it according to the augmentation.

    Args:
        image: RGB, of any size; see decode_image.
        preprocessing: R, the interpolation and the resize rule.
        augmentation: the random changes.
        rng: the only source of randomness.
    Returns:
        uint8 (3, R, R).
    Raises:
        ImageError: there is not enough memory.
    """
    size = preprocessing.image_size
    if preprocessing.resize != "squash" or augmentation.rescale[0] < 1:
        square = _square(*image.size, augmentation, rng)
        if square != (0, 0, *image.size):
            image = image.crop(square)
    if image.size == (size, size):
        pixels = np.asarray(image)
    else:
        pixels = _resize(image, size, preprocessing.interpolation)
    if augmentation.distorts:
        pixels = np.asarray(_distort(Image.fromarray(pixels), augmentation, rng))
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def normalise(images: torch.Tensor, preprocessing: Preprocessing, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Pixels in [0, 255] -> the model's input, on the tensor's own device.

    Args:
        images: uint8 (N, 3, R, R).
        preprocessing: mean and std.
        dtype: dtype of the result; the arithmetic is always float32.
    Returns:
        float (N, 3, R, R), (images / 255 - mean) / std.
    """
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=images.device).view(3, 1, 1)
        for values in (preprocessing.mean, preprocessing.std)
    )
    # Same order of operations as torchvision's ToTensor and Normalize, so that rounding is the same.
    return images.to(torch.float32).div_(255).sub_(mean).div_(std).to(dtype)
