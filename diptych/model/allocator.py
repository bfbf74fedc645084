"""Keep memory that was freed, instead of handing it back to the system after each operation."""

import ctypes
import sys

# <malloc.h> of the GNU C library.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST, _PAD = 2**31 - 1, 2**26


def keep_freed_memory() -> bool:
    """Let this process reuse the memory of large tensors that it freed, on Linux with the GNU C library.

    By default a tensor above some megabytes is fresh memory from the system each time, whose pages the system clears
    one by one when they are first touched: more time than the arithmetic of an elementwise operation takes, by a
    factor of ten. The whole process keeps its largest amount of memory from then on. Call it once, before training.

    Returns:
        whether the system took the setting; elsewhere nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((_M_MMAP_THRESHOLD, 2**30), (_M_TRIM_THRESHOLD, _LARGEST), (_M_TOP_PAD, _PAD))
    return all([mallopt(name, value) == 1 for name, value in settings])
