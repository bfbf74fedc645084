"""Config, costs and table row of the copy detector's ResNet; its network is in diptych.model.antialiased_resnet."""

import dataclasses
from typing import TYPE_CHECKING, Any

from diptych.errors import ConfigError
from diptych.model.sizes import check_size, convolution_flops
from diptych.model.tower import Tower, stack_depth

if TYPE_CHECKING:
    from torch import nn

_MAX_STAGES = 8
EXPANSIONS = (1, 4)


@dataclasses.dataclass(frozen=True, slots=True)
class AntialiasedResNetConfig:
    """A ResNet without batch statistics, see diptych.model.antialiased_resnet.

    Attributes:
        widths: channels of each stage; the first runs at a quarter of the image's resolution, each next one at half of
            that.
        layers: residual blocks in each stage.
        expansion: 1 for blocks of two 3x3 convolutions; 4 for bottlenecks, whose output has four times the width.
        stem_kernel: side of the first convolution's kernel, odd.
    """

    image_size: int
    widths: tuple[int, ...]
    layers: tuple[int, ...]
    expansion: int = 1
    stem_kernel: int = 5

    def __post_init__(self) -> None:
        check_size("vision", "image_size", self.image_size)
        for name in ("widths", "layers"):
            values, limit = getattr(self, name), "width" if name == "widths" else name
            if not isinstance(values, list | tuple) or not 1 <= len(values) <= _MAX_STAGES:
                raise ConfigError(f"vision.{name} must be 1 to {_MAX_STAGES} numbers, one a stage, not {values!r}")
            object.__setattr__(self, name, tuple(check_size("vision", limit, value) for value in values))
        if len(self.widths) != len(self.layers):
            raise ConfigError(f"vision.widths {self.widths} and vision.layers {self.layers} must be of the same length")
        if self.expansion not in EXPANSIONS or isinstance(self.expansion, bool):
            raise ConfigError(f"vision.expansion must be 1 or 4, not {self.expansion!r}")
        if self.stem_kernel not in (3, 5, 7):
            raise ConfigError(f"vision.stem_kernel must be 3, 5 or 7, not {self.stem_kernel!r}")
        if self.image_size % 2 ** (len(self.widths) + 1):
            raise ConfigError(
                f"{len(self.widths)} stages halve the image {len(self.widths) + 1} times: vision.image_size must be a "
                f"multiple of {2 ** (len(self.widths) + 1)}, not {self.image_size}"
            )

    @property
    def features_dim(self) -> int:
        """Channels of the image features before the projection."""
        return self.widths[-1] * self.expansion

    @property
    def grid(self) -> int:
        """Positions along one side of the last feature map."""
        return self.image_size // 2 ** (len(self.widths) + 1)

    def blocks(self) -> list[tuple[int, int, int]]:
        """(stage, input channels, planes) of each residual block."""
        result, channels = [], self.widths[0]
        for stage, (planes, count) in enumerate(zip(self.widths, self.layers, strict=True)):
            for _ in range(count):
                result.append((stage, channels, planes))
                channels = planes * self.expansion
        return result

    def convolutions(self, channels: int, planes: int) -> list[tuple[int, int, int]]:
        """(inputs, outputs, kernel) of a block's convolutions, the shortcut's last."""
        outputs = planes * self.expansion
        if self.expansion == 1:
            result = [(channels, planes, 3), (planes, planes, 3)]
        else:
            result = [(channels, planes, 1), (planes, planes, 3), (planes, outputs, 1)]
        return [*result, (channels, outputs, 1)] if channels != outputs else result

    def num_parameters(self, embed_dim: int) -> int:
        """Parameters of the tower with its projection to embed_dim."""
        layers = [(3, self.widths[0], self.stem_kernel)]
        for _, channels, planes in self.blocks():
            layers += self.convolutions(channels, planes)
        # Each convolution has a gain and a bias for each output channel.
        inner = sum(outputs * (inputs * kernel**2 + 2) for inputs, outputs, kernel in layers)
        return inner + self.features_dim * embed_dim + embed_dim


def _build(config: AntialiasedResNetConfig, embed_dim: int, activation: str) -> "nn.Module":
    from diptych.model.antialiased_resnet import AntialiasedResNet  # imports torch, which configs must not need

    return AntialiasedResNet(config, embed_dim)


def _blocks(network: Any) -> "list[nn.Module]":
    return [block for stage in network.stages for block in stage]


def _depth(name: str, config: AntialiasedResNetConfig) -> int:
    return stack_depth(name, len(config.layers), r"stages\.(\d+)\.", r"conv1\.")


def _flops(config: AntialiasedResNetConfig, embed_dim: int, patch_dropout: float) -> float:
    total = convolution_flops(config.image_size // 2, 3, config.widths[0], config.stem_kernel)
    for stage, channels, planes in config.blocks():
        size = config.image_size // 2 ** (stage + 2)
        total += sum(convolution_flops(size, *layer) for layer in config.convolutions(channels, planes))
    return total + 2 * config.features_dim * embed_dim


ANTIALIASED_RESNET = Tower(
    kind="antialiased_resnet",
    title="antialiased ResNet",
    config=AntialiasedResNetConfig,
    build=_build,
    blocks=_blocks,
    depth=_depth,
    flops=_flops,
)
