"""How an image becomes a model's input: resize and crop, bit-identical to OpenAI's code and to torchvision's.

This module does not import torch: a graph of another runtime takes the same pixels.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from diptych.data.decoding import picture_errors
from diptych.errors import ConfigError

_INTERPOLATIONS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_RESIZES = ("shortest", "shortest_floor", "squash")
_MAX_IMAGE_SIZE = 4096
# A strip of 700,000 x 1 pixels would have 35 billion pixels after the usual resize. Beyond this aspect ratio, only the
# part that the crop keeps is resized, which rounds some pixels differently.
_MAX_ASPECT = 100


def fields_to_dict(config: Any) -> dict[str, Any]:
    """The fields of a record as values that JSON can represent."""
    values = dataclasses.asdict(config)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def fields_from_dict(kind: type, values: Mapping[str, Any]) -> Any:
    """The inverse of fields_to_dict; ConfigError for unknown keys."""
    known = {field.name for field in dataclasses.fields(kind)}
    if unknown := sorted(set(values) - known):
        raise ConfigError(f"{kind.__name__}: unknown keys {unknown}; the known keys are {sorted(known)}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def check_choice(owner: str, name: str, value: object, known: tuple[str, ...]) -> None:
    """Raise a ConfigError that names the field, if its value is not one of the known ones."""
    if value not in known:
        raise ConfigError(f"{owner}.{name} is {value!r}; choose one of {', '.join(known)}")


def is_number(value: object, low: float, high: float) -> bool:
    """Whether a value is a number from low to high."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a model's input; stored with the weights.

    Attributes:
        image_size: R, pixels.
        mean: mean per RGB channel, for pixels in [0, 1].
        std: standard deviation per RGB channel, for pixels in [0, 1].
        interpolation: "bicubic" or "bilinear", both with antialiasing.
        resize: "shortest" resizes the short side to R and crops the center, rounding half pixels to even as torchvision
            does; "shortest_floor" rounds them down as transformers does; "squash" resizes both sides to R.
    Raises:
        ConfigError: a value is unknown or out of range.
    """

    image_size: int = 224
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    interpolation: str = "bicubic"
    resize: str = "shortest"

    def __post_init__(self) -> None:
        size = self.image_size
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= _MAX_IMAGE_SIZE:
            raise ConfigError(f"Preprocessing.image_size is {size!r}; use a whole number from 1 to {_MAX_IMAGE_SIZE}")
        for name, low in (("mean", -1e3), ("std", 1e-6)):
            values = getattr(self, name)
            if not isinstance(values, tuple) or len(values) != 3 or not all(is_number(v, low, 1e3) for v in values):
                raise ConfigError(f"Preprocessing.{name} is {values!r}; it must be three numbers from {low} to 1000")
        check_choice("Preprocessing", "interpolation", self.interpolation, tuple(_INTERPOLATIONS))
        check_choice("Preprocessing", "resize", self.resize, _RESIZES)

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can represent."""
        return fields_to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of to_dict; ConfigError for unknown keys and invalid values."""
        return fields_from_dict(cls, values)


def _channels_first(image: Image.Image) -> np.ndarray:
    """RGB image -> uint8 (3, height, width), contiguous; the transposition is the only copy."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _resized_size(width: int, height: int, short: int) -> tuple[int, int]:
    """The size after resizing the short side to `short`; the long side is rounded down, as torchvision does."""
    if width <= height:
        return short, int(short * height / width)
    return int(short * width / height), short


def _centre_crop(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """(left, top) of the center square; like torchvision, Python's `round` rounds half to even."""
    half: Callable[[float], int] = math.floor if preprocessing.resize == "shortest_floor" else round
    return half((width - preprocessing.image_size) / 2), half((height - preprocessing.image_size) / 2)


def _strip_pixels(image: Image.Image, preprocessing: Preprocessing) -> Image.Image:
    """Resize and center-crop a long strip, using only the part of it that the crop keeps."""
    size, filter = preprocessing.image_size, _INTERPOLATIONS[preprocessing.interpolation]
    width, height = _resized_size(*image.size, size)
    left, top = _centre_crop(width, height, preprocessing)
    across, down = image.width / width, image.height / height
    # Plus the surrounding pixels that the filter uses, at most 2 of the coarser side's; Pillow stores a box as float32.
    reach = math.ceil(2 * max(across, down, 1)) + 1
    first_x, first_y = max(0, int(left * across) - reach), max(0, int(top * down) - reach)
    end_x, end_y = math.ceil((left + size) * across) + reach, math.ceil((top + size) * down) + reach
    part = image.crop((first_x, first_y, min(image.width, end_x), min(image.height, end_y)))
    box = (
        left * across - first_x,
        top * down - first_y,
        min(part.width, (left + size) * across - first_x),
        min(part.height, (top + size) * down - first_y),
    )
    return part.resize((size, size), filter, box=box)


@picture_errors()
def evaluation_array(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Resize the short side to R and crop the center, as OpenAI's and open_clip's evaluation do.

    Args:
        image: RGB, of any size; see decode_image.
        preprocessing: R, the interpolation and the resize rule.
    Returns:
        uint8 (3, R, R).
    Raises:
        ImageError: there is not enough memory.
    """
    size, filter = preprocessing.image_size, _INTERPOLATIONS[preprocessing.interpolation]
    if preprocessing.resize == "squash":
        return _channels_first(image.resize((size, size), filter))
    if max(image.size) > _MAX_ASPECT * min(image.size):
        return _channels_first(_strip_pixels(image, preprocessing))
    if min(image.size) != size:
        image = image.resize(_resized_size(*image.size, size), filter)
    left, top = _centre_crop(*image.size, preprocessing)
    if image.size != (size, size):
        image = image.crop((left, top, left + size, top + size))
    return _channels_first(image)
