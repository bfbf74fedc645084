"""AdamW with the paper's decay rule, optional Muon, and the paper's learning-rate schedule."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import nn

from diptych import distributed
from diptych.errors import ConfigError
from diptych.model.clip_config import CLIPConfig
from diptych.model.towers import tower_of
from diptych.train.adamw import AdamW
from diptych.train.layers import layer_depth
from diptych.train.muon import Muon


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam with decoupled weight decay (paper, section 2.5 and table 18; the defaults are the ViTs').

    Attributes:
        learning_rate: at the end of the warm-up.
        weight_decay: on all weights except gains and biases.
        betas, eps: Adam's; (0.9, 0.999) and 1e-8 for the ResNets.
        clip_norm: largest norm of the whole gradient; None for no clipping. The paper does not state one.
        muon_learning_rate: at the end of the warm-up, for the matrices and kernels inside both towers, which Muon then
            updates instead of AdamW; None for AdamW only. docs/log.md reports its effect on small models.
        layer_decay: factor on the learning rate for each layer down from a tower's top, for fine-tuning; see
            diptych.train.layers. 1 for none.
        moments: "fp32", or "bf16": Adam's statistics in half the memory (section 2.5).
        stochastic_rounding: keep the text tower's matrices in bf16 and update them with stochastic rounding
            (section 2.5); needs bf16 precision and replicated weights.
    """

    learning_rate: float = 5e-4
    weight_decay: float = 0.2
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6
    clip_norm: float | None = 1.0
    muon_learning_rate: float | None = None
    layer_decay: float = 1.0
    moments: str = "fp32"
    stochastic_rounding: bool = False

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
        if not 0 < self.layer_decay <= 1:
            raise ConfigError(f"layer_decay is {self.layer_decay}; give a factor above 0 and at most 1")
        if self.moments not in ("fp32", "bf16"):
            raise ConfigError(f"moments is {self.moments!r}; Adam's statistics are kept in fp32 or bf16")
        if self.stochastic_rounding and self.muon_learning_rate is not None:
            raise ConfigError(
                "stochastic_rounding works only with AdamW: leave muon_learning_rate out, or stochastic_rounding"
            )


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """Linear warm-up, then half a cosine down to `final_fraction` of the learning rate (paper, section 2.5).

    Attributes:
        warmup_steps: the paper's 2,000 of 390,625; the recipes limit it to a tenth of shorter runs.
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

    def shortened(self, num_steps: int) -> "ScheduleConfig":
        """The schedule with its warm-up limited to a tenth of `num_steps`."""
        return dataclasses.replace(self, warmup_steps=max(1, min(self.warmup_steps, num_steps // 10)))


def learning_rate_share(step: int, num_steps: int, schedule: ScheduleConfig) -> float:
    """Share of the peak learning rate in update number `step`, counted from 0."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    progress = (step - schedule.warmup_steps) / max(1, num_steps - schedule.warmup_steps)
    cosine = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return schedule.final_fraction + (1 - schedule.final_fraction) * cosine


class Optimizer:
    """AdamW for some parameters and optionally Muon for the others, with one schedule.

    Attributes:
        parts: "adamw", and "muon" if used.
    """

    def __init__(self, adamw: AdamW, muon: Muon | None, learning_rate: float) -> None:
        self.parts: dict[str, AdamW | Muon] = {"adamw": adamw} | ({"muon": muon} if muon else {})
        self._learning_rate = learning_rate
        self._peaks = {name: [group["lr"] for group in part.param_groups] for name, part in self.parts.items()}

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for part in self.parts.values():
            part.zero_grad(set_to_none=True)

    def step(self, share: float, clip: float | None = None) -> tuple[torch.Tensor, float]:
        """Update all parameters.

        Args:
            share: of the peak learning rates.
            clip: largest norm of the whole gradient: a longer one is scaled down to it. None for no clipping.
        Returns:
            norm of the gradient () before clipping, over all ranks if weights are sharded, and the learning rate of
            AdamW at full depth. If the norm is not finite, the weights are not either: check it.
        """
        norm = gradient_norm(
            [p for part in self.parts.values() for group in part.param_groups for p in group["params"]]
        )
        divisor = None if clip is None else ((norm + 1e-6) / clip).clamp(min=1.0).float()
        # On a CPU reading the norm is free: most steps need no scaling, and then the gradients are not rewritten.
        if divisor is not None and divisor.device.type == "cpu" and divisor.item() == 1:
            divisor = None
        for name, part in self.parts.items():
            for group, peak in zip(part.param_groups, self._peaks[name], strict=True):
                group["lr"] = share * peak
            part.step(divisor=divisor)
        return norm, share * self._learning_rate

    def state_dict(self) -> dict[str, Any]:
        """The moments and the momentum, for a checkpoint."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])


@torch.no_grad()
def gradient_norm(parameters: Iterable[torch.Tensor]) -> torch.Tensor:
    """() L2 norm of all gradients together, in one pass over them; 0 if there are none.

    For sharded gradients each rank sums its shard and the ranks add the sums, so all ranks must call.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    sharded = [g for g in gradients if distributed.is_sharded(g)]
    norms = _norms([g for g in gradients if not distributed.is_sharded(g)])
    if sharded:
        norms.append(torch.nn.utils.get_total_norm(sharded).full_tensor())  # type: ignore[attr-defined]
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())


def _norms(gradients: list[torch.Tensor]) -> list[torch.Tensor]:
    """The norm () of each; those of bf16 gradients are in fp32."""
    halves = [g for g in gradients if g.dtype == torch.bfloat16]
    wholes = [g for g in gradients if g.dtype != torch.bfloat16]
    return [
        *(torch._foreach_norm(wholes, 2.0) if wholes else ()),
        *(torch._foreach_norm(halves, 2.0, torch.float32) if halves else ()),
    ]


def build_optimizer(model: nn.Module, config: OptimizerConfig, seed: int = 0) -> Optimizer:
    """AdamW with decay on matrices, kernels and embeddings, and none on gains, biases and the temperature.

    Vectors and scalars are exactly the gains, the biases, the class token and the temperature. Muon, if used, takes all
    matrices and kernels except embedding tables and the image tower's first layer, whose rows and columns stand for
    tokens, positions and colors. Frozen parameters get neither.

    Args:
        model: a CLIP, or anything with its parameter names; layer_decay needs `model.config`, a CLIPConfig.
        seed: of the stochastic rounding.
    Raises:
        ConfigError: Muon would update sharded weights, or nothing is left to train.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise ConfigError("all weights are locked: leave one tower, or the temperature, unlocked")
    first = _first_weight(getattr(model, "config", None))
    by_adamw: dict[tuple[bool, int], list[nn.Parameter]] = {}
    by_muon: dict[tuple[bool, int], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        muons = config.muon_learning_rate is not None and _is_inner(name, parameter, first)
        if muons and distributed.is_sharded(parameter):
            raise ConfigError("Muon needs whole matrices: use parallel.weights=replicated, or AdamW alone")
        depth = layer_depth(name, cast(CLIPConfig, model.config)) if config.layer_decay < 1 else 0
        (by_muon if muons else by_adamw).setdefault((parameter.ndim >= 2, depth), []).append(parameter)
    moments = torch.bfloat16 if config.moments == "bf16" else torch.float32
    groups = _settings(by_adamw, config.learning_rate, config)
    adamw = AdamW(groups, config.learning_rate, config.betas, config.eps, moments, seed)
    muon = None
    if config.muon_learning_rate is not None and by_muon:
        muon = Muon(_settings(by_muon, config.muon_learning_rate, config), config.muon_learning_rate)
    return Optimizer(adamw, muon, config.learning_rate)


def _settings(
    groups: dict[tuple[bool, int], list[nn.Parameter]], learning_rate: float, config: OptimizerConfig
) -> list[dict[str, Any]]:
    """Torch's groups from (decayed or not, depth) -> parameters: with decay first, then from the top down."""
    return [
        {
            "params": parameters,
            "lr": learning_rate * config.layer_decay**depth,
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (decayed, depth), parameters in sorted(groups.items(), key=lambda item: (not item[0][0], item[0][1]))
    ]


def _first_weight(config: CLIPConfig | None) -> str | None:
    """The name of the weight that multiplies the pixels; None for a model without a configuration."""
    return None if config is None else f"visual.{tower_of(config.vision).first_weight}"


def _is_inner(name: str, parameter: nn.Parameter, first_weight: str | None) -> bool:
    return parameter.ndim >= 2 and "embedding" not in name and name != first_weight
