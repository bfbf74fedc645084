"""Balance activations against weights before both are rounded to 8 bits.

A row of activations is rounded with one scale, which its largest channel sets. Trained CLIPs have a few outlier
channels after their LayerNorms, which leave few levels for the others. Dividing channel j of the activations by s_j
and multiplying row j of the weights by s_j changes nothing in exact arithmetic; s_j = sqrt(activation_j / weight_j)
makes both sides equally large. The sizes of activations are estimated from the weights before them, so no data is
needed, and the division is part of those weights wherever they are linear.

Source: Xiao et al. 2023, SmoothQuant (arXiv 2211.10438), with estimated sizes.
"""

from collections.abc import Sequence

import torch
from torch import nn

_DEVIATIONS = 3.0  # a normalized channel rarely exceeds this many standard deviations
_TINY = 1e-8
_LARGEST_FACTOR = 1e4
_OUTLIER = 8.0  # from this ratio to the median on, hidden channels are worth an operation of their own


def balance_factors(sizes: torch.Tensor, weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """s float64 (K,), of geometric mean 1.

    Args:
        sizes: (K,) estimated sizes of the activations' channels.
        weights: matrices (N, K), as in nn.Linear, that multiply the same activations.
    """
    largest = torch.stack([weight.detach().double().abs().amax(dim=0) for weight in weights]).amax(dim=0)
    factors = (sizes.double().clamp(min=_TINY) / largest.clamp(min=_TINY)).sqrt()
    factors = factors / factors.log().mean().exp()
    return factors.clamp(1 / _LARGEST_FACTOR, _LARGEST_FACTOR)


def normed_sizes(norm: nn.LayerNorm) -> torch.Tensor:
    """The estimated sizes of a LayerNorm's output channels, float64 (K,)."""
    return _DEVIATIONS * norm.weight.detach().double().abs() + norm.bias.detach().double().abs()


def projected_sizes(sizes: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The estimated sizes of the channels of x @ weight.T + bias, float64 (N,), from those of x (K,)."""
    deviations = (weight.detach().double() * sizes / _DEVIATIONS).square().sum(dim=1).sqrt()
    return _DEVIATIONS * deviations + bias.detach().double().abs()


def has_outliers(sizes: torch.Tensor) -> bool:
    """Whether a channel is so much larger than most that it spoils the rounding of the others."""
    return bool(sizes.max() > _OUTLIER * sizes.median().clamp(min=_TINY))
