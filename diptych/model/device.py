"""Choose the device and its precision."""

import logging
import os

import torch

from diptych.errors import ConfigError
from diptych.files import shown

logger = logging.getLogger(__name__)


def choose_device(name: str | torch.device | None) -> torch.device:
    """The device called `name`; None and "auto" mean the GPU if there is one.

    Raises:
        ConfigError: this machine has no such device.
    """
    if name is None or name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(name, bool) or not isinstance(name, str | int | torch.device):
        raise ConfigError(f"a device must be a string such as auto, cpu or cuda:0, not {shown(name)}")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"cannot use device {name!r}: {str(error).splitlines()[0]}; try auto or cpu") from error
    return device


BF16_VARIABLE = "DIPTYCH_BF16"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware; on other CPUs bf16 is slower than fp32.

    Every automatic choice of bf16 calls this function. The environment variable DIPTYCH_BF16 overrides it: 0 no, 1 yes.

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


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type of the products for `precision` ("auto", "bf16", "fp32") on `device`.

    Raises:
        ConfigError: there is no such precision.
    """
    if precision == "int8":
        raise ConfigError("precision int8 is not available yet; use fp32, bf16 or auto")
    if precision not in ("fp32", "bf16", "auto"):
        raise ConfigError(f"precision must be fp32, bf16 or auto, not {precision!r}")
    if precision == "fp32":
        return torch.float32
    fast = has_fast_bf16(device)
    if precision == "bf16" and not fast:
        logger.warning("%s has no bf16 hardware: bf16 is slower here than fp32, which auto would choose", device)
    return torch.bfloat16 if fast or precision == "bf16" else torch.float32
