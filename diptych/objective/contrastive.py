"""The paper's symmetric contrastive loss, computed without storing the whole similarity matrix."""

import math
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from diptych import distributed
from diptych.objective.tiles import Block, Tiles, as_scalar, checked_tile

# exp(x) within these bounds, and sums of very many of them, do not overflow. If a sum is at least exp(-bound), terms
# that underflow are below its rounding error.
_REACH = {torch.float32: 60.0, torch.float64: 600.0}


def contrastive_loss(
    image_embeddings: torch.Tensor,
    text_embeddings: torch.Tensor,
    scale: torch.Tensor | float,
    *,
    tile: int | None = None,
) -> torch.Tensor:
    """Mean symmetric cross-entropy of matching each image to its text and back.

    With several ranks it is the loss of the global batch, the same number in all ranks: each computes the rows of its
    own images, and the number of pairs may differ between ranks. Each rank's backward pass leaves gradients whose mean
    over the ranks (which data parallelism takes) is the gradient of that loss.

    Forward and backward hold two or three blocks of (tile, tile) logits, not the (N, G) matrix.

    Args:
        image_embeddings: (N, E) float, unit L2 norm.
        text_embeddings: (N, E) float, unit L2 norm; row i belongs to image i.
        scale: () float, exp(t), at most 100.
        tile: rows and columns of a block; by default 1,024 on a CPU and 4,096 on a GPU.
    Returns:
        () float32 (float64 for float64 embeddings), nats per pair.
    Raises:
        ShapeError: the two sides differ in N or E, or are not matrices.
        ConfigError: the tile is less than 1.
    Source: CLIP paper, section 2.3 and figure 3; sharding over ranks: section 2.5.
    """
    tile = checked_tile("contrastive_loss", image_embeddings, text_embeddings, tile)
    scalar = as_scalar(scale, image_embeddings)
    return _ContrastiveLoss.apply(image_embeddings, text_embeddings, scalar, tile)


class _ContrastiveLoss(torch.autograd.Function):
    """Forward keeps the sums of each row's and each column's exponentials; backward computes the softmax from them."""

    @staticmethod
    def forward(ctx: Any, images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, tile: int) -> torch.Tensor:
        # Autocast would round products to bf16: at scale 100 a rounding error of 2^-8 changes a logit by 0.4.
        with torch.autocast(images.device.type, enabled=False):
            counts = distributed.gather_counts(len(images))
            tiles = Tiles(images, distributed.gather_rows(texts, counts), scale, counts, tile)
            sums = _Sums(tiles)
            ctx.save_for_backward(images, tiles.texts, scale)
            ctx.counts, ctx.tile, ctx.sums = counts, tile, sums
            return sums.loss.to(tiles.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        images, texts, scale = ctx.saved_tensors
        with torch.autocast(images.device.type, enabled=False):
            tiles = Tiles(images, texts, scale, ctx.counts, ctx.tile)
            # The loss is a mean over 2 G cross-entropies; data parallelism divides by the number of ranks.
            factor = upstream.double() * (len(ctx.counts) / (2 * tiles.num_pairs))
            return *tiles.gradients(ctx.sums.derivative, factor, ctx.sums.kept), None


class _Sums:
    """For each row and each column, the sum of exp(logit - shift) over all pairs but the matching one.

    The match is kept apart: near the end of training it is nearly the whole sum, and subtracting its share from 1 would
    leave only rounding errors.

    On a CPU all shifts are one number, so that one exponential serves a logit's row and column. The number follows from
    the scale if the embeddings have unit norm. Each row and column is shifted by its largest logit instead if that
    number does not suit one of them (or the norms differ from 1), and on a GPU, where checking would mean a sync.

    Attributes:
        loss: () float64, of all ranks.
        kept: the exponentials, if they are one block with one shift; otherwise None.
    """

    def __init__(self, tiles: Tiles) -> None:
        self._shifts: tuple[torch.Tensor, torch.Tensor] | tuple[float, float]
        if tiles.images.device.type == "cpu":
            reach = _REACH[tiles.dtype]
            shift = max(0.0, abs(float(tiles.scale)) - reach)
            self._shifts = shift, shift
            if self._add_up(tiles, (math.exp(-reach), 2 * tiles.num_pairs * math.exp(reach))):
                return
        self._shifts = _largest(tiles)
        self._add_up(tiles, None)

    def _add_up(self, tiles: Tiles, bounds: tuple[float, float] | None) -> bool:
        """Go through all blocks; return whether the sums of all rows and columns, in all ranks, are within bounds."""
        parts = num_rows, num_columns = len(tiles.images), tiles.num_pairs
        others, matches = (tiles.new(num_rows + num_columns, dtype=torch.float64) for _ in range(2))
        self.kept = self._pass(tiles, *others.split(parts), *matches.split(parts))
        if len(tiles.counts) > 1:
            for partial in (others, matches):
                partial[num_rows:] = distributed.sum_over_ranks(partial[num_rows:])
        sums = others + matches.exp()
        # -log(exp(match) / (exp(match) + others)), which is also accurate near 0.
        entropies = F.softplus(others.log() - matches, threshold=40)
        of_rows = entropies[:num_rows].sum()
        self.loss = (distributed.sum_over_ranks(of_rows) + entropies[num_rows:].sum()) / (2 * num_columns)
        self._weights = sums.reciprocal().to(tiles.dtype).split(parts)
        rows, columns = (others / sums).to(tiles.dtype).split(parts)
        self._of_matches = (rows + columns[tiles.own]).neg_()
        if bounds is None:
            return True
        # A NaN is not within bounds.
        return not distributed.any_rank(not bool(((sums >= bounds[0]) & (sums <= bounds[1])).all()))

    def _pass(
        self,
        tiles: Tiles,
        rows: torch.Tensor,
        columns: torch.Tensor,
        row_matches: torch.Tensor,
        column_matches: torch.Tensor,
    ) -> torch.Tensor | None:
        """Add the exponentials of pairs that do not match to rows (N,) and columns (G,); write the shifted logits of
        those that match; return the block to keep for backward, or None."""
        matches, kept = tiles.new(len(tiles.images)), None
        for block in tiles.blocks():
            matches[block.matched] = block.logits.diagonal(block.diagonal)
            by_row, by_column = self._exponentials(block)
            by_row.diagonal(block.diagonal).zero_()
            if by_column is by_row:
                kept = tiles.only(block)
            else:
                by_column.diagonal(block.diagonal).zero_()
            rows[block.rows] += by_row.sum(dim=1)
            columns[block.columns] += by_column.sum(dim=0)
        row_shift, column_shift = self._shifts
        own_shift = column_shift[tiles.own] if isinstance(column_shift, torch.Tensor) else column_shift
        # Shifted in the precision of the other logits, so that both are rounded in the same way.
        row_matches.copy_(matches - row_shift)
        column_matches[tiles.own] = matches - own_shift
        return kept

    def _exponentials(self, block: Block) -> tuple[torch.Tensor, torch.Tensor]:
        """exp(logit - shift) of a block (r, c), shifted by row and by column; overwrites the logits. Both results are
        the same tensor if the shift is one number."""
        rows, columns = self._shifts
        if isinstance(rows, torch.Tensor) and isinstance(columns, torch.Tensor):
            by_column = (block.logits - columns[block.columns]).exp_()
            return block.logits.sub_(rows[block.rows, None]).exp_(), by_column
        by_row = (block.logits.sub_(rows) if rows else block.logits).exp_()
        return by_row, by_row

    def derivative(self, block: Block) -> torch.Tensor:
        """The derivative (r, c) of the sum of all cross-entropies: both softmaxes, minus 2 for a matching pair."""
        rows, columns = self._weights[0][block.rows, None], self._weights[1][block.columns]
        if self.kept is not None:
            result = self.kept * (rows + columns)
        else:
            by_row, by_column = self._exponentials(block)
            if by_column is by_row:
                result = by_row.mul_(rows + columns)
            else:
                result = by_row.mul_(rows).add_(by_column.mul_(columns))
        result.diagonal(block.diagonal).copy_(self._of_matches[block.matched])
        return result


def _largest(tiles: Tiles) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest logit of each row (N,), and of each column (G,) over all ranks."""
    rows, columns = tiles.new(len(tiles.images)) - math.inf, tiles.new(tiles.num_pairs) - math.inf
    for block in tiles.blocks():
        rows[block.rows] = torch.maximum(rows[block.rows], block.logits.amax(dim=1))
        columns[block.columns] = torch.maximum(columns[block.columns], block.logits.amax(dim=0))
    if len(tiles.counts) > 1:
        columns = distributed.gather_rows(columns[None], [1] * len(tiles.counts)).amax(dim=0)
    return rows, columns
