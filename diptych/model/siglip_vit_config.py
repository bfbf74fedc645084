"""Config, costs and table row of SigLIP's Vision Transformer; its network is in diptych.model.siglip_vit."""

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diptych.errors import ConfigError, WeightsError
from diptych.model.shapes import count_numbers, shape_of
from diptych.model.sizes import (
    MLP_RATIO,
    block_flops,
    check_eps,
    check_heads,
    check_number,
    check_size,
    num_block_parameters,
)
from diptych.model.tower import Tower, stack_depth

if TYPE_CHECKING:
    import torch
    from torch import nn

SIGLIP_EPS = 1e-6
# Widths whose heads are not 64 wide: ViT-SO400M and ViT-giant-opt.
_HEAD_WIDTHS = {1152: 72, 1536: 96}


@dataclasses.dataclass(frozen=True, slots=True)
class SiglipViTConfig:
    """A Vision Transformer without a class token, whose patches are pooled by attention (SigLIP and SigLIP 2).

    Its output has `width` channels and is not projected, so embed_dim is the width.

    Attributes:
        image_size: pixels along one side; those after the last whole patch are left out (384 with patches of 14).
        heads: attention heads of the blocks and of the pooling; 0 means width // 64.
        mlp_ratio: hidden channels of an MLP over the width, rounded to a whole number of channels; 4 except in
            ViT-SO400M.
        norm_eps: epsilon of the LayerNorms.
    Source: Zhai et al., arXiv 2303.15343, and Tschannen et al., arXiv 2502.14786.
    """

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int = 0
    mlp_ratio: float = MLP_RATIO
    norm_eps: float = SIGLIP_EPS

    def __post_init__(self) -> None:
        for name in ("image_size", "patch_size", "width", "layers"):
            check_size("vision", name, getattr(self, name))
        check_number("vision.mlp_ratio", self.mlp_ratio)
        object.__setattr__(self, "mlp_ratio", check_size("vision", "mlp_width", self.mlp_width) / self.width)
        object.__setattr__(self, "heads", check_heads("vision", self.width, self.heads))
        object.__setattr__(self, "norm_eps", check_eps("vision", self.norm_eps))
        if self.patch_size > self.image_size:
            raise ConfigError(f"vision.patch_size {self.patch_size} exceeds vision.image_size {self.image_size}")

    @property
    def features_dim(self) -> int:
        """Channels of the image features, which are also the embedding's."""
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
        """Parameters of the tower; the pooling is a block with one LayerNorm less and a probe."""
        patches = (3 * self.patch_size**2 + 1) * self.width
        blocks = num_block_parameters(self.width, self.layers + 1, self.mlp_width)
        return patches + self.width * (self.grid**2 + 2) + blocks - 2 * self.width + self.width


def _check(config: SiglipViTConfig, embed_dim: int) -> None:
    if embed_dim != config.width:
        raise ConfigError(
            f"model.embed_dim is {embed_dim} and vision.width {config.width}: a SigLIP's image tower has no "
            "projection, so they must be equal"
        )


def _build(config: SiglipViTConfig, embed_dim: int, activation: str) -> "nn.Module":
    from diptych.model.siglip_vit import SiglipVisionTransformer  # imports torch, which configs must not need

    return SiglipVisionTransformer(config, activation)


def _blocks(network: Any) -> "list[nn.Module]":
    return list(network.transformer.resblocks)


def _depth(name: str, config: SiglipViTConfig) -> int:
    return stack_depth(name, config.layers, r"transformer\.resblocks\.(\d+)\.", r"conv1\.|positional_embedding$")


def _flops(config: SiglipViTConfig, embed_dim: int, patch_dropout: float) -> float:
    width, all_patches = config.width, config.grid**2
    patches = all_patches - int(patch_dropout * all_patches)
    first = 2 * patches * 3 * config.patch_size**2 * width
    # Keys and values of all patches, one query (the same for all images, not counted), the output and its MLP.
    pool = 4 * width**2 * patches + 4 * width * patches + 2 * width**2 + 4 * width * config.mlp_width
    return first + block_flops(width, config.layers, patches, config.mlp_width, one_output=False) + pool


def _infer(tensors: "Mapping[str, torch.Tensor]", heads: int) -> SiglipViTConfig:
    width, _, patch_size, _ = shape_of(tensors, "visual.conv1.weight", 4)
    rows, _ = shape_of(tensors, "visual.positional_embedding", 2)
    if (grid := math.isqrt(rows)) ** 2 != rows:
        raise WeightsError(f"visual.positional_embedding has {rows} rows, which is not a square number of patches")
    layers = count_numbers(tensors, "visual.transformer.resblocks")
    hidden, _ = shape_of(tensors, "visual.transformer.resblocks.0.mlp.c_fc.weight", 2)
    usual = max(1, width // _HEAD_WIDTHS.get(width, 64))
    return SiglipViTConfig(
        grid * patch_size, patch_size, width, layers, heads or (0 if width % usual else usual), hidden / width
    )


SIGLIP_VIT = Tower(
    kind="siglip_vit",
    title="SigLIP Vision Transformer",
    config=SiglipViTConfig,
    build=_build,
    blocks=_blocks,
    depth=_depth,
    flops=_flops,
    positions="positional_embedding",
    masks_patches=True,
    layouts=("open_clip", "huggingface"),
    family="siglip",
    omitted={"mlp_ratio": MLP_RATIO, "norm_eps": SIGLIP_EPS},
    check=_check,
    marker=r"visual\.attn_pool\.probe",
    infer=_infer,
)
