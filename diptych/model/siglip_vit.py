"""The Vision Transformer of SigLIP and SigLIP 2: no class token, patches pooled by attention, no projection."""

from typing import Any, cast

import torch
from torch import nn

from diptych.model.attention import MLP, Attention, Transformer, attend
from diptych.model.packing import Packing
from diptych.model.patches import flat_patches
from diptych.model.products import linear
from diptych.model.siglip_vit_config import SiglipViTConfig


class AttentionPool(nn.Module):
    """One learned query, the probe, attends to all patches; a residual MLP follows."""

    def __init__(self, config: SiglipViTConfig, activation: str) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(config.width))
        self.attn = Attention(config.width, config.heads)
        self.ln = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config.width, config.mlp_width, activation)

    def forward(self, x: torch.Tensor, n: int) -> torch.Tensor:
        """Patches of n images (T, W) -> (N, W)."""
        attn, width = self.attn, x.shape[-1]
        query = linear(self.probe[None].to(x.dtype), attn.in_proj_weight[:width], attn.in_proj_bias[:width])
        keys_and_values = linear(x, attn.in_proj_weight[width:], attn.in_proj_bias[width:])
        k, v = keys_and_values.view(n, -1, 2, attn.heads, attn.depth).permute(2, 0, 3, 1, 4)
        q = query.view(1, attn.heads, 1, attn.depth).expand(n, -1, -1, -1)
        pooled = linear(attend(q, k, v).reshape(n, width), attn.out_proj.weight, attn.out_proj.bias)
        return pooled + self.mlp(self.ln(pooled).to(x.dtype))


class SiglipVisionTransformer(nn.Module):
    """Patches with a bias and learned positions, pre-norm blocks, a LayerNorm, and an attention pooling.

    Source: Zhai et al., arXiv 2303.15343; initialized as its authors' code does (big_vision).
    """

    def __init__(self, config: SiglipViTConfig, activation: str) -> None:
        super().__init__()
        width, patch, eps = config.width, config.patch_size, config.norm_eps
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch)
        self.positional_embedding = nn.Parameter(torch.empty(config.grid**2, width))
        self.transformer = Transformer(width, config.layers, config.heads, activation, config.mlp_width, eps)
        self.ln_post = nn.LayerNorm(width, eps=eps)
        self.attn_pool = AttentionPool(config, activation)
        nn.init.normal_(self.conv1.weight, std=(3 * patch**2) ** -0.5)
        nn.init.zeros_(cast(nn.Parameter, self.conv1.bias))
        nn.init.normal_(self.positional_embedding, std=width**-0.5)
        nn.init.normal_(self.attn_pool.probe, std=width**-0.5)
        parts: list[Any] = [*self.transformer.resblocks, self.attn_pool]
        for part in parts:
            _initialise(part.attn, part.mlp)

    @property
    def checkpointing(self) -> bool:
        """Whether the blocks recompute their activations in the backward pass instead of keeping them."""
        return self.transformer.checkpointing

    @checkpointing.setter
    def checkpointing(self, on: bool) -> None:
        self.transformer.checkpointing = on

    def features(self, images: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised images (N, 3, R, R) -> (N, W), the pooled patches.

        With `kept`, int64 (N, K), only those patches of each image are computed.
        """
        n, width = images.shape[0], len(self.conv1.weight)
        patches = flat_patches(images, self.conv1.kernel_size[0], kept)
        positions = self.positional_embedding if kept is None else self.positional_embedding[kept]
        x = linear(patches.flatten(0, 1), self.conv1.weight.flatten(1), self.conv1.bias).view(n, -1, width) + positions
        packing = Packing(((n, x.shape[1]),), torch.zeros(n, dtype=torch.long, device=x.device), causal=False)
        x = self.ln_post(self.transformer.every_position(x.flatten(0, 1), packing))
        return self.attn_pool(x.to(self.conv1.weight.dtype), n)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """(N, W) -> (N, W), unchanged: there is no projection."""
        return features


def _initialise(attn: Attention, mlp: MLP) -> None:
    """Xavier's uniform weights for each matrix on its own, and biases of nearly zero."""
    for weight in (*attn.in_proj_weight.data.chunk(3), attn.out_proj.weight, mlp.c_fc.weight, mlp.c_proj.weight):
        nn.init.xavier_uniform_(weight)
    for bias in (mlp.c_fc.bias, mlp.c_proj.bias):
        nn.init.normal_(bias, std=1e-6)
