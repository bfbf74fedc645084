"""torch.compile for a model's Transformers, block by block, if a compiler exists and compiling pays."""

import logging

import torch
from torch import nn

from diptych.errors import ConfigError
from diptych.model.attention import Block

logger = logging.getLogger(__name__)

MODES = ("off", "auto", "on")


def compile_towers(clip: nn.Module, mode: str) -> bool:
    """Have torch compile the Transformers' blocks at their first use; names and weights stay as they are.

    All blocks of one kind share one compiled version, so that the start costs seconds, not minutes. Another number of
    groups of texts compiles it again; their sizes and lengths may vary. ResNets are not compiled: compiled blocks take
    two to four times as long on a CPU.

    Args:
        clip: on the device where it will compute.
        mode: "off"; "on"; or "auto", which compiles on a GPU with a compiler. On a CPU the hand-written backward
            passes of diptych.model.fused gain about as much without the wait.
    Returns:
        whether the blocks will be compiled.
    Raises:
        ConfigError: the mode is unknown, or it is "on" and no compiler works here.
    """
    if mode not in MODES:
        raise ConfigError(f"compile is {mode!r}; it must be one of {', '.join(MODES)}")
    device = next(clip.parameters()).device
    if mode == "off" or (mode == "auto" and not pays_on(device)):
        return False
    failure = compiler_failure(device)
    if failure:
        needed = "a C++ compiler (g++ or clang++)" if device.type == "cpu" else "triton and a C compiler (gcc)"
        if mode == "on":
            raise ConfigError(f"torch.compile does not work here: {failure}. Install {needed}, or set compile to off")
        logger.info("running without torch.compile: %s; with %s it would be faster", failure, needed)
        return False
    for module in clip.modules():
        if isinstance(module, Block):
            module.compile()
    return True


def pays_on(device: torch.device) -> bool:
    """Whether "auto" compiles on `device`."""
    return device.type != "cpu"


def compiler_failure(device: torch.device) -> str | None:
    """Compile one line to find out why torch.compile fails on `device`; None if it works."""
    try:
        compiled = torch.compile(_one_line)
        compiled(torch.ones(8, device=device))
    except Exception as error:  # a missing or broken compiler can raise anything
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def _one_line(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.silu(x) + 1
