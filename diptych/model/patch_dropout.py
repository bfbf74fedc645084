"""The patches of an image that are kept while training with patch dropout."""

import torch

from diptych.errors import ConfigError


def draw_kept_patches(num_images: int, num_patches: int, share: float, generator: torch.Generator) -> torch.Tensor:
    """Draw the patches that are kept, independently for each image.

    Args:
        share: of the patches that are dropped, from 0 up to but not including 1; at least one patch is kept.
        generator: on the CPU; the same state gives the same patches.
    Returns:
        int64 (N, K) on the CPU, ascending, K = num_patches - round(share · num_patches), at least 1.
    Raises:
        ConfigError: share is outside that range.
        ConfigError: share is no such number.
    Source: FLIP, arXiv 2212.00794, section 3.
    """
    if not 0 <= share < 1:
        raise ConfigError(f"the share of patches left out is {share}; it must be at least 0 and below 1")
    kept = max(1, num_patches - round(share * num_patches))
    order = torch.rand(num_images, num_patches, generator=generator).argsort(dim=1)
    return order[:, :kept].sort(dim=1).values
