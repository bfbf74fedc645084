"""Views of an image: as it is, mirrored, upside down, and turned by 180 degrees.

A detector that was not trained on mirror images misses them. So evaluation images are searched in several views, and
the largest score counts.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from PIL import Image, ImageOps

from diptych.data.decoding import decode_image
from diptych.embed.about import About, about
from diptych.embed.encoder import Encoder, ImageInput
from diptych.embed.engine import PixelEncoder
from diptych.errors import ConfigError, ImageError

AS_IT_IS, MIRRORED = "as_it_is", "mirrored"
VIEWS: dict[str, Callable[[Image.Image], Image.Image]] = {
    AS_IT_IS: lambda image: image,
    MIRRORED: ImageOps.mirror,
    "upside_down": ImageOps.flip,
    "turned": lambda image: image.rotate(180),
}
"""Each view's name, and how an image is shown in it."""
USUAL_VIEWS = (AS_IT_IS, MIRRORED)
ALL_VIEWS = tuple(VIEWS)
_FLIPPED = {MIRRORED: (-1,), "upside_down": (-2,), "turned": (-2, -1)}  # axes of pixels (N, 3, height, width)


def seen_in(view: str, encoder: Encoder) -> Encoder:
    """An encoder that shows each image to another encoder in a view.

    Raises:
        ConfigError: there is no such view.
    """
    if view not in VIEWS:
        raise ConfigError(f"there is no view {view!r:.40}; the views are {', '.join(VIEWS)}")
    if view == AS_IT_IS:
        return encoder
    return _SeenPixels(view, encoder) if isinstance(encoder, PixelEncoder) else _Seen(view, encoder)


class _Seen:
    """Flips images and then encodes them."""

    def __init__(self, view: str, encoder: Any) -> None:
        self._view, self._encoder = view, encoder
        self.name = f"{encoder.name} ({view.replace('_', ' ')})"

    @property
    def about(self) -> About:
        """The encoder's record, with a fingerprint of its own."""
        record = about(self._encoder)
        if record.image_fingerprint is None:
            return record
        fingerprint = hashlib.sha256(f"{self._view} {record.image_fingerprint}".encode()).hexdigest()
        return dataclasses.replace(record, image_fingerprint=fingerprint)

    def encode_images(self, images: Iterable[ImageInput], /, **options: Any) -> torch.Tensor:
        """N images -> (N, E) float32 on the CPU, unit norm."""
        return self._encoder.encode_images([_show(self._view, image) for image in images], **options)

    def encode_texts(self, texts: Sequence[str], /) -> torch.Tensor:
        """As the encoder does: a text has no views."""
        return self._encoder.encode_texts(texts)


class _SeenPixels(_Seen):
    """Flips pixels that worker processes have prepared, which costs nothing."""

    @property
    def preprocessing(self) -> Any:
        """The encoder's."""
        return self._encoder.preprocessing

    def encode_pixels(self, images: torch.Tensor, /) -> torch.Tensor:
        """uint8 (N, 3, R, R) -> (N, E) float32, unit norm."""
        return self._encoder.encode_pixels(images.flip(_FLIPPED[self._view]))


def _show(view: str, image: ImageInput) -> ImageInput:
    """The image in a view; an image that cannot be decoded as it is, for the encoder to refuse."""
    try:
        return VIEWS[view](decode_image(image))
    except ImageError:
        return image
