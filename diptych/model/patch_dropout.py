"""Which patches of a picture are computed while training with patch dropout."""

import torch

from diptych.errors import ConfigError


def draw_kept_patches(num_images: int, num_patches: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Draw the patches that stay, for each picture its own.

    Args:
        share: of the patches left out, from 0 up to but not including 1; at least one patch stays.
        generator: on the CPU; the same state gives the same patches.
    Returns:
        int64 (N, K) on the CPU, ascending, K = num_patches - round(share · num_patches) or 1.
    Raises:
        ConfigError: share is no such number.
    Source: FLIP, arXiv 2212.00794, section 3.
    """
    if not 0 <= share < 1:
        raise ConfigError(f"the share of patches left out is {share}; it must be at least 0 and below 1")
    kept = max(1, num_patches - round(share * num_patches))
    order = torch.rand(num_images, num_patches, generator=generator).argsort(dim=1)
    return order[:, :kept].sort(dim=1).values
