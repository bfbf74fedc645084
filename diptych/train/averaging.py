"""The exponential moving average of a model's weights, which often measures better than the weights themselves."""

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from diptych.errors import ConfigError
from diptych.train.adamw import local


class WeightAverage:
    """A running mean of the weights of a module in training, in fp32 for bf16 weights.

    After update number `step`, from 0, the average is d · average + (1 - d) · weights, with
    d = min(decay, (1 + step) / (10 + step)), so the random initial weights are soon forgotten.

    Float buffers, such as BatchNorm's running statistics, are averaged too: they belong to the activations of the
    weights, and the averaged weights lag behind the newest ones. Counts and locked parameters are not averaged; the
    module's own are used. Sharded tensors are averaged shard by shard.

    Source: Polyak and Juditsky 1992; the warm-up is TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"average_decay is {decay}; give a number from 0 to below 1, for example 0.9999")
        self._decay = decay
        self._current: dict[str, torch.Tensor] = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._current |= {n: b for n, b in module.named_buffers() if b.is_floating_point()}
        self._average = {
            name: tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32), copy=True)
            for name, tensor in self._current.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the current weights, after update number `step`, counted from 0."""
        share = 1 - min(self._decay, (1 + step) / (10 + step))
        by_kind: dict[tuple[torch.device, torch.dtype], tuple[list[torch.Tensor], list[torch.Tensor]]] = {}
        for name, average in self._average.items():
            kind = (average.device, average.dtype)
            averages, currents = by_kind.setdefault(kind, ([], []))
            averages.append(local(average))
            currents.append(local(self._current[name].detach()).to(average.dtype))
        for averages, currents in by_kind.values():
            torch._foreach_lerp_(averages, currents, share)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the module holds the average, to measure or save it; afterwards its own weights, bit for bit.

        Do not train or update inside.
        """
        own = {name: tensor.data for name, tensor in self._current.items() if self._is_narrow(name)}
        self._exchange()
        try:
            for name in own:
                self._current[name].data = self._average[name]
            yield
        finally:
            for name, data in own.items():
                self._current[name].data = data
            self._exchange()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Name -> average, for a checkpoint; the tensors themselves, not copies."""
        return dict(self._average)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """The inverse of state_dict.

        Raises:
            ConfigError: the state has other names, so it belongs to another model.
        """
        if differing := sorted(state.keys() ^ self._average.keys()):
            raise ConfigError(
                f"the saved average of weights belongs to another model: it differs in {', '.join(differing[:3])}"
            )
        for name, tensor in state.items():
            self._average[name].copy_(tensor)

    def _is_narrow(self, name: str) -> bool:
        return self._current[name].dtype != self._average[name].dtype

    @torch.no_grad()
    def _exchange(self) -> None:
        """Swap contents in place, so that every holder of the tensors (compiled code, DDP's buckets) sees it."""
        for name, average in self._average.items():
            if not self._is_narrow(name):
                current, stored = local(self._current[name].detach()), local(average)
                copy = current.clone()
                current.copy_(stored)
                stored.copy_(copy)
