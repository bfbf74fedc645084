"""Position embeddings for another image size."""

import torch
from torch.nn import functional as F

from diptych.errors import ShapeError


def resample_positions(table: torch.Tensor, grid: int) -> torch.Tensor:
    """Position embeddings of a square grid of patches, resampled to another one.

    The first row has no position (the class token; the mean in an attention pooling) and stays unchanged. The
    others are an image of W channels, resized bicubically and antialiased.

    Args:
        table: (1 + g², W) float.
        grid: G, patches along one side of the larger or smaller image.
    Returns:
        (1 + G², W) of the same type; the table itself if g = G.
    Raises:
        ShapeError: the table does not belong to a square grid.
    Source: CLIP paper, section 2.5 (the extra epoch at 336 pixels), which does not state the method.
    """
    old = round(max(0, len(table) - 1) ** 0.5)
    if table.ndim != 2 or len(table) != old**2 + 1 or old == 0 or grid < 1:
        raise ShapeError(
            f"a table of position embeddings has the shape (1 + g², W), not {tuple(table.shape)}, and is resampled to "
            f"a grid of at least 1, not {grid}"
        )
    if old == grid:
        return table
    dtype = torch.promote_types(table.dtype, torch.float32)
    image = table[1:].to(dtype).T.reshape(1, -1, old, old)
    resized = F.interpolate(image, size=(grid, grid), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([table[:1], resized[0].flatten(1).T.to(table.dtype)])
