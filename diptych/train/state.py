"""The state that changes during a run; a checkpoint is exactly this."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from diptych import distributed
from diptych.data.loader import Loader, merge_states
from diptych.model.synchronised_batch_norm import average_batch_norm
from diptych.train.averaging import WeightAverage
from diptych.train.guard import SpikeGuard
from diptych.train.inputs import merge_inputs
from diptych.train.optimizer import Optimizer
from diptych.train.state_check import check_fits, check_moments

_MOMENTS = {"adamw": ("exp_avg", "exp_avg_sq"), "muon": ("momentum",)}  # per parameter, of each optimizer


@dataclasses.dataclass
class Training:
    """Weights, moments, position in the data, and counters.

    Attributes:
        average: the moving average of the weights, if the run keeps one.
        inputs: from `input_fingerprints`.
        step: updates so far, including skipped ones.
        seconds: of training, over all calls of fit.
    """

    network: nn.Module
    optimizer: Optimizer
    loader: Loader
    guard: SpikeGuard
    average: WeightAverage | None = None
    inputs: dict[str, str | None] = dataclasses.field(default_factory=dict)
    step: int = 0
    seconds: float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """The state as nested dicts, with sharded tensors as DTensors; all ranks call it together."""
        average_batch_norm(self.network)
        return {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "loader": merge_states(distributed.gather_objects(self.loader.state_dict())),
            "guard": self.guard.state_dict(),
            "inputs": self.inputs,
            "random": torch.get_rng_state(),
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of state_dict; the state may be from a run on any number of ranks.

        Raises:
            ValueError: it does not fit this run: a name, shape, type or value is not possible.
            ConfigError: the run started with other pairs, another tokenizer or other weights.
        """
        check_fits(state, self.state_dict(), len(self.loader.source.shards))
        self.inputs = merge_inputs(state.get("inputs", {}), self.inputs)
        self.network.load_state_dict(_placed(state["model"], self.network.state_dict()))
        self.optimizer.load_state_dict(self._placed_moments(state["optimizer"]))
        if self.average is not None:
            self.average.load_state_dict(_placed(state["average"], self.average.state_dict()))
        self.loader.load_state_dict(state["loader"])
        self.guard.load_state_dict(state["guard"])
        torch.set_rng_state(state["random"])
        self.step, self.seconds = state["step"], state["seconds"]

    def _placed_moments(self, saved: Mapping[str, Any]) -> dict[str, Any]:
        """The optimizer's state with each moment sharded like its parameter."""
        placed = {}
        for name, part in self.optimizer.parts.items():
            parameters = [parameter for group in part.param_groups for parameter in group["params"]]
            indices = [index for group in saved[name]["param_groups"] for index in group["params"]]
            like = dict(zip(indices, parameters, strict=True))
            moments = {}
            for index, values in saved[name]["state"].items():
                if index not in like:
                    raise ValueError(f"optimizer.{name}.state belongs to a parameter {index!r:.40} that does not exist")
                check_moments(values, like[index], _MOMENTS[name], f"optimizer.{name}.state.{index}")
                moments[index] = {key: _place(value, like[index]) for key, value in values.items()}
            placed[name] = {**saved[name], "state": moments}
        return placed


def is_sharded(network: nn.Module) -> bool:
    """Whether its weights are sharded over ranks."""
    return any(distributed.is_sharded(parameter) for parameter in network.parameters())


def whole_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """The unsharded weights, on the CPU, in every rank; all ranks call it."""
    return {name: _whole(tensor).detach().cpu() for name, tensor in network.state_dict().items()}


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if distributed.is_sharded(tensor) else tensor


def _place(value: Any, like: torch.Tensor) -> Any:
    """A whole tensor sharded like `like`, if both have the same shape; anything else unchanged."""
    if distributed.is_sharded(like) and isinstance(value, torch.Tensor) and value.shape == like.shape:
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value


def _placed(state: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _place(value, like[name]) if name in like else value for name, value in state.items()}
