"""A child process ends when its parent does, however the parent ended.

A pipe that closes tells a child of its parent's end only while no third process holds the other side, and a forked
sibling may hold it. So the system is asked to kill the child (Linux), and the child looks for itself (everywhere).
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
# Before any fork: a child must not wait for a lock of the dynamic loader that some thread of its parent held.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent(parent: int, *, by_signal: bool) -> None:
    """Called first thing in a child: from now on it lives no longer than its parent, give or take a second.

    Args:
        parent: the parent's process id, noted before the child was made.
        by_signal: have Linux kill the child at once. Right where the parent's main thread made it: Linux means the end
            of the thread, and other threads may end before their process.
    """
    if by_signal and _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # Only now, or a parent that ended in between would be missed.
    if sys.platform != "win32" and os.getppid() != parent:
        os._exit(1)
    threading.Thread(target=_watch, args=(parent,), name="diptych-lifeline", daemon=True).start()


def _watch(parent: int) -> None:
    if sys.platform == "win32":
        # There a parent's id stays after its end, and no other process inherits the handle.
        if (process := multiprocessing.parent_process()) is not None:
            with contextlib.suppress(OSError):
                multiprocessing.connection.wait([process.sentinel])
            os._exit(1)
        return
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)
