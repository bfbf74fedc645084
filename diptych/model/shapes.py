"""Read shapes from a state dict, with errors for those that are not a CLIP's."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from diptych.errors import WeightsError

if TYPE_CHECKING:
    import torch


def shape_of(tensors: Mapping[str, "torch.Tensor"], name: str, dimensions: int) -> tuple[int, ...]:
    """The shape of the tensor of that name.

    Raises:
        WeightsError: it is missing or has another number of dimensions.
    """
    if name not in tensors:
        raise WeightsError(f"these are not the weights of a CLIP: {name} is missing (found {_sample(tensors)})")
    if tensors[name].dim() != dimensions:
        raise WeightsError(f"{name} must have {dimensions} dimensions, not the shape {tuple(tensors[name].shape)}")
    return tuple(tensors[name].shape)


def grid_of(tensors: Mapping[str, "torch.Tensor"], name: str) -> int:
    """Positions along one side, from a positional embedding of grid² + 1 rows.

    Raises:
        WeightsError: it is missing or has another number of rows.
    """
    rows, _ = shape_of(tensors, name, 2)
    grid = math.isqrt(max(0, rows - 1))
    if grid**2 + 1 != rows:
        raise WeightsError(f"{name} has {rows} rows, which is not a square number of patches plus a class token")
    return grid


def count_numbers(tensors: Mapping[str, "torch.Tensor"], prefix: str) -> int:
    """Number of different N among the names prefix.N.*."""
    start = f"{prefix}."
    return len({name[len(start) :].split(".", 1)[0] for name in tensors if name.startswith(start)})


def _sample(names: Mapping[str, object]) -> str:
    return f"{', '.join(list(names)[:5])}, ... {len(names)} names" if names else "nothing"
