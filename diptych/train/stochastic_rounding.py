"""Weights kept in bf16 and updated with stochastic rounding, so that small updates are not lost.

bf16 has 8 binary digits: rounding to nearest drops any update below a 512th of the weight. Stochastic rounding rounds
up with a probability equal to the remainder, so that such updates arrive on average.

The matrices and the token table of the text tower are bf16 parameters of the module itself, with bf16 gradients and no
fp32 copy; state_dict stores them as they are. Gains, biases and the positional embedding stay fp32, which keeps the
residual stream in fp32. The forward pass needs bf16 autocast; `full_precision` provides fp32 weights for evaluating and
saving without it.

Source: CLIP paper, section 2.5.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from diptych.errors import ConfigError

_DROPPED = 0xFFFF  # the bits of an fp32 number that bf16 drops


def stochastic_rounding(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Round to bf16, up or down at random, so that the expectation is the number itself.

    Numbers that bf16 represents exactly do not change, including infinities and NaN.

    Args:
        tensor: fp32, any shape.
        generator: on the tensor's device.
    Returns:
        bf16, the same shape.
    """
    noise = torch.empty(tensor.shape, dtype=torch.int32, device=tensor.device).random_(0, 2**16, generator=generator)
    rounded = torch.empty_like(tensor, dtype=torch.bfloat16)
    round_into(rounded, tensor.clone(), noise)
    return torch.where(tensor.isnan(), tensor.bfloat16(), rounded)


def round_into(out: torch.Tensor, values: torch.Tensor, noise: torch.Tensor) -> None:
    """out = values rounded stochastically, in three passes; `values` is overwritten.

    A NaN with bits only in its lower half becomes an infinity; NaNs from arithmetic stay NaN.

    Args:
        out: bf16. values: fp32. noise: int32, uniform from 0 to 2^16 - 1. All of one shape.
    """
    # The added noise carries into the kept bits with the right probability; then the dropped bits are cleared.
    values.view(torch.int32).add_(noise).bitwise_and_(~_DROPPED)
    out.copy_(values)


def prepare_weights(clip: nn.Module, stochastic: bool, dtype: torch.dtype) -> None:
    """Cast the text tower's matrices to bf16 if the run asks for it; call it before build_optimizer.

    Args:
        clip: a CLIP on its device, with plain tensors.
        stochastic: OptimizerConfig.stochastic_rounding; if False, nothing happens.
        dtype: of the products in the forward pass.
    Raises:
        ConfigError: the forward pass is not in bf16.
    """
    if not stochastic:
        return
    if dtype != torch.bfloat16:
        raise ConfigError("optimizer.stochastic_rounding keeps weights in bf16: train with precision bf16, or without")
    for name, parameter in clip.named_parameters():
        if is_rounded(name, parameter):
            parameter.data = parameter.data.bfloat16()


def is_rounded(name: str, parameter: torch.Tensor) -> bool:
    """Whether a parameter of a CLIP is kept in bf16: matrices of the text tower and its token table."""
    return parameter.ndim >= 2 and not name.startswith("visual.") and name != "positional_embedding"


@contextlib.contextmanager
def full_precision(module: nn.Module) -> Iterator[None]:
    """Within, bf16 weights are fp32, for evaluating and saving; afterwards the same bf16 tensors are restored."""
    before = {parameter: parameter.data for parameter in module.parameters() if parameter.dtype == torch.bfloat16}
    try:
        for parameter, data in before.items():
            parameter.data = data.float()
        yield
    finally:
        for parameter, data in before.items():
            parameter.data = data
