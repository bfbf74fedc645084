"""Cut images into square patches, as rows of a matrix."""

import torch


def flat_patches(images: torch.Tensor, patch: int, kept: torch.Tensor | None = None) -> torch.Tensor:
    """Images (N, 3, R, R) -> their patches (N, P, 3 · patch²), row by row, channels first within a patch.

    Patches do not overlap: a convolution with them is a matrix product, which is faster. Pixels right of and below the
    last whole patch are left out, as a convolution leaves them out.

    Args:
        kept: int64 (N, K), the patches of each image to return; None for all.
    """
    n, grid = images.shape[0], images.shape[-1] // patch
    images = images[:, :, : grid * patch, : grid * patch]
    patches = images.view(n, 3, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5)
    if kept is None:
        return patches.reshape(n, grid**2, -1)
    return patches[torch.arange(n, device=kept.device)[:, None], kept // grid, kept % grid].flatten(2)
