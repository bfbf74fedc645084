"""Config, costs and table row of the Vision Transformer; its network is in diptych.model.vision_transformer."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diptych.errors import ConfigError
from diptych.model.shapes import count_numbers, grid_of, shape_of
from diptych.model.sizes import (
    MLP_RATIO,
    block_flops,
    check_choice,
    check_flag,
    check_heads,
    check_number,
    check_size,
    described,
    num_block_parameters,
)
from diptych.model.tower import Tower, stack_depth

if TYPE_CHECKING:
    import torch
    from torch import nn

# Widths of image Transformers whose heads are not 64 wide: ViT-H, ViT-SO400M, ViT-g, ViT-bigG, ViT-e.
HEAD_WIDTHS = {1152: 72, 1280: 80, 1408: 88, 1664: 104, 1792: 112}


# Fields that came after the first release, with their defaults; names leave such a field out.
_NEWER = {"ln_pre": True, "pooling": "class"}
_POOLINGS = ("class", "mean", "mean_of_normalized")


@dataclasses.dataclass(frozen=True, slots=True)
class ViTConfig:
    """A Vision Transformer (CLIP paper, section 2.4) on square images cut into square patches.

    Attributes:
        heads: attention heads; 0 means width // 64.
        mlp_ratio: hidden channels of an MLP over the width, rounded to a whole number of channels; 4 except in the
            largest models (ViT-g, ViT-bigG, ViT-e).
        ln_pre: whether a LayerNorm comes before the blocks.
        pooling: "class" takes the class token; "mean" averages the patches and normalizes the average (CLIPA);
            "mean_of_normalized" averages the normalized patches.
    """

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int = 0
    mlp_ratio: float = MLP_RATIO
    ln_pre: bool = True
    pooling: str = "class"

    def __post_init__(self) -> None:
        for name in ("image_size", "patch_size", "width", "layers"):
            check_size("vision", name, getattr(self, name))
        check_number("vision.mlp_ratio", self.mlp_ratio)
        object.__setattr__(self, "mlp_ratio", check_size("vision", "mlp_width", self.mlp_width) / self.width)
        object.__setattr__(self, "heads", check_heads("vision", self.width, self.heads))
        if self.image_size % self.patch_size:
            raise ConfigError(f"vision.patch_size {self.patch_size} must divide vision.image_size {self.image_size}")
        check_flag("vision.ln_pre", self.ln_pre)
        check_choice("vision.pooling", self.pooling, _POOLINGS)

    def __repr__(self) -> str:
        return described(self, _NEWER)

    @property
    def features_dim(self) -> int:
        """Channels of the image features before the projection."""
        return self.width

    @property
    def mlp_width(self) -> int:
        """Hidden channels of an MLP."""
        return round(self.width * self.mlp_ratio)

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the tower with its projection to embed_dim."""
        tokens = self.grid**2 + 1
        patches = 3 * self.patch_size**2 * self.width
        blocks = num_block_parameters(self.width, self.layers, self.mlp_width)
        norms = 4 if self.ln_pre else 2
        return patches + self.width * (1 + tokens + norms + embed_dim) + blocks


def usual_heads(width: int) -> int:
    """Heads of published image Transformers of that width; 64 channels per head if there is none."""
    return max(1, width // HEAD_WIDTHS.get(width, 64))


def _build(config: ViTConfig, embed_dim: int, activation: str) -> "nn.Module":
    from diptych.model.vision_transformer import VisionTransformer  # imports torch, which configs must not need

    return VisionTransformer(config, embed_dim, activation)


def _blocks(network: Any) -> "list[nn.Module]":
    return list(network.transformer.resblocks)


def _depth(name: str, config: ViTConfig) -> int:
    below = r"conv1\.|(?:class_|positional_)embedding$|ln_pre\."
    return stack_depth(name, config.layers, r"transformer\.resblocks\.(\d+)\.", below)


def _flops(config: ViTConfig, embed_dim: int, patch_dropout: float) -> float:
    patches = config.grid**2 - int(patch_dropout * config.grid**2)
    projection = 2 * config.width * embed_dim
    first = 2 * config.grid**2 * 3 * config.patch_size**2 * config.width
    one_output = config.pooling == "class"
    return first + block_flops(config.width, config.layers, patches + 1, config.mlp_width, one_output) + projection


def _infer(tensors: "Mapping[str, torch.Tensor]", heads: int) -> ViTConfig:
    width, _, patch_size, _ = shape_of(tensors, "visual.conv1.weight", 4)
    grid = grid_of(tensors, "visual.positional_embedding")
    layers = count_numbers(tensors, "visual.transformer.resblocks")
    hidden, _ = shape_of(tensors, "visual.transformer.resblocks.0.mlp.c_fc.weight", 2)
    # 0 means heads of 64 channels, for a width that the usual number does not divide.
    usual = 0 if width % usual_heads(width) else usual_heads(width)
    ln_pre = "visual.ln_pre.weight" in tensors
    pooling = "class" if ln_pre else "mean"  # CLIPA alone has no ln_pre
    return ViTConfig(grid * patch_size, patch_size, width, layers, heads or usual, hidden / width, ln_pre, pooling)


VIT = Tower(
    kind="vit",
    title="Vision Transformer",
    config=ViTConfig,
    build=_build,
    blocks=_blocks,
    depth=_depth,
    flops=_flops,
    positions="positional_embedding",
    masks_patches=True,
    layouts=("openai", "open_clip", "huggingface"),
    omitted={"mlp_ratio": MLP_RATIO} | _NEWER,
    marker=r"visual\.proj",
    infer=_infer,
    assumed="images pooled at the class token, or at the patches' mean if there is no ln_pre",
)
