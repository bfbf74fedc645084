"""Runs targets in a process of their own, and replaces it when an input ends it or never comes back."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHILD = Path(__file__).with_name("fuzz_child.py")
MAX_WALL_SECONDS = 240.0  # without a new example, on a busy machine
MAX_CRASHES = 5


def fuzz(
    targets: Sequence[str], scratch: Path, *, seed: int, count: int = 10**9, seconds: float = 1e9
) -> list[dict[str, Any]]:
    """The rows of the report: {target, index, failure} of each failure, {target, examples, accepted} of each target.

    Args:
        count, seconds: of each target, whichever ends first; its seeds as they are come first and always.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    todo = [(name, 0) for name in targets]
    crashes = 0
    while todo:
        (scratch / "now").unlink(missing_ok=True)
        words = [f"{name}:{start}:{count - start}:{seconds}" for name, start in todo]
        ended = _run([str(scratch), str(seed), *words], scratch)
        if ended is None:
            break
        name, number = (scratch / "now").read_text().split() if (scratch / "now").exists() else (todo[0][0], "-1")
        log = (scratch / "log").read_text(errors="replace")[-2000:]
        rows.append({"target": name, "index": int(number), "failure": f"{ended}\n{log}"})
        crashes += 1
        if int(number) < 0 or crashes == MAX_CRASHES:
            break
        place = [one for one, _ in todo].index(name)
        todo = [(name, int(number) + 1), *todo[place + 1 :]]
    report = scratch / "report.jsonl"
    return rows + [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else rows


def _run(arguments: list[str], scratch: Path) -> str | None:
    """None when all is done, or how the process ended."""
    environment = {**os.environ, "TMPDIR": str(scratch), "XDG_CACHE_HOME": str(scratch), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(scratch)}
    (scratch / "yes").write_text("y\n" * 10_000)  # whoever asks is told to go on
    with (scratch / "log").open("wb") as log, (scratch / "yes").open("rb") as yes:
        process = subprocess.Popen(
            [sys.executable, str(CHILD), *arguments], stdin=yes, stdout=log, stderr=log, env=environment
        )
        try:
            last, since = "", time.monotonic()
            while process.poll() is None:
                time.sleep(0.05)
                now = (scratch / "now").read_text() if (scratch / "now").exists() else ""
                if now != last:
                    last, since = now, time.monotonic()
                if time.monotonic() - since > MAX_WALL_SECONDS:
                    return f"no end after {MAX_WALL_SECONDS:.0f} seconds"
        finally:
            process.kill()
            process.wait()
    return None if process.returncode == 0 else f"the process ended with {process.returncode}"
