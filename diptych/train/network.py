"""Build the network of a run with its initial weights, and its training step."""

from typing import Any

import torch

from diptych.data.library_tokenizer import AnyTokenizer
from diptych.model.build import build_model
from diptych.model.compiling import compile_towers
from diptych.objective.objectives import OBJECTIVES
from diptych.train.config import TrainConfig
from diptych.train.initial import initialise, lock_towers, locked_modules
from diptych.train.parallel import Towers
from diptych.train.step import ContrastiveStep, PredictiveStep
from diptych.train.stochastic_rounding import prepare_weights

Step = ContrastiveStep | PredictiveStep


def build_network(
    config: TrainConfig,
    tokenizer: AnyTokenizer | None,
    device: torch.device,
    dtype: torch.dtype,
    *,
    resumed: bool = False,
) -> Any:
    """The network on its device in training mode, the same in every rank.

    Args:
        config: model, seed, initial weights, locked towers.
        tokenizer: the run's, to compare with that of the initial weights.
        dtype: of the products in the forward pass.
        resumed: the weights come from a checkpoint; the initial weights' file may be gone.
    Returns:
        the result of `build_model`.
    """
    torch.manual_seed(config.seed)
    network: Any = build_model(config.model)
    if resumed:
        lock_towers(network, config.init)
    else:
        initialise(network, config.init, tokenizer)
    network = network.to(device).train()
    prepare_weights(network, config.optimizer.stochastic_rounding, dtype)
    for module in locked_modules(network, config.init):
        module.eval()
    if config.activation_checkpointing:
        network.checkpoint_activations(True)
    compile_towers(network, config.compile)
    return network


def build_step(network: Any, config: TrainConfig, dtype: torch.dtype) -> Step:
    """The step that computes a batch's gradients: over ranks, in micro-batches, with the run's objective."""
    if OBJECTIVES[config.objective].loss is None:  # the network has its own loss
        return PredictiveStep(network, config, dtype)
    return ContrastiveStep(Towers(network, config.parallel, dtype), config)
