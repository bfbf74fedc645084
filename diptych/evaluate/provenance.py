"""Where a number comes from: the `run` block of a Result."""

import functools
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from diptych.model.device import BF16_VARIABLE, num_cores

# What decides a processor's speed here, the most telling first.
_PROCESSOR_FEATURES = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def run_record(
    command: str | None = None, *, fingerprint: str | None = None, device: str | torch.device | None = None
) -> dict[str, Any]:
    """Describe this run: {"command", "commit", "machine", "fingerprint"}.

    Args:
        command: what was typed; by default this process's own command line.
        fingerprint: of the data that was measured on.
        device: where the model computed; by default CUDA where there is one.
    """
    return {
        "command": command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(device),
        "fingerprint": fingerprint,
    }


@functools.cache
def commit() -> str:
    """Git commit of the checkout that Diptych runs from ("-dirty" where files changed), else the package's version."""
    root = Path(__file__).resolve().parents[2]
    # An installed package may lie inside another project's checkout, whose commit would tell nothing.
    if (root / ".git").exists() and (root / "pyproject.toml").exists():
        describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        try:
            done = subprocess.run(describe, capture_output=True, text=True, timeout=20, check=True)
            return done.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass  # no git here, or a checkout of another owner: the version still tells something
    return f"diptych {importlib.metadata.version('diptych')}"


def machine(device: str | torch.device | None = None) -> str:
    """Kind of machine, without its name: "2 x AMD EPYC (avx512_bf16), 24 GiB, cpu"; the GPU's name in place of cpu."""
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    cores = num_cores()
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return ", ".join([f"{cores} x {_processor()}", *_memory(), accelerator])


def _memory() -> list[str]:
    """ "24 GiB", or nothing where the system does not tell (Windows)."""
    try:
        return [f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB"]
    except (AttributeError, ValueError, OSError):
        return []


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    refused = os.environ.get(BF16_VARIABLE) == "0"  # then no number comes of the processor's bf16
    names = [name for name in _PROCESSOR_FEATURES if name in flags and not (refused and name.endswith("bf16"))]
    feature = f" ({names[0]})" if names else ""
    return facts.get("model name", platform.machine()) + feature
