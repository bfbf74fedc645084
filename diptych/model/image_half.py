"""The image half that every model has, whatever stands on the side of the text."""

from typing import Any

import torch
from torch import nn

from diptych.errors import ConfigError, ShapeError
from diptych.model.config import CLIPConfig
from diptych.model.towers import tower_of


def build_image_tower(config: CLIPConfig) -> nn.Module:
    """The image tower that the configuration names, with its projection to embed_dim."""
    return tower_of(config.vision).build(config.vision, config.embed_dim, config.activation)


class ImageHalf(nn.Module):
    """An abstract half; what inherits from it sets `config` and `visual`, the latter with build_image_tower.

    Attributes:
        visual: the image tower, a network as diptych.model.tower describes it.
    """

    config: CLIPConfig
    visual: Any

    @property
    def dtype(self) -> torch.dtype:
        """The type in which the network takes pictures."""
        return tower_of(self.config.vision).dtype(self.visual)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return tower_of(self.config.vision).device(self.visual)

    def image_features(self, images: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised images (N, 3, R, R) -> (N, W), the image tower's output before its projection.

        With `kept` see encode_image.
        """
        size = self.config.vision.image_size
        if images.shape[1:] != (3, size, size):
            raise ShapeError(f"images must have the shape (N, 3, {size}, {size}), not {tuple(images.shape)}")
        images = images.to(self.dtype)
        if kept is None:
            return self.visual.features(images)
        if not tower_of(self.config.vision).masks_patches:
            raise ConfigError("patches can be left out of a Vision Transformer only: a ResNet needs the whole picture")
        if kept.ndim != 2 or len(kept) != len(images):
            raise ShapeError(f"kept must be (N, K) for {len(images)} pictures, not {tuple(kept.shape)}")
        return self.visual.features(images, kept)

    def encode_image(self, images: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised images (N, 3, R, R) -> (N, E), points of the shared space, not yet of unit norm.

        Args:
            images: float (N, 3, R, R), normalised.
            kept: int64 (N, K), the patches of each picture that are computed, counted by rows from 0 (see
                draw_kept_patches); the others cost nothing. None for all.
        Raises:
            ConfigError: `kept` is given and the image tower is a ResNet.
            ShapeError: the sizes do not fit the architecture.
        """
        return self.visual.project(self.image_features(images, kept))

    def checkpoint_activations(self, on: bool) -> None:
        """Keep no activations inside the blocks of both towers while training, and compute them again for gradients.

        The gradients are the same to the last bit in fp32; a step takes about a third longer.
        """
        self.visual.checkpointing = on
        if (transformer := getattr(self, "transformer", None)) is not None:  # of the text side, where it has one
            transformer.checkpointing = on
