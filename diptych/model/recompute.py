"""Activation checkpointing: drop a block's activations and recompute them in the backward pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from diptych import distributed

# A module, the name of one of its parameters, and its tensor.
Slot = tuple[nn.Module, str, torch.Tensor]


def slots(module: nn.Module) -> list[Slot]:
    """The current parameters of `module` and of its submodules, with their owners."""
    return [
        (owner, name, tensor)
        for owner in module.modules()
        for name, tensor in owner._parameters.items()
        if tensor is not None
    ]


@contextmanager
def installed(weights: Sequence[Slot]) -> Iterator[None]:
    """Temporarily replace parameters by these tensors."""
    before = [(owner, name, owner._parameters[name]) for owner, name, _ in weights]
    try:
        for owner, name, tensor in weights:
            owner._parameters[name] = tensor  # type: ignore[assignment]
        yield
    finally:
        for owner, name, parameter in before:
            owner._parameters[name] = parameter


@contextmanager
def untracked_statistics(module: nn.Module) -> Iterator[None]:
    """Let every BatchNorm in `module` normalize as usual without changing its running statistics."""
    tracked = [
        (layer, dict(layer._buffers))
        for layer in module.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
    ]
    try:
        for layer, buffers in tracked:
            layer._buffers.update({name: None if old is None else old.clone() for name, old in buffers.items()})
        yield
    finally:
        for layer, buffers in tracked:
            layer._buffers.update(buffers)


def recomputed(block: nn.Module, *inputs: Any) -> torch.Tensor:
    """block(*inputs); its activations are recomputed in the backward pass.

    The backward pass uses the weights of the forward pass, which may be copies that replace the parameters
    (diptych.train.precision). Running statistics advance once.
    """
    # FSDP2 gathers a block's weights again by itself; its parameters now are only this rank's shard.
    weights = [slot for slot in slots(block) if not distributed.is_sharded(slot[2])]

    def forward(*inputs: Any) -> torch.Tensor:
        with installed(weights):
            result: torch.Tensor = block(*inputs)
        return result

    outcome: torch.Tensor = checkpoint(
        forward,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,  # blocks use no random numbers
        context_fn=lambda: (nullcontext(), untracked_statistics(block)),
    )
    return outcome
