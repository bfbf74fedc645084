"""A function in a process that a test may kill: forked from a server that holds torch, so that it starts at once."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ranks import PROCESSES


class Forked:
    """The process; ends as `subprocess.Popen` does: `poll`, `wait`, `send_signal`, `kill`.

    Args:
        errors: the file that takes its stderr, with the traceback of what the function raises (exit status 1).
        function: at the top of a module; called with the arguments.
        new_session: the process leads a group of its own, which `os.killpg` reaches.
    """

    def __init__(
        self, errors: Path, function: Callable[..., object], *arguments: Any, new_session: bool = False
    ) -> None:
        self.errors = errors
        self._process = PROCESSES.Process(target=_run, args=(errors, new_session, function, arguments))
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative for a signal that ended it."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} seconds")
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it if it still runs; a test does so in the end, since Python waits for it otherwise."""
        self._process.kill()
        self._process.join()


def _run(errors: Path, new_session: bool, function: Callable[..., object], arguments: tuple) -> None:
    if new_session:
        os.setsid()
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored, it stays so: tests may run under nohup
    torch.set_num_threads(1)
    function(*arguments)
