"""Keep freed memory in the process, instead of returning it to the system after each operation."""

import ctypes
import sys

# <malloc.h> of the GNU C library.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST, _PAD = 2**31 - 1, 2**26


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of large freed tensors, on Linux with the GNU C library.

    By default each tensor above a few megabytes gets fresh memory from the system, which clears the pages one by one
    when they are first touched. That takes ten times as long as the arithmetic of an elementwise operation. After this
    call the process keeps its peak memory. Call it once, before training.

    Returns:
        whether the system accepted the setting; on other systems nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_THRESHOLD, 2**30), (_M_TRIM_THRESHOLD, _LARGEST), (_M_TOP_PAD, _PAD))
    return all([mallopt(name, value) == 1 for name, value in settings])
