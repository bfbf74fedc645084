"""AdamW with the paper's decay rule, Muon beside it where asked for, and the paper's learning-rate schedule."""

import dataclasses
import math
from typing import Any

import torch
from torch import nn

from diptych.errors import ConfigError
from diptych.train.muon import Muon


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam with decoupled weight decay (paper, section 2.5 and table 18; the defaults are the ViTs').

    Attributes:
        learning_rate: at the end of the warm-up.
        weight_decay: on all weights except gains and biases.
        betas, eps: Adam's; (0.9, 0.999) and 1e-8 for the ResNets.
        clip_norm: largest norm of the whole gradient; None leaves it as it is. The paper does not state one.
        muon_learning_rate: at the end of the warm-up, for the matrices and kernels inside both towers, which Muon then
            updates in AdamW's place; None leaves all to AdamW. What it brought small models stands in docs/log.md.
    """

    learning_rate: float = 5e-4
    weight_decay: float = 0.2
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    clip_norm: float | None = 1.0
    muon_learning_rate: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.learning_rate < math.inf and 0 <= self.weight_decay < math.inf):
            raise ConfigError(
                f"learning_rate is {self.learning_rate} and weight_decay {self.weight_decay}; "
                "the first must be above 0, the second at least 0, both finite"
            )
        if self.muon_learning_rate is not None and not 0 < self.muon_learning_rate < math.inf:
            raise ConfigError(
                f"muon_learning_rate is {self.muon_learning_rate}; give a number above 0, or None for AdamW"
            )
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ConfigError(f"clip_norm is {self.clip_norm}; give a norm above 0, or None for no clipping")


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """Linear warm-up, then half a cosine down to `final_fraction` of the learning rate (paper, section 2.5).

    Attributes:
        warmup_steps: the paper's 2,000 of 390,625; cut to a tenth of shorter runs by the recipes.
        final_fraction: not stated in the paper; 0 as in the usual implementations.
    """

    warmup_steps: int = 2000
    final_fraction: float = 0.0

    def __post_init__(self) -> None:
        if self.warmup_steps < 0 or not 0 <= self.final_fraction <= 1:
            raise ConfigError(
                f"warmup_steps is {self.warmup_steps} and final_fraction {self.final_fraction}; "
                "the first must be at least 0, the second a share from 0 to 1"
            )


def learning_rate_share(step: int, num_steps: int, schedule: ScheduleConfig) -> float:
    """Share of the peak learning rate in the update number `step`, which counts from 0."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    progress = (step - schedule.warmup_steps) / max(1, num_steps - schedule.warmup_steps)
    cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return schedule.final_fraction + (1 - schedule.final_fraction) * cosine


class Optimizer:
    """AdamW for some parameters and perhaps Muon for the others, under one schedule.

    Attributes:
        parts: "adamw", and "muon" where there is one.
    """

    def __init__(self, adamw: torch.optim.AdamW, muon: Muon | None) -> None:
        self.parts: dict[str, torch.optim.Optimizer] = {"adamw": adamw} | ({"muon": muon} if muon else {})
        self._peaks = {name: part.param_groups[0]["lr"] for name, part in self.parts.items()}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)

    def step(self, share: float) -> float:
        """Update all parameters at `share` of the peak learning rates; returns AdamW's."""
        for name, part in self.parts.items():
            for group in part.param_groups:
                group["lr"] = share * self._peaks[name]
            part.step()
        return share * self._peaks["adamw"]

    def state_dict(self) -> dict[str, Any]:
        """The moments and the momentum, for a checkpoint."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> Optimizer:
    """AdamW with decay on matrices, kernels and embeddings, and none on gains, biases and the temperature.

    Vectors and scalars are exactly the gains, the biases, the class token and the temperature. Muon, where it is asked
    for, takes all matrices and kernels but the tables of embeddings and the image tower's first layer, whose rows and
    columns stand for tokens, places and colours.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = {} if config.muon_learning_rate is None else {n: p for n, p in parameters.items() if _is_inner(n, p)}
    rest = [p for name, p in parameters.items() if name not in matrices]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)
    if config.muon_learning_rate is None:
        return Optimizer(adamw, None)
    return Optimizer(adamw, Muon(matrices.values(), lr=config.muon_learning_rate, weight_decay=config.weight_decay))


def _is_inner(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and "embedding" not in name and name != "visual.conv1.weight"
