"""The `run` block of a Result: command, commit, machine and data that a number comes from."""

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

from diptych.model.device import BF16_VARIABLE
from diptych.processor import num_cores

# The features that decide a processor's speed, fastest first.
_PROCESSOR_FEATURES = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")


def run_record(
    command: str | None = None, *, fingerprint: str | None = None, device: str | torch.device | None = None
) -> dict[str, Any]:
    """Describe this run: {"command", "commit", "machine", "fingerprint"}.

    Args:
        command: the command line; by default that of this process.
        fingerprint: fingerprint of the data that was measured on.
        device: the model's device; by default CUDA if available.
    """
    return {
        "command": command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": commit(),
        "machine": machine(device),
        "fingerprint": fingerprint,
    }


@functools.cache
def commit() -> str:
    """Git commit of the checkout that Diptych runs from ("-dirty" if files changed), else the package version."""
    root = Path(__file__).resolve().parents[2]
    # An installed package may lie inside another project's checkout, whose commit is unrelated.
    if (root / ".git").exists() and (root / "pyproject.toml").exists():
        describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        try:
            completed = subprocess.run(describe, capture_output=True, text=True, timeout=20, check=True)
            return completed.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass  # no git, or a checkout of another user: fall back to the version
    return f"diptych {importlib.metadata.version('diptych')}"


def machine(device: str | torch.device | None = None) -> str:
    """The kind of machine, without host name: "2 x AMD EPYC (avx512_bf16), 24 GiB, cpu", or the GPU instead of cpu."""
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    cores = num_cores()
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return ", ".join([f"{cores} x {_processor()}", *_memory(), accelerator])


def _memory() -> list[str]:
    """["24 GiB"], or [] if the system does not report it (Windows)."""
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
    refused = os.environ.get(BF16_VARIABLE) == "0"  # then nothing is computed with the processor's bf16
    names = [name for name in _PROCESSOR_FEATURES if name in flags and not (refused and name.endswith("bf16"))]
    feature = f" ({names[0]})" if names else ""
    return facts.get("model name", platform.machine()) + feature
