"""Which number format a run multiplies in."""

import torch

from diptych.model.device import has_fast_bf16


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The autocast type for `precision` ("auto", "bf16", "fp32") on `device`."""
    if precision == "auto":
        return torch.bfloat16 if has_fast_bf16(device) else torch.float32
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
