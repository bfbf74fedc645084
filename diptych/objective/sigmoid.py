"""SigLIP's sigmoid loss: for each image and text, whether they belong together."""

from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from diptych import distributed
from diptych.objective.tiles import Block, Tiles, as_scalar, checked_tile

# Above it softplus(x) equals x in float64; torch's default threshold of 20 is for float32.
_THRESHOLD = 40.0


def sigmoid_loss(
    image_embeddings: torch.Tensor,
    text_embeddings: torch.Tensor,
    scale: torch.Tensor | float,
    bias: torch.Tensor | float,
    *,
    tile: int | None = None,
) -> torch.Tensor:
    """Binary cross-entropy of whether each image and each text belong together; summed per image.

    -1/G times the sum over all i, j of log sigmoid(z_ij (scale * cosine_ij + bias)), where z_ij is 1 for i = j and
    otherwise -1. Ranks, gradients and memory are as in contrastive_loss.

    Args:
        image_embeddings: (N, E) float, unit L2 norm.
        text_embeddings: (N, E) float, unit L2 norm; row i belongs to image i.
        scale: () float; exp(t); SigLIP starts at 10.
        bias: () float; SigLIP starts at -10, because nearly all pairs do not belong together.
        tile: rows and columns of a block; by default 1,024 on a CPU and 4,096 on a GPU.
    Returns:
        () float32 (float64 for float64 embeddings), nats per image.
    Raises:
        ShapeError: the two sides differ in N or E, or are not matrices.
        ConfigError: the tile is less than 1.
    Source: Zhai et al., Sigmoid Loss for Language Image Pre-Training (arXiv 2303.15343), equation 1.
    """
    tile = checked_tile("sigmoid_loss", image_embeddings, text_embeddings, tile)
    scalars = as_scalar(scale, image_embeddings), as_scalar(bias, image_embeddings)
    return _SigmoidLoss.apply(image_embeddings, text_embeddings, *scalars, tile)


class _SigmoidLoss(torch.autograd.Function):
    """Forward keeps only its inputs, and the signed logits if they are one block."""

    @staticmethod
    def forward(
        ctx: Any, images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, tile: int
    ) -> torch.Tensor:
        with torch.autocast(images.device.type, enabled=False):
            counts = distributed.gather_counts(len(images))
            tiles = Tiles(images, distributed.gather_rows(texts, counts), scale, counts, tile)
            total, ctx.kept = tiles.new(dtype=torch.float64), None
            for block in tiles.blocks():
                wrong = _wrongness(block, bias)
                ctx.kept = tiles.only(block)
                total += F.softplus(wrong, threshold=_THRESHOLD).sum(dim=1).double().sum()
            ctx.save_for_backward(images, tiles.texts, scale, bias)
            ctx.counts, ctx.tile = counts, tile
            return (distributed.sum_over_ranks(total) / tiles.num_pairs).to(tiles.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        images, texts, scale, bias = ctx.saved_tensors
        with torch.autocast(images.device.type, enabled=False):
            tiles = Tiles(images, texts, scale, ctx.counts, ctx.tile)
            factor = upstream.double() * (len(ctx.counts) / tiles.num_pairs)
            of_bias = tiles.new(dtype=torch.float64)

            def derivative(block: Block) -> torch.Tensor:
                result = _wrongness(block, bias).sigmoid_() if ctx.kept is None else ctx.kept.sigmoid()
                result.diagonal(block.diagonal).neg_()
                of_bias.add_(result.sum(dim=1).double().sum())
                return result

            gradients = tiles.gradients(derivative, factor, ctx.kept)
            return *gradients, (of_bias * factor).to(tiles.dtype), None


def _wrongness(block: Block, bias: torch.Tensor) -> torch.Tensor:
    """-z (scale * cosine + bias) of a block (r, c): large if the model is wrong. Overwrites the logits."""
    result = block.logits.add_(bias)
    result.diagonal(block.diagonal).neg_()
    return result
