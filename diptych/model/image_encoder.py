"""A model without a text side: the copy detector, whose pairs are an image and a changed copy of it."""

import math

import torch

from diptych.errors import ConfigError
from diptych.model.clip_config import CLIPConfig
from diptych.model.image_half import ImageHalf, build_image_tower
from diptych.model.text_config import NoTextConfig


class ImageEncoder(ImageHalf):
    """An image tower, and a temperature that is not learned.

    Attributes:
        visual: the image tower.
        logit_scale: () a buffer; logits are cosines times exp(t).
    Source: CLIP paper, appendix C.
    """

    logit_scale: torch.Tensor

    def __init__(self, config: CLIPConfig) -> None:
        if not isinstance(config.text, NoTextConfig):
            raise ConfigError(f"an ImageEncoder needs a NoTextConfig as its text, not {config.text}")
        super().__init__()
        self.config = config
        self.visual = build_image_tower(config)
        self.register_buffer("logit_scale", torch.tensor(-math.log(config.text.temperature)))
