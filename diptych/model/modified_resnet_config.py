"""Config, costs and table row of CLIP's modified ResNet; its network is in diptych.model.modified_resnet."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diptych.errors import ConfigError
from diptych.model.shapes import count_numbers, grid_of, shape_of
from diptych.model.sizes import check_heads, check_size, convolution_flops, num_pool_parameters, pool_flops
from diptych.model.tower import Tower, stack_depth

if TYPE_CHECKING:
    import torch
    from torch import nn

RESNET_STRIDE = 32


@dataclasses.dataclass(frozen=True, slots=True)
class ResNetConfig:
    """CLIP's modified ResNet (CLIP paper, section 2.4): ResNet-D stem, anti-aliased strides, attention pooling.

    Attributes:
        width: channels of the stem; the features have 32 times as many.
        layers: bottleneck blocks in each of the four stages.
        heads: heads of the attention pooling; 0 means width * 32 // 64.
    """

    image_size: int
    width: int
    layers: tuple[int, int, int, int]
    heads: int = 0

    def __post_init__(self) -> None:
        for name in ("image_size", "width"):
            check_size("vision", name, getattr(self, name))
        if not isinstance(self.layers, list | tuple) or len(self.layers) != 4:
            raise ConfigError(f"vision.layers of a ResNet must be four numbers, not {self.layers!r}")
        object.__setattr__(self, "layers", tuple(check_size("vision", "layers", layer) for layer in self.layers))
        object.__setattr__(self, "heads", check_heads("vision", self.features_dim, self.heads))
        if self.width % 2:
            raise ConfigError(f"vision.width of a ResNet must be even (the stem has half as many), not {self.width}")
        if self.image_size % RESNET_STRIDE:
            raise ConfigError(f"vision.image_size of a ResNet must be a multiple of 32, not {self.image_size}")

    @property
    def features_dim(self) -> int:
        """Channels of the image features before the projection."""
        return self.width * 32

    @property
    def grid(self) -> int:
        """Positions along one side of the last feature map."""
        return self.image_size // RESNET_STRIDE

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the tower with its projection to embed_dim (running statistics are buffers)."""
        half, features = self.width // 2, self.features_dim
        total = 9 * (3 * half + half * half + half * self.width) + 4 * half + 2 * self.width
        channels = self.width
        for stage, blocks in enumerate(self.layers):
            planes = self.width * 2**stage
            block = 9 * planes**2 + 4 * planes**2 + 12 * planes
            total += blocks * (block + 4 * planes**2) + planes * channels - 4 * planes**2
            total += 4 * planes * channels + 8 * planes
            channels = 4 * planes
        return total + num_pool_parameters(self.grid, features, embed_dim)


def _build(config: ResNetConfig, embed_dim: int, activation: str) -> "nn.Module":
    from diptych.model.modified_resnet import ModifiedResNet  # imports torch, which configs must not need

    return ModifiedResNet(config, embed_dim)


def _blocks(network: Any) -> "list[nn.Module]":
    return [block for stage in range(1, 5) for block in getattr(network, f"layer{stage}")]


def _depth(name: str, config: ResNetConfig) -> int:
    return stack_depth(name, len(config.layers), r"layer(\d+)\.", r"(?:conv|bn)[123]\.", first=1)


def _flops(config: ResNetConfig, embed_dim: int, patch_dropout: float) -> float:
    half, size = config.width // 2, config.image_size // 2
    total = convolution_flops(size, 3, half, 3) + convolution_flops(size, half, half, 3)
    total += convolution_flops(size, half, config.width, 3)
    size, channels = size // 2, config.width
    for stage, blocks in enumerate(config.layers):
        planes = config.width * 2**stage
        for block in range(blocks):
            # Striding is a pooling after the second convolution, so the third works on the smaller map.
            smaller = size // 2 if stage and not block else size
            total += convolution_flops(size, channels, planes, 1) + convolution_flops(size, planes, planes, 3)
            total += convolution_flops(smaller, planes, 4 * planes, 1)
            total += 0 if block else convolution_flops(smaller, channels, 4 * planes, 1)
            size, channels = smaller, 4 * planes
    return total + pool_flops(config.grid, config.features_dim, embed_dim)


def _infer(tensors: "Mapping[str, torch.Tensor]", heads: int) -> ResNetConfig:
    grid = grid_of(tensors, "visual.attnpool.positional_embedding")
    width, *_ = shape_of(tensors, "visual.layer1.0.conv1.weight", 4)
    first, second, third, fourth = (count_numbers(tensors, f"visual.layer{stage}") for stage in (1, 2, 3, 4))
    return ResNetConfig(grid * RESNET_STRIDE, width, (first, second, third, fourth), heads)


RESNET = Tower(
    kind="resnet",
    title="ResNet",
    config=ResNetConfig,
    build=_build,
    blocks=_blocks,
    depth=_depth,
    flops=_flops,
    positions="attnpool.positional_embedding",
    layouts=("openai", "open_clip"),
    marker=r"visual\.layer1\..*",
    infer=_infer,
)
