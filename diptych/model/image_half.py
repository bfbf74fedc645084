"""The image half that all models share, whatever their text side."""

from typing import Any

import torch
from torch import nn

from diptych.errors import ConfigError, ShapeError
from diptych.model.clip_config import CLIPConfig
from diptych.model.towers import tower_of


def build_image_tower(config: CLIPConfig) -> nn.Module:
    """The image tower that the configuration names, with its projection to embed_dim."""
    return tower_of(config.vision).build(config.vision, config.embed_dim, config.activation)


class ImageHalf(nn.Module):
    """Abstract base; a subclass sets `config`, and `visual` with build_image_tower.

    Attributes:
        visual: the image tower, a network as diptych.model.tower describes it.
    """

    config: CLIPConfig
    visual: Any

    @property
    def dtype(self) -> torch.dtype:
        """The type that the network takes images in."""
        return tower_of(self.config.vision).dtype(self.visual)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return tower_of(self.config.vision).device(self.visual)

    def image_features(self, images: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised images (N, 3, R, R) -> (N, W), the image tower's output before its projection.

        For `kept` see encode_image.
        """
        size = self.config.vision.image_size
        if images.shape[1:] != (3, size, size):
            raise ShapeError(f"images must have the shape (N, 3, {size}, {size}), not {tuple(images.shape)}")
        images = images.to(self.dtype)
        if kept is None:
            return self.visual.features(images)
        if not tower_of(self.config.vision).masks_patches:
            raise ConfigError("only a Vision Transformer can leave out patches: a ResNet needs the whole image")
        if kept.ndim != 2 or len(kept) != len(images):
            raise ShapeError(f"kept must be (N, K) for {len(images)} images, not {tuple(kept.shape)}")
        return self.visual.features(images, kept)

    def encode_image(self, images: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Normalized images (N, 3, R, R) -> (N, E), features in the shared space, not normalized.

        Args:
            images: float (N, 3, R, R), normalized.
            kept: int64 (N, K), the patches of each image that are computed, counted by rows from 0 (see
                draw_kept_patches); the others cost nothing. None means all.
        Raises:
            ConfigError: `kept` is given and the image tower is a ResNet.
            ShapeError: the sizes do not fit the architecture.
        """
        return self.visual.project(self.image_features(images, kept))

    def checkpoint_activations(self, on: bool) -> None:
        """Whether to recompute the activations inside the blocks of both towers, instead of keeping them.

        Gradients are bit-identical in fp32; a step takes about a third longer.
        """
        self.visual.checkpointing = on
        if (transformer := getattr(self, "transformer", None)) is not None:  # the text side's, if it has one
            transformer.checkpointing = on
