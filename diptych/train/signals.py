"""Stop signals end a run with a checkpoint; and a shorter thread switch interval during training."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Turn SIGINT, SIGTERM and SIGHUP into a flag, so that a run ends with a checkpoint; a second one acts as usual.

    SIGHUP is sent when a terminal or its connection is closed. If it is ignored (nohup), it stays ignored.

    The flag belongs to this process: ranks that stop together combine theirs with `distributed.any_rank`. Outside the
    main thread, where Python allows no handlers, the flag stays unset.
    """
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    numbers = [int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    if hasattr(signal, "SIGHUP") and before[signal.SIGHUP] == signal.SIG_IGN:
        del before[signal.SIGHUP]

    def stop(number: int, _frame: Any) -> None:
        stopped.set()
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def short_switch_interval() -> Iterator[None]:
    """Limit the time that the loader's thread keeps the interpreter to a fifth of a millisecond, from Python's five.

    An update launches hundreds of kernels and would wait for the interpreter before each: 15 % of the time on two
    cores.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
