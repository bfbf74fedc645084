"""The process in which damaged files are read: it may be ended by a crash, and the tests go on.

    python tests/fuzz/fuzz_child.py SCRATCH SEED TARGET:START:COUNT:SECONDS ...

Before each example its target and number go into SCRATCH/now, and its file into SCRATCH/TARGET/input; what is found
goes into SCRATCH/report.jsonl. Target, seed and number make the same file again.
"""

import collections
import contextlib
import json
import os
import random
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "fuzz")]

from mutations import mutated  # noqa: E402
from targets import TARGETS, Seed, Target  # noqa: E402

from diptych.errors import DiptychError  # noqa: E402

MAX_PROCESSOR_SECONDS = 30.0
MAX_MEMORY = 2 << 30  # that one file may cost beyond what the process holds
SAME_KIND = 3  # failures of one kind that are reported

_WRITERS = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate", "shutil.rmtree"}
_RUNNERS = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn", "socket.connect"}


class Watch:
    """What no file may bring about: programs, connections, and changes outside the scratch folder."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.on, self.seen = f"{scratch}{os.sep}", False, list[str]()
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in _RUNNERS or (event == "subprocess.Popen" and args[0] != sys.executable):
            self.seen.append(f"{event} {args!r:.200}")
        elif event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            self.check(event, args[0])
        elif event in _WRITERS:
            for path in args[:2] if event in ("os.rename", "os.link") else args[:1]:
                self.check(event, path)

    def check(self, event: str, path: Any) -> None:
        if isinstance(path, str | bytes) and os.fsdecode(path) != os.devnull:
            real = os.path.realpath(os.fsdecode(path))
            if not f"{real}{os.sep}".startswith(self.scratch):
                self.seen.append(f"{event} of {real}")


def peak() -> int:
    """The most memory since `start_peak`; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM")), 0)


def start_peak() -> int:
    """Forget earlier peaks."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak()


def limit_memory() -> None:
    """Rather an error here than a machine that is out of memory."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 4 * MAX_MEMORY,) * 2)


def make_example(target: Target, seeds: list[Seed], seed: int, index: int) -> Seed:
    """Example number `index`: first the seeds as they are, then damaged ones and made ones."""
    if index < len(seeds):
        return seeds[index]
    rng = random.Random(f"{target.name} {seed} {index}")
    if target.make is not None and rng.random() < 0.4:
        return target.make(rng)
    chosen = rng.choice(seeds)
    same = [other.data for other in seeds if other.name == chosen.name]
    return Seed(chosen.name, mutated(chosen.name, chosen.data, rng, same), sound=False)


class Child:
    """Runs targets, and writes down what it finds."""

    def __init__(self, scratch: Path, seed: int) -> None:
        self.scratch, self.seed, self.watch = scratch, seed, Watch(scratch)
        self.report = (scratch / "report.jsonl").open("a")
        self.now = os.open(scratch / "now", os.O_WRONLY | os.O_CREAT)

    def say(self, **row: Any) -> None:
        self.report.write(json.dumps(row) + "\n")
        self.report.flush()

    def run(self, target: Target, start: int, count: int, seconds: float) -> None:
        folder = self.scratch / target.name
        (folder / "input").mkdir(parents=True, exist_ok=True)
        os.pwrite(self.now, f"{target.name} -1".ljust(60).encode(), 0)
        seeds = target.seeds(folder / "input")
        kinds: collections.Counter[str] = collections.Counter()
        end, accepted, index = time.monotonic() + seconds, 0, start
        while index < start + count and (time.monotonic() < end or index < start + len(seeds)):
            example = make_example(target, seeds, self.seed, index)
            path = folder / "input" / example.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(example.data)
            os.pwrite(self.now, f"{target.name} {index}".ljust(60).encode(), 0)
            outcome, kind = self.outcome(target, path, example)
            accepted += outcome == "accepted"
            if outcome not in ("accepted", "refused"):
                kinds[kind] += 1
                if kinds[kind] <= SAME_KIND:
                    kept = folder / f"failure-{index}-{path.name}"
                    kept.write_bytes(example.data)
                    self.say(target=target.name, index=index, failure=outcome, file=str(kept))
            path.write_bytes(next((one.data for one in seeds if one.name == example.name), b""))
            index += 1
        self.say(target=target.name, examples=index - start, accepted=accepted)

    def outcome(self, target: Target, path: Path, example: Seed) -> tuple[str, str]:
        """ "accepted", "refused", or what went wrong and of what kind that is."""
        before, clock, result = start_peak(), time.process_time(), "accepted"
        kind = ""
        self.watch.seen.clear()
        self.watch.on = True
        try:
            target.check(path)
        except DiptychError as error:
            result = "refused"
            if example.sound:
                kind, result = "sound", f"a sound file is refused: {error}"
        except BaseException as error:  # SystemExit and KeyboardInterrupt, too
            last = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} {last.filename}:{last.lineno}"
            result = "".join(traceback.format_exception(error))[-3000:]
        self.watch.on = False
        if self.watch.seen:
            return f"it brings about {self.watch.seen}", "watch"
        if (used := peak() - before) > MAX_MEMORY:
            return f"it takes {used:,} bytes of memory", "memory"
        if (took := time.process_time() - clock) > MAX_PROCESSOR_SECONDS:
            return f"it takes {took:.0f} seconds of processor time", "time"
        return result, kind


def main() -> None:
    scratch, seed = Path(sys.argv[1]).resolve(), int(sys.argv[2])
    os.chdir(scratch)
    child = Child(scratch, seed)
    limit_memory()
    for words in sys.argv[3:]:
        name, start, count, seconds = words.split(":")
        child.run(TARGETS[name], int(start), int(count), float(seconds))


if __name__ == "__main__":
    main()
