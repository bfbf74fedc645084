"""The weights in the number format that a run multiplies in."""

from typing import Any

import torch
from torch import nn

from diptych.model.recompute import Slot, installed, slots

# These stay in fp32: they are used elementwise or looked up, which costs little, and bf16 would lose precision.
_ELEMENTWISE = (nn.Embedding, nn.LayerNorm, nn.modules.batchnorm._BatchNorm)
_ELEMENTWISE_NAMES = ("class_embedding", "positional_embedding", "logit_scale", "logit_bias")


class WorkingWeights:
    """The weights for a module's matrix products: copies in half precision, made once per update.

    The module keeps its parameters in fp32, which the optimizer updates and a checkpoint stores. Gradients reach them
    in fp32, through autograd and with all its hooks. Autocast would cast each weight again for every micro-batch, and
    each activation wherever types differ. The gradient is as exact as autocast's (benchmarks/train_step.py).

    Args:
        module: its floating-point parameters are the master weights.
        dtype: of the copies; if it is the masters' own type, nothing is copied.
    Source: mixed-precision training as in CLIP paper, section 2.5.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        self._module = module
        self._pairs: list[tuple[nn.Module, str, nn.Parameter, torch.Tensor]] = [
            (owner, name, master, torch.empty_like(master, dtype=dtype))  # type: ignore[misc]
            for owner, name, master in slots(module)
            if _in_products(owner, name) and master.dtype != dtype
        ]
        self.refresh()

    def refresh(self) -> None:
        """Make new copies: call it after each update of the masters, and after loading them.

        Stale copies cannot be detected: fused optimizers change a tensor without its version counter.
        """
        with torch.no_grad():
            for _, _, master, copy in self._pairs:
                copy.copy_(master)

    def run(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call that method of the module, with the copies in place of the masters."""
        weights: list[Slot] = [
            (owner, name, _Substitute.apply(master, copy) if master.requires_grad else copy)
            for owner, name, master, copy in self._pairs
        ]
        with installed(weights):
            return getattr(self._module, method)(*args, **kwargs)


class _Substitute(torch.autograd.Function):
    """Returns the copy, and passes its gradient to the master."""

    @staticmethod
    def forward(ctx: Any, master: torch.Tensor, copy: torch.Tensor) -> torch.Tensor:
        ctx.dtype = master.dtype
        return copy.view_as(copy)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad.to(ctx.dtype), None


def _in_products(owner: nn.Module, name: str) -> bool:
    return not isinstance(owner, _ELEMENTWISE) and name not in _ELEMENTWISE_NAMES
