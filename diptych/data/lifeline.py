"""Makes a child process end when its parent ends, however the parent ended.

A closed pipe signals the parent's end only if no third process holds the other end, and a forked sibling may hold it.
So Linux is asked to kill the child, and on all systems the child checks whether its parent is alive.
"""

import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_SECONDS_BETWEEN_LOOKS = 1.0
# Loaded before any fork: a child must not wait for a lock of the dynamic loader that a thread of its parent held.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent(parent: int, *, by_signal: bool) -> None:
    """Make this child process end at most about a second after its parent; called first in a child.

    Args:
        parent: the parent's process id, read before the child was started.
        by_signal: let Linux kill the child at once. Use this only if the parent's main thread started the child: Linux
            sends the signal when the starting thread ends, and other threads may end before their process.
    """
    if by_signal and _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # Check after the request above; otherwise a parent that ended in between would be missed.
    if sys.platform != "win32" and os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), name="diptych-lifeline", daemon=True).start()


def _watch(parent: int) -> None:
    if sys.platform == "win32":
        # On Windows the parent's id stays valid after its end, and no other process inherits the handle.
        if (process := multiprocessing.parent_process()) is not None:
            with contextlib.suppress(OSError):
                multiprocessing.connection.wait([process.sentinel])
            os._exit(1)
        return
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)
