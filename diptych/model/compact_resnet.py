"""A ResNet for small images and CPUs: plain 3x3 convolutions, early downsampling, attention pooling."""

from itertools import pairwise
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from diptych.model.compact_resnet_config import CompactResNetConfig
from diptych.model.modified_resnet import AttentionPool
from diptych.model.recompute import recomputed


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, channels: int, planes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        nn.init.zeros_(self.bn2.weight)
        self.shortcut: nn.Sequential | None = None
        if channels != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, planes, 1, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, R, R) -> (N, planes, R, R)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return F.relu(out + (x if self.shortcut is None else self.shortcut(x)), inplace=True)


class CompactResNet(nn.Module):
    """Basic blocks at half the resolution and below; each stage but the first begins with an average pooling.

    On a CPU the bottlenecks and the deep stem of the paper's ResNets are limited by memory, not by arithmetic. In the
    same time per image this tower processes twice their resolution, and learns more from the same number of pairs
    (docs/log.md).

    Attributes:
        checkpointing: recompute each block in the backward pass instead of keeping its activations.
    Source: basic blocks as in He et al. 2015; anti-aliased strides and attention pooling as in CLIP paper, section 2.4.
    """

    def __init__(self, config: CompactResNetConfig, embed_dim: int) -> None:
        super().__init__()
        widths = config.widths
        self.conv1 = nn.Conv2d(3, widths[0], 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        stages = zip(pairwise((widths[0], *widths)), config.layers, strict=True)
        self.stages = nn.ModuleList(_stage(channels, planes, blocks) for (channels, planes), blocks in stages)
        self.attnpool = AttentionPool(config.grid, config.features_dim, config.heads, embed_dim)
        self.checkpointing = False

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, R, R) -> (N, W), the attention pooling's output before its projection."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        for number, stage in enumerate(self.stages):
            x = F.avg_pool2d(x, 2) if number else x
            for block in cast(nn.Sequential, stage):
                x = recomputed(block, x) if self.checkpointing else block(x)
        return self.attnpool(x)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """(N, W) -> (N, E)."""
        return self.attnpool.c_proj(features.to(self.attnpool.c_proj.weight.dtype))


def _stage(channels: int, planes: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(channels, planes), *(BasicBlock(planes, planes) for _ in range(1, blocks)))
