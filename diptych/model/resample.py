"""Position embeddings for another image size."""

import math

import torch
from torch.nn import functional as F

from diptych.errors import ShapeError


def resample_positions(table: torch.Tensor, grid: int) -> torch.Tensor:
    """Position embeddings of a square grid of patches, resampled to another one.

    If there are 1 + g² rows, the first one has no position (the class token; the mean in an attention pooling) and
    stays unchanged. The others are an image of W channels, resized bicubically and antialiased.

    Args:
        table: (1 + g², W) or (g², W) float.
        grid: G, patches along one side of the larger or smaller image.
    Returns:
        (1 + G², W) or (G², W) of the same type; the table itself if g = G.
    Raises:
        ShapeError: the table does not belong to a square grid.
    Source: CLIP paper, section 2.5 (the extra epoch at 336 pixels), which does not state the method.
    """
    old = math.isqrt(len(table)) if table.ndim == 2 else 0
    others = len(table) - old**2 if old else 0  # rows without a position
    if old == 0 or others > 1 or grid < 1:
        raise ShapeError(
            f"a table of position embeddings has the shape (1 + g², W) or (g², W), not {tuple(table.shape)}, and is "
            f"resampled to a grid of at least 1, not {grid}"
        )
    if old == grid:
        return table
    dtype = torch.promote_types(table.dtype, torch.float32)
    image = table[others:].to(dtype).T.reshape(1, -1, old, old)
    resized = F.interpolate(image, size=(grid, grid), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([table[:others], resized[0].flatten(1).T.to(table.dtype)])
