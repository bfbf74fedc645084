"""The similarity matrix block by block: what both losses share, on one rank and on many.

Each rank has the rows of its own images; the columns are the texts of all ranks, gathered once. A loss goes through
the blocks, and its backward pass computes them again: recomputing the products costs less than storing them.

Legend: N pairs of this rank, G pairs of all ranks, E embedding; r and c are the rows and columns of one block.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from diptych import distributed
from diptych.errors import ConfigError, ShapeError

# On a CPU both blocks of a loss fit the caches; a GPU needs fewer and larger launches.
_CPU_TILE, _GPU_TILE = 1024, 4096


class Block(NamedTuple):
    """One block of the similarity matrix.

    Attributes:
        rows: of this rank's images.
        columns: of all ranks' texts.
        images: (r, E) in the precision of the loss.
        texts: (c, E), as images.
        logits: (r, c), scale times the products, in memory that may be overwritten and that the next block reuses; or
            the block that was kept.
        diagonal: which diagonal of the block holds the matching pairs, see torch.diagonal.
    """

    rows: slice
    columns: slice
    images: torch.Tensor
    texts: torch.Tensor
    logits: torch.Tensor
    diagonal: int

    @property
    def matched(self) -> slice:
        """The rows of this rank whose own text is in the block."""
        start = self.rows.start + max(0, -self.diagonal)
        return slice(start, start + self.logits.diagonal(self.diagonal).numel())


class Tiles:
    """The products of this rank's images with the texts of all ranks.

    Attributes:
        images: (N, E), as passed in.
        texts: (G, E), of all ranks.
        counts: N of each rank.
        dtype: of all arithmetic: float32, or float64 for embeddings of that type.
    """

    def __init__(
        self, images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, counts: list[int], tile: int
    ) -> None:
        self.images, self.texts, self.scale, self.counts = images, texts, scale, counts
        self.dtype = precision(images)
        self.num_pairs = len(texts)
        self._first = sum(counts[: distributed.rank()])
        self._tile = tile

    @property
    def own(self) -> slice:
        """The rows of `texts` that match this rank's images."""
        return slice(self._first, self._first + len(self.images))

    def new(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Zeros in the precision of the loss, or in dtype."""
        return torch.zeros(shape, dtype=dtype or self.dtype, device=self.images.device)

    def blocks(self, kept: torch.Tensor | None = None) -> Iterator[Block]:
        """All blocks, row by row.

        Args:
            kept: the only block, as an earlier pass left it; its product is not computed again.
        """
        height, width = min(self._tile, len(self.images)), min(self._tile, self.num_pairs)
        memory = torch.empty(0 if kept is not None else height * width, dtype=self.dtype, device=self.images.device)
        for top in range(0, len(self.images), self._tile):
            rows = slice(top, min(top + self._tile, len(self.images)))
            images = self.images[rows].to(self.dtype)
            scaled = images * self.scale
            for left in range(0, self.num_pairs, self._tile):
                columns = slice(left, min(left + self._tile, self.num_pairs))
                texts = self.texts[columns].to(self.dtype)
                logits = kept
                if logits is None:
                    logits = memory[: len(images) * len(texts)].view(len(images), len(texts))
                    torch.mm(scaled, texts.T, out=logits)
                yield Block(rows, columns, images, texts, logits, self._first + top - left)

    def only(self, block: Block) -> torch.Tensor | None:
        """The block's memory, to keep for backward, if it is the only block."""
        return block.logits if block.logits.numel() == len(self.images) * self.num_pairs else None

    def gradients(
        self, derivative: Callable[[Block], torch.Tensor], factor: torch.Tensor, kept: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The gradients of this rank's images and texts, and this rank's share of the scale's.

        Args:
            derivative: block -> derivative (r, c) of the loss, without `factor`, with respect to its logits.
            factor: () to multiply by.
            kept: see `blocks`.
        Returns:
            (N, E), (N, E) and ().
        """
        of_images, of_texts = self.new(*self.images.shape), self.new(*self.texts.shape)
        for block in self.blocks(kept):
            derivatives = derivative(block)
            of_images[block.rows].addmm_(derivatives, block.texts)
            of_texts[block.columns].addmm_(derivatives.T, block.images)
        # logits = scale * products: the sum of derivative * product is the sum of image * (derivative @ texts).
        of_scale = self.new(dtype=torch.float64)
        for top in range(0, len(self.images), self._tile):
            rows = slice(top, top + self._tile)
            of_scale += (of_images[rows] * self.images[rows]).sum(dim=1).double().sum()
        of_texts = distributed.sum_over_ranks(of_texts)[self.own] if len(self.counts) > 1 else of_texts
        factors, dtype = factor * self.scale.double(), self.images.dtype
        return of_images.mul_(factors).to(dtype), of_texts.mul_(factors).to(dtype), (of_scale * factor).to(self.dtype)


def precision(images: torch.Tensor) -> torch.dtype:
    """The precision of the loss for embeddings of this type."""
    return torch.promote_types(images.dtype, torch.float32)


def checked_tile(loss: str, images: torch.Tensor, texts: torch.Tensor, tile: int | None) -> int:
    """Check the arguments of a loss, and choose the size of its blocks.

    Raises:
        ShapeError: the two sides differ in N or E, or are not matrices.
        ConfigError: the tile is less than 1.
    """
    if images.ndim != 2 or images.shape != texts.shape:
        raise ShapeError(
            f"{loss} needs two (N, E) matrices of one shape; got {tuple(images.shape)} and {tuple(texts.shape)}"
        )
    if tile is None:
        return _CPU_TILE if images.device.type == "cpu" else _GPU_TILE
    if tile < 1:
        raise ConfigError(f"{loss}: tile must be at least 1, not {tile}")
    return tile


def as_scalar(value: torch.Tensor | float, images: torch.Tensor) -> torch.Tensor:
    """A number or a tensor of one element as a tensor () in the precision and on the device of the loss."""
    return torch.as_tensor(value).to(images.device, precision(images)).reshape(())
