"""AdamW with the paper's decay rule, and the paper's learning-rate schedule."""

import dataclasses
import math

import torch
from torch import nn

from diptych.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam with decoupled weight decay (paper, section 2.5 and table 18; the defaults are the ViTs').

    Attributes:
        learning_rate: at the end of the warm-up.
        weight_decay: on all weights except gains and biases.
        betas, eps: Adam's; (0.9, 0.999) and 1e-8 for the ResNets.
        clip_norm: largest norm of the whole gradient; None leaves it as it is. The paper does not state one.
    """

    learning_rate: float = 5e-4
    weight_decay: float = 0.2
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    clip_norm: float | None = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.learning_rate < math.inf and 0 <= self.weight_decay < math.inf):
            raise ConfigError(
                f"learning_rate is {self.learning_rate} and weight_decay {self.weight_decay}; "
                "the first must be above 0, the second at least 0, both finite"
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


def learning_rate_at(step: int, num_steps: int, peak: float, schedule: ScheduleConfig) -> float:
    """Learning rate of the update number `step`, which counts from 0."""
    if step < schedule.warmup_steps:
        return peak * (step + 1) / schedule.warmup_steps
    progress = (step - schedule.warmup_steps) / max(1, num_steps - schedule.warmup_steps)
    cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return peak * (schedule.final_fraction + (1 - schedule.final_fraction) * cosine)


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW with decay on matrices, kernels and embeddings, and none on gains, biases and the temperature.

    Vectors and scalars are exactly the gains, the biases, the class token and the temperature.
    """
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    spared = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True)
