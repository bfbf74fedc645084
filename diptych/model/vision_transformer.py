"""The Vision Transformer as CLIP uses it."""

import torch
from torch import nn

from diptych.model.attention import Transformer
from diptych.model.packing import Packing
from diptych.model.patches import flat_patches
from diptych.model.products import linear
from diptych.model.vision_transformer_config import ViTConfig


class VisionTransformer(nn.Module):
    """Patches and a class token, a LayerNorm before the blocks, and one after them on the class token.

    With another `pooling` (CLIPA) the class token is computed, too, but the patches are averaged.

    Source: CLIP paper, section 2.4; initialized as the reference code does.
    """

    def __init__(self, config: ViTConfig, embed_dim: int, activation: str) -> None:
        super().__init__()
        width, patch = config.width, config.patch_size
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(config.grid**2 + 1, width))
        self.ln_pre = nn.LayerNorm(width) if config.ln_pre else nn.Identity()
        self.pooling = config.pooling
        self.transformer = Transformer(width, config.layers, config.heads, activation, config.mlp_width)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, embed_dim))
        for parameter in (self.class_embedding, self.positional_embedding, self.proj):
            nn.init.normal_(parameter, std=width**-0.5)

    @property
    def checkpointing(self) -> bool:
        """Whether the blocks recompute their activations in the backward pass instead of keeping them."""
        return self.transformer.checkpointing

    @checkpointing.setter
    def checkpointing(self, on: bool) -> None:
        self.transformer.checkpointing = on

    def features(self, images: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised images (N, 3, R, R) -> (N, W), the class token or the mean before the projection.

        With `kept`, int64 (N, K), only those patches of each image and the class token are computed.
        """
        n, width = images.shape[0], len(self.class_embedding)
        patches = flat_patches(images, self.conv1.kernel_size[0], kept)
        positions = self.positional_embedding[1:]
        if kept is not None:
            positions = positions[kept]
        x = linear(patches.flatten(0, 1), self.conv1.weight.flatten(1)).view(n, -1, width) + positions
        class_token = (self.class_embedding + self.positional_embedding[0]).expand(n, 1, -1)
        x = self.ln_pre(torch.cat([class_token, x], dim=1))
        packing = Packing(((n, x.shape[1]),), torch.zeros(n, dtype=torch.long, device=x.device), causal=False)
        if self.pooling == "class":  # only the class token of the last block's output is used
            return self.ln_post(self.transformer(x.flatten(0, 1), packing))
        patches = self.transformer.every_position(x.flatten(0, 1), packing).view(n, -1, width)[:, 1:]
        if self.pooling == "mean":
            return self.ln_post(patches.mean(dim=1))
        return self.ln_post(patches).mean(dim=1)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """(N, W) -> (N, E)."""
        return features.to(self.proj.dtype) @ self.proj
