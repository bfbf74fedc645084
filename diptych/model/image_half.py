"""The image half that every model has, whatever stands on the side of the text."""

import torch
from torch import nn

from diptych.errors import ShapeError
from diptych.model.compact_resnet import CompactResNet
from diptych.model.config import CLIPConfig, CompactResNetConfig, ViTConfig
from diptych.model.modified_resnet import ModifiedResNet
from diptych.model.vision_transformer import VisionTransformer


def build_image_tower(config: CLIPConfig) -> VisionTransformer | ModifiedResNet | CompactResNet:
    """The image tower that the configuration names, with its projection to embed_dim."""
    if isinstance(config.vision, ViTConfig):
        return VisionTransformer(config.vision, config.embed_dim, config.activation)
    if isinstance(config.vision, CompactResNetConfig):
        return CompactResNet(config.vision, config.embed_dim)
    return ModifiedResNet(config.vision, config.embed_dim)


class ImageHalf(nn.Module):
    """An abstract half: the image tower under CLIP's names, so that all contestants of figure 2 share it.

    Attributes:
        visual: the image tower.
    """

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.visual = build_image_tower(config)

    def image_features(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, R, R) -> (N, W), the image tower's output before its projection."""
        size = self.config.vision.image_size
        if images.shape[1:] != (3, size, size):
            raise ShapeError(f"images must have the shape (N, 3, {size}, {size}), not {tuple(images.shape)}")
        return self.visual.features(images.to(self.visual.conv1.weight.dtype))

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, R, R) -> (N, E), not of unit norm."""
        return self.visual.project(self.image_features(images))
