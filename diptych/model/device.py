"""Which device to compute on, and what it is good at."""

import os

import torch

from diptych.errors import ConfigError


def choose_device(name: str | torch.device | None) -> torch.device:
    """The device called `name`; None and "auto" mean the GPU where there is one.

    Raises:
        ConfigError: there is no such device here.
    """
    if name is None or name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"cannot use device {name!r}: {str(error).splitlines()[0]}; try auto or cpu") from error
    return device


BF16_VARIABLE = "DIPTYCH_BF16"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 matrices itself; elsewhere bf16 on a CPU is slower than fp32.

    Every automatic choice of bf16 asks here. The environment variable DIPTYCH_BF16 overrides it: 0 is no, 1 is yes.

    Raises:
        ConfigError: the variable has another value.
    """
    override = os.environ.get(BF16_VARIABLE, "")
    if override:
        if override not in ("0", "1"):
            raise ConfigError(f"{BF16_VARIABLE} is {override[:20]!r}; set it to 0 (no bf16) or 1, or unset it")
        return override == "1"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return False
