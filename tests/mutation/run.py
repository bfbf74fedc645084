"""Mutation testing: which small changes of the measuring code no test notices.

    python tests/mutation/run.py metrics objective --out /tmp/mutants.jsonl [--sample 150] [--minutes 13]
    python tests/mutation/run.py --report /tmp/mutants.jsonl

The changed module lies in a copy of the package that stands first on the path, also of processes that tests start. Each
mutant runs the test files of its module, then those of its group, until the first failure, in a forked process with
torch, numpy and pytest loaded. A mutant that takes far longer than the unchanged code counts as killed. Started again
with the same --out, it goes on; with --again it runs those that survived once more, after tests were added.
"""

import argparse
import compileall
import functools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

from mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
GROUPS = tomllib.loads((HERE / "groups.toml").read_text())
EQUIVALENT = HERE / "equivalent.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help=f"some of {', '.join(GROUPS)}")
    parser.add_argument("--module", help="only modules whose path ends so")
    parser.add_argument("--out", type=Path, help="outcomes are added to this file")
    parser.add_argument("--sample", type=int, help="so many mutants of each group, drawn with seed 0")
    parser.add_argument("--minutes", type=float, default=13, help="stop after this time (%(default)s)")
    parser.add_argument("--again", action="store_true", help="run those that survived once more, and only them")
    parser.add_argument("--report", type=Path, help="print the outcomes of a file")
    arguments = parser.parse_args()
    if arguments.report:
        report(arguments.report)
        return
    end = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as folder:
        overlay = make_overlay(Path(folder))
        for group in arguments.groups:
            run_group(group, overlay, arguments, end)


def make_overlay(folder: Path) -> Path:
    """A copy of the package, first on the path of this process and its children."""
    for name in ("torch", "numpy", "scipy.special", "scipy.stats", "sklearn.linear_model", "sklearn.metrics", "pytest"):
        __import__(name)  # before forking: they take longer than the tests
    shutil.copytree(ROOT / "diptych", folder / "diptych", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(folder, quiet=2)
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    sys.path.insert(0, str(folder))
    return folder


def run_group(group: str, overlay: Path, arguments: argparse.Namespace, end: float) -> None:
    """Run the mutants of a group's modules, as far as time goes."""
    wanted = [(path, one) for path in modules(group, arguments.module) for one in mutants((ROOT / path).read_text())]
    if arguments.sample and len(wanted) > arguments.sample:
        wanted = random.Random(0).sample(wanted, arguments.sample)
    known = outcomes(arguments.out)
    if arguments.again:
        survivors = {key for key, row in known.items() if row["outcome"] == "survived"} - reasons().keys()
        wanted = [pair for pair in wanted if (pair[0], pair[1].name) in survivors]
    else:
        wanted = [pair for pair in wanted if (pair[0], pair[1].name) not in known]
    print(f"{group}: {len(wanted)} mutants to run", flush=True)
    for path, mutant in wanted:
        own = GROUPS[group]["modules"][path]
        stages = own, [name for name in GROUPS[group]["tests"] if name not in own]
        outcome = "survived"
        for tests in stages:
            if time.monotonic() > end:
                return
            if tests and outcome == "survived":
                limit = 20 + 4 * seconds_unchanged(*tests)
                outcome = try_mutant(overlay, path, mutant, tests, limit)
        row = {"group": group, "module": path, "mutant": mutant.name, "line": mutant.line, "outcome": outcome}
        with arguments.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if outcome == "survived":
            print(f"  survived: {path}:{mutant.line} {mutant.name}", flush=True)


@functools.cache
def seconds_unchanged(*tests: str) -> float:
    """What the tests take on the unchanged code, on which they must pass."""
    start = time.monotonic()
    if run_tests(tests, 600) != "survived":
        sys.exit(f"the tests fail on the unchanged code: {' '.join(tests)}")
    return time.monotonic() - start


def modules(group: str, ending: str | None) -> list[str]:
    """Paths of a group's modules."""
    return [path for path in GROUPS[group]["modules"] if path.endswith(ending or "")]


def try_mutant(overlay: Path, path: str, mutant: Mutant, tests: Sequence[str], limit: float) -> str:
    """Put the mutant into the overlay, run the tests, and put the module back."""
    place = overlay / path
    for kept in (place.parent / "__pycache__").glob(f"{place.stem}.*"):
        kept.unlink()
    place.write_text(mutant.source)
    outcome = run_tests(tests, limit)
    shutil.copyfile(ROOT / path, place)
    return outcome


def run_tests(tests: Sequence[str], limit: float) -> str:
    """ "survived", "killed" or "timeout"."""
    pid = os.fork()
    if not pid:
        os.setsid()
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        import pytest

        os.chdir(ROOT)
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
        os._exit(int(pytest.main([*options, *(f"tests/{name}" for name in tests)])))
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "timeout"


def outcomes(path: Path) -> dict[tuple[str, str], dict]:
    """The last outcome of each mutant."""
    rows = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return {(row["module"], row["mutant"]): row for row in rows}


def reasons() -> dict[tuple[str, str], str]:
    """Why each equivalent mutant is one, by module and name."""
    return {(one["module"], one["mutant"]): one["reason"] for one in tomllib.loads(EQUIVALENT.read_text())["mutants"]}


def report(path: Path) -> None:
    """Counts by module, and the survivors without a reason."""
    equivalent = reasons()
    table: dict[str, list[int]] = {}
    open_ones = []
    for key, row in outcomes(path).items():
        counts = table.setdefault(row["module"], [0, 0, 0, 0])
        kind = 1 if row["outcome"] != "survived" else 2 if key in equivalent else 3
        counts[0] += 1
        counts[kind] += 1
        if kind == 3:
            open_ones.append(f"{row['module']}:{row['line']} {row['mutant']}")
    print("| module | mutants | killed | equivalent | survived |\n| --- | --- | --- | --- | --- |")
    for module, counts in sorted(table.items()):
        print(f"| {module.removeprefix('diptych/')} | {' | '.join(map(str, counts))} |")
    print("| all |", " | ".join(str(sum(counts[place] for counts in table.values())) for place in range(4)), "|")
    print(*open_ones, sep="\n")


if __name__ == "__main__":
    main()
