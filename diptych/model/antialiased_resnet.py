"""The copy detector's ResNet: antialiased, with weight normalization and GELU in place of BatchNorm and ReLU.

A network without batch statistics cannot solve the contrastive task by what they leak about a pair's batch.
"""

from itertools import pairwise
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from diptych.model.antialiased_resnet_config import AntialiasedResNetConfig
from diptych.model.recompute import recomputed

# A unit-norm kernel on GELU(z), z ~ N(0, 1), has outputs of variance E[GELU(z)^2] = 0.425: this gain restores 1.
_GELU_GAIN = 0.425**-0.5
POWER = 3.0
SMALLEST = 1e-6


class WeightNormConv2d(nn.Module):
    """A convolution whose kernels are directions of unit norm, each with a learned gain and bias.

    Source: Salimans & Kingma 2016 (arXiv 1602.07868).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, gain: float = _GELU_GAIN) -> None:
        super().__init__()
        self.stride, self.padding = stride, kernel // 2
        directions = torch.randn(outputs, inputs, kernel, kernel)
        # The length of a kernel sets only how fast its direction turns.
        self.weight = nn.Parameter(directions / torch.linalg.vector_norm(directions, dim=(1, 2, 3), keepdim=True))
        self.gain = nn.Parameter(torch.full((outputs,), gain))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inputs, R, R) -> (N, outputs, R / stride, R / stride)."""
        directions = self.weight.float()  # norms are summed in fp32, whatever the products are computed in
        scales = self.gain.float() / torch.linalg.vector_norm(directions, dim=(1, 2, 3))
        kernels = (directions * scales[:, None, None, None]).to(x.dtype)
        return F.conv2d(x, kernels, self.bias.to(x.dtype), self.stride, self.padding)


class Block(nn.Module):
    """A residual block with activations before the convolutions. It begins as the identity: the last gain is 0."""

    def __init__(self, config: AntialiasedResNetConfig, channels: int, planes: int) -> None:
        super().__init__()
        layers = config.convolutions(channels, planes)
        shortcut = layers.pop() if channels != planes * config.expansion else None
        gains = [_GELU_GAIN] * (len(layers) - 1) + [0.0]
        self.convs = nn.ModuleList(
            WeightNormConv2d(*layer, gain=gain) for layer, gain in zip(layers, gains, strict=True)
        )
        self.shortcut = None if shortcut is None else WeightNormConv2d(*shortcut, gain=1.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, R, R) -> (N, expansion · planes, R, R)."""
        out = x
        for conv in self.convs:
            out = conv(F.gelu(out))
        return out + (x if self.shortcut is None else self.shortcut(x))


class AntialiasedResNet(nn.Module):
    """Residual stages with a low-pass filter before each subsampling, and generalized-mean pooling.

    Attributes:
        checkpointing: recompute each block in the backward pass instead of keeping its activations.
    Source: CLIP paper, appendix C, after Zhang 2019 (arXiv 1904.11486); pooling as in Radenović et al. 2018
        (arXiv 1711.02512), because the paper does not state its own.
    """

    def __init__(self, config: AntialiasedResNetConfig, embed_dim: int) -> None:
        super().__init__()
        widths = [config.widths[0], *(width * config.expansion for width in config.widths)]
        self.conv1 = WeightNormConv2d(3, config.widths[0], config.stem_kernel, stride=2, gain=1.0)
        self.stages = nn.ModuleList(
            nn.Sequential(
                Block(config, channels, planes),
                *(Block(config, outputs, planes) for _ in range(1, blocks)),
            )
            for (channels, outputs), planes, blocks in zip(pairwise(widths), config.widths, config.layers, strict=True)
        )
        self.proj = nn.Linear(config.features_dim, embed_dim)
        self.checkpointing = False

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Normalized images (N, 3, R, R) -> (N, W), the pooled map."""
        x = F.max_pool2d(F.gelu(self.conv1(images)), 3, stride=1, padding=1)
        for stage in self.stages:
            x = halve(x)
            for block in cast(nn.Sequential, stage):
                x = recomputed(block, x) if self.checkpointing else block(x)
        # Computed in fp32: the cube of a bf16 number keeps one decimal digit.
        activations = F.gelu(x.float()).clamp(min=SMALLEST)
        return activations.pow(POWER).mean(dim=(2, 3)).pow(1 / POWER)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """(N, W) -> (N, E)."""
        return self.proj(features.to(self.proj.weight.dtype))


def halve(x: torch.Tensor) -> torch.Tensor:
    """(N, C, R, R) -> (N, C, R / 2, R / 2): the binomial filter (1, 3, 3, 1) / 8 in both directions, with stride 2."""
    channels = x.shape[1]
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype, device=x.device) / 8
    kernel = (taps[:, None] * taps).expand(channels, 1, 4, 4)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, stride=2, groups=channels)
