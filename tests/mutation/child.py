"""A forked process that runs tests until the first failure, and what it ends with."""

import contextlib
import dataclasses
import itertools
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

KILLER = "killer"  # a file in the child's own temporary folder
WORDS = {0: "survived", 1: "killed", 3: "needs import", -signal.SIGXCPU: "timeout"}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Attributes:
    word: "survived", "killed", "timeout" (of processor time), "crashed", "needs import", "unreached" (no test executes
        it), or "hung": it waited without working, so that no test has said anything.
    killer: the test that failed.
    """

    word: str
    killer: str = ""


def run_items(session: pytest.Session, tests: list[tuple[pytest.Item, float]]) -> None:
    """Run the tests, each with a limit of processor time that follows from its usual seconds, and end the process."""
    for (item, seconds), following in itertools.zip_longest(tests, tests[1:]):
        Path(tempfile.gettempdir(), KILLER).write_text(item.nodeid)
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime + 5 + 5 * seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following and following[0])
        if session.testsfailed:
            os._exit(1)
    os._exit(0)


def wait_for(run: Callable[[], None], folder: Path, limit: float) -> Outcome:
    """Fork, `run` there, and say how it ended. Time in which this process is stopped does not count towards `limit`."""
    own = folder / "tmp"
    own.mkdir()
    pid = os.fork()
    if not pid:
        _detach(own)
        try:
            run()
        finally:
            os._exit(1)
    status = _wait(pid, limit)
    killer = (own / KILLER).read_text() if (own / KILLER).exists() else ""
    shutil.rmtree(own, ignore_errors=True)
    word = "hung" if status is None else WORDS.get(status, "crashed")
    return Outcome(word, "" if word in ("survived", "needs import") else killer)


def _detach(own: Path) -> None:
    os.setsid()
    quiet = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(quiet, number)
    os.environ |= {"TMPDIR": str(own)}
    tempfile.tempdir = str(own)


def _wait(pid: int, limit: float) -> int | None:
    """The child's exit code; None when the time is over. All that it started ends with it."""
    waited, last = 0.0, time.monotonic()
    code = None
    while waited < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.01)
        now = time.monotonic()
        waited, last = waited + min(now - last, 1), now
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if code is None:
        os.waitpid(pid, 0)
    return code
