"""CLIP's modified ResNet: three-convolution stem, average pooling before strided convolutions, attention pooling."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from diptych.model.attention import attend
from diptych.model.modified_resnet_config import ResNetConfig
from diptych.model.recompute import recomputed

EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1; striding is an average pooling after the second convolution and before the shortcut's."""

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * EXPANSION, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * EXPANSION)
        nn.init.zeros_(self.bn3.weight)
        self.stride = stride
        self.downsample: nn.Sequential | None = None
        if stride > 1 or channels != planes * EXPANSION:
            # The names -1, 0, 1 are those of OpenAI's files.
            layers: list[tuple[str, nn.Module]] = [
                ("-1", nn.AvgPool2d(stride)),
                ("0", nn.Conv2d(channels, planes * EXPANSION, 1, bias=False)),
                ("1", nn.BatchNorm2d(planes * EXPANSION)),
            ]
            self.downsample = nn.Sequential(OrderedDict(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, channels, R, R) -> (N, 4 · planes, R / stride, R / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = F.avg_pool2d(out, self.stride) if self.stride > 1 else out
        out = self.bn3(self.conv3(out))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)), inplace=True)


class AttentionPool(nn.Module):
    """Attention pooling: the mean of the feature map is the query; the map and its mean are keys and values."""

    def __init__(self, grid: int, width: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.empty(grid**2 + 1, width))
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, embed_dim)
        nn.init.normal_(self.positional_embedding, std=width**-0.5)
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.c_proj):
            nn.init.normal_(layer.weight, std=width**-0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, W, grid, grid) -> (N, W), before c_proj."""
        x = x.flatten(2).transpose(1, 2)
        n, _, width = x.shape
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding
        x = x.to(self.q_proj.weight.dtype)
        q = self.q_proj(x[:, :1]).view(n, 1, self.heads, -1).transpose(1, 2)
        k, v = (
            project(x).view(n, -1, self.heads, width // self.heads).transpose(1, 2)
            for project in (self.k_proj, self.v_proj)
        )
        return attend(q, k, v).reshape(n, width)


class ModifiedResNet(nn.Module):
    """The paper's ResNets, RN50 to RN50x64.

    Attributes:
        checkpointing: recompute each block in the backward pass instead of keeping its activations.
    Source: CLIP paper, section 2.4; initialized as the reference code does.
    """

    def __init__(self, config: ResNetConfig, embed_dim: int) -> None:
        super().__init__()
        half = config.width // 2
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, config.width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(config.width)
        widths = [config.width * 2**stage for stage in range(4)]
        inputs = [config.width, *(EXPANSION * width for width in widths[:3])]
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _stage(channels, planes, blocks, stride)
            for channels, planes, blocks, stride in zip(inputs, widths, config.layers, (1, 2, 2, 2), strict=True)
        )
        self.attnpool = AttentionPool(config.grid, config.features_dim, config.heads, embed_dim)
        self.checkpointing = False

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images (N, 3, R, R) -> (N, 32 · width), the attention pooling's output before its projection."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = F.relu(self.bn3(self.conv3(x)), inplace=True)
        x = F.avg_pool2d(x, 2)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = recomputed(block, x) if self.checkpointing else block(x)
        return self.attnpool(x)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """(N, W) -> (N, E)."""
        return self.attnpool.c_proj(features.to(self.attnpool.c_proj.weight.dtype))


def _stage(channels: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(channels, planes, stride)
    return nn.Sequential(first, *(Bottleneck(EXPANSION * planes, planes, 1) for _ in range(1, blocks)))
