"""Which device and number format a run uses."""

import torch

from diptych.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is the GPU where there is one.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"cannot use device {name!r}: {str(error).splitlines()[0]}; try auto or cpu") from error
    return device


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 matrices itself; elsewhere bf16 on a CPU is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return False


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The autocast type for `precision` ("auto", "bf16", "fp32") on `device`."""
    if precision == "auto":
        return torch.bfloat16 if has_fast_bf16(device) else torch.float32
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
