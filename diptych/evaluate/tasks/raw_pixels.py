"""Pixels as features: logistic regression on raw pixels, the baseline of the OCR table (table 14)."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from diptych.data.decoding import decode_image
from diptych.embed.encoder import ImageInput
from diptych.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class RawPixels:
    """An image-only encoder for probes: `image_features` are pixels; there is no `encode_texts`.

    Attributes:
        size: side of the square that images are resized to; 28 leaves MNIST unchanged.
        grey: use one luminance channel instead of three color channels.
    Source: CLIP paper, appendix E.2.
    """

    size: int = 28
    grey: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 1024:
            raise ConfigError(f"the side of raw-pixel images is {self.size}; it must lie between 1 and 1024")

    @property
    def name(self) -> str:
        """The model name in Results."""
        return f"raw-pixels/{self.size}{'' if self.grey else '-rgb'}"

    @property
    def image_fingerprint(self) -> str:
        """Everything that the vectors depend on."""
        return f"raw pixels 1 {self.size} {self.grey}"

    def image_features(self, pictures: Sequence[ImageInput]) -> torch.Tensor:
        """N images -> float32 (N, size * size) in [0, 1], black to white; three times as wide in color.

        Raises:
            ImageError: an image cannot be decoded.
        """
        rows = np.zeros((len(pictures), self.size * self.size * (1 if self.grey else 3)), np.float32)
        for place, picture in enumerate(pictures):
            image = decode_image(picture)
            image = image.convert("L") if self.grey else image
            if image.size != (self.size, self.size):
                image = image.resize((self.size, self.size), Image.Resampling.BICUBIC)
            rows[place] = np.asarray(image, np.float32).ravel() / 255
        return torch.from_numpy(rows)

    def encode_images(self, pictures: Sequence[ImageInput]) -> torch.Tensor:
        """`image_features` scaled to unit norm; a black image stays 0."""
        return torch.nn.functional.normalize(self.image_features(pictures), dim=1)
