"""Config, costs and table row of the ResNet for small images; its network is in diptych.model.compact_resnet."""

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

_MAX_STAGES = 8


@dataclasses.dataclass(frozen=True, slots=True)
class CompactResNetConfig:
    """A ResNet of basic blocks for small images, see diptych.model.compact_resnet.

    Attributes:
        widths: channels of each stage; the first runs at half the image's resolution, each next one at half of that.
        layers: basic blocks in each stage.
        heads: heads of the attention pooling; 0 means widths[-1] // 64.
    """

    image_size: int
    widths: tuple[int, ...]
    layers: tuple[int, ...]
    heads: int = 0

    def __post_init__(self) -> None:
        check_size("vision", "image_size", self.image_size)
        for name in ("widths", "layers"):
            values, limit = getattr(self, name), "width" if name == "widths" else name
            if not isinstance(values, list | tuple) or not 1 <= len(values) <= _MAX_STAGES:
                raise ConfigError(f"vision.{name} must be 1 to {_MAX_STAGES} numbers, one a stage, not {values!r}")
            object.__setattr__(self, name, tuple(check_size("vision", limit, value) for value in values))
        if len(self.widths) != len(self.layers):
            raise ConfigError(f"vision.widths {self.widths} and vision.layers {self.layers} must be of the same length")
        object.__setattr__(self, "heads", check_heads("vision", self.features_dim, self.heads))
        if self.image_size % 2 ** len(self.widths):
            raise ConfigError(
                f"{len(self.widths)} stages halve the image as many times: "
                f"vision.image_size must be a multiple of {2 ** len(self.widths)}, not {self.image_size}"
            )

    @property
    def features_dim(self) -> int:
        """Channels of the image features before the projection."""
        return self.widths[-1]

    @property
    def grid(self) -> int:
        """Positions along one side of the last feature map."""
        return self.image_size // 2 ** len(self.widths)

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the tower with its projection to embed_dim (running statistics are buffers)."""
        channels = self.widths[0]
        total = 27 * channels + 2 * channels
        for planes, blocks in zip(self.widths, self.layers, strict=True):
            total += blocks * (18 * planes**2 + 4 * planes) - 9 * planes * (planes - channels)
            total += channels * planes + 2 * planes if channels != planes else 0
            channels = planes
        return total + num_pool_parameters(self.grid, channels, embed_dim)


def _build(config: CompactResNetConfig, embed_dim: int, activation: str) -> "nn.Module":
    from diptych.model.compact_resnet import CompactResNet  # imports torch, which configs must not need

    return CompactResNet(config, embed_dim)


def _blocks(network: Any) -> "list[nn.Module]":
    return [block for stage in network.stages for block in stage]


def _depth(name: str, config: CompactResNetConfig) -> int:
    return stack_depth(name, len(config.layers), r"stages\.(\d+)\.", r"(?:conv|bn)1\.")


def _flops(config: CompactResNetConfig, embed_dim: int, patch_dropout: float) -> float:
    size, channels = config.image_size // 2, config.widths[0]
    total = convolution_flops(size, 3, channels, 3)
    for stage, (planes, blocks) in enumerate(zip(config.widths, config.layers, strict=True)):
        size //= 2 if stage else 1
        for _ in range(blocks):
            total += convolution_flops(size, channels, planes, 3) + convolution_flops(size, planes, planes, 3)
            total += convolution_flops(size, channels, planes, 1) if channels != planes else 0
            channels = planes
    return total + pool_flops(config.grid, config.features_dim, embed_dim)


def _infer(tensors: "Mapping[str, torch.Tensor]", heads: int) -> CompactResNetConfig:
    grid = grid_of(tensors, "visual.attnpool.positional_embedding")
    stages = count_numbers(tensors, "visual.stages")
    widths = tuple(shape_of(tensors, f"visual.stages.{stage}.0.conv1.weight", 4)[0] for stage in range(stages))
    blocks = tuple(count_numbers(tensors, f"visual.stages.{stage}") for stage in range(stages))
    return CompactResNetConfig(grid * 2**stages, widths, blocks, heads)


COMPACT_RESNET = Tower(
    kind="compact_resnet",
    title="ResNet",
    config=CompactResNetConfig,
    build=_build,
    blocks=_blocks,
    depth=_depth,
    flops=_flops,
    positions="attnpool.positional_embedding",
    marker=r"visual\.stages\..*",
    infer=_infer,
)
