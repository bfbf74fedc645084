"""Facts about the processor: its cores, its maker, its instructions."""

import functools
import hashlib
import os
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_IDENTITY = ("model name", "flags", "Features", "CPU part")


def num_cores() -> int:
    """CPU cores that this process may use; a scheduler may allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_threads() -> int:
    """Threads to compute with: OMP_NUM_THREADS, which torch also obeys, or one per core."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    return int(named) if named.isdecimal() and int(named) else num_cores()


def vendor() -> str:
    """The processor's vendor string, such as "AuthenticAMD"; "" if unknown."""
    if _CPUINFO.is_file():
        return dict(_first_block()).get("vendor_id", "")
    return os.environ.get("PROCESSOR_IDENTIFIER", "").rpartition(",")[2].strip()  # Windows


def has_vnni() -> bool:
    """Whether 8-bit products are summed in 32 bits; without VNNI, sums of two products saturate at 16 bits."""
    flags = dict(_first_block()).get("flags", "").split()
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags)


def kind() -> str:
    """A short digest of the processor's name and instructions."""
    text = str([pair for pair in _first_block() if pair[0] in _IDENTITY] or (platform.processor(), platform.machine()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def _first_block() -> tuple[tuple[str, str], ...]:
    """The lines of /proc/cpuinfo about the first core, as (name, value); () where there is no such file."""
    if not _CPUINFO.is_file():
        return ()
    block, _, _ = _CPUINFO.read_text(encoding="utf-8", errors="replace").partition("\n\n")
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return tuple((name.strip(), value.strip()) for name, value in pairs)
