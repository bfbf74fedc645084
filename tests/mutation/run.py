"""Mutation testing: which small changes of the measuring code no test notices.

    python tests/mutation/measure.py LINES.jsonl
    python tests/mutation/run.py metrics objective --lines LINES.jsonl --out MUTANTS.jsonl [--sample 150]
    python tests/mutation/run.py --report MUTANTS.jsonl

A mutant meets the tests that execute its statement, those that killed its neighbours first, then the quickest, up to
--seconds of them and until the first failure. The package lies in a copy that stands first on the path, also of
processes that tests start. One process imports it, collects the tests and runs one of each file; each mutant is a fork
of it, in which the changed function gets its new code (live.py). What takes effect on import (constants, defaults,
tables) runs in a fork that has imported torch and the like, but not yet the package.
Started again with the same --out, it goes on; --again runs those that survived once more, after tests were added.
"""

import argparse
import ast
import compileall
import functools
import gc
import json
import os
import random
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from child import Outcome, run_items, wait_for
from groups import ALWAYS, GROUPS, ROOT
from live import NeedsImportError, change, functions_of
from measure import ON_IMPORT, Row, read_rows
from mutants import Mutant, mutants

SURVIVED = ("survived", "unreached", "hung")
EQUIVALENT = Path(__file__).parent / "equivalent.toml"
PRELOADED = (
    *("numpy", "torch", "scipy.special", "scipy.stats", "sklearn.linear_model", "sklearn.metrics", "pyarrow.parquet"),
    *("PIL.Image", "typer", "rich.table", "jinja2", "tokenizers", "ftfy", "safetensors.torch"),
)
OPTIONS = ["-q", "-s", "-o", "timeout=0", "-p", "no:cacheprovider", "-p", "no:randomly", "--tb=no", "--assert=plain"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("groups", nargs="*", help=f"some of {', '.join(GROUPS)}")
    parser.add_argument("--module", nargs="+", default=[""], help="only modules whose path ends so")
    parser.add_argument("--lines", type=Path, help="what measure.py wrote")
    parser.add_argument("--out", type=Path, help="outcomes are added to this file")
    parser.add_argument("--sample", type=int, help="so many mutants of each group, drawn with seed 0")
    parser.add_argument("--seconds", type=float, default=20, help="of tests for each mutant (%(default)s)")
    parser.add_argument("--minutes", type=float, default=20, help="stop after this time (%(default)s)")
    parser.add_argument("--again", action="store_true", help="run those that survived once more, and only them")
    parser.add_argument(
        "--unchanged", action="store_true", help="instead of mutants the code as it is: all must survive"
    )
    parser.add_argument("--report", type=Path, help="print the outcomes of a file")
    arguments = parser.parse_args()
    if arguments.report:
        report(arguments.report)
        return
    selection = Selection(read_rows(arguments.lines), arguments.seconds)
    with tempfile.TemporaryDirectory() as folder:
        overlay = make_overlay(Path(folder))
        for group in arguments.groups:
            run = Run(overlay, arguments.out, selection, time.monotonic() + 60 * arguments.minutes)
            run.group(wanted(group, arguments))


def wanted(group: str, arguments: argparse.Namespace) -> list[tuple[str, Mutant]]:
    """(module, mutant) that are still to run."""
    paths = [path for path in GROUPS[group] if path.endswith(tuple(arguments.module))]
    found = [(path, one) for path in paths for one in mutants((ROOT / path).read_text())]
    if arguments.sample and len(found) > arguments.sample:
        found = random.Random(0).sample(found, arguments.sample)
    if arguments.unchanged:
        found = [(path, one.undone(ast.unparse(ast.parse((ROOT / path).read_text())))) for path, one in found]
    known = outcomes(arguments.out)
    if arguments.again:
        survivors = {key for key, row in known.items() if row["outcome"] in SURVIVED} - reasons().keys()
        return [pair for pair in found if (pair[0], pair[1].name) in survivors]
    return [pair for pair in found if (pair[0], pair[1].name) not in known]


def make_overlay(folder: Path) -> Path:
    """A copy of the package, first on the path of this process and its children."""
    for name in PRELOADED:
        __import__(name)  # before forking: they take longer than the tests
    sys.modules["torch"].set_num_threads(1)  # a fork has none of its parent's threads, and would wait for them for ever
    shutil.copytree(ROOT / "diptych", folder / "diptych", ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(folder, quiet=2)
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    sys.path.insert(0, str(folder))
    os.chdir(ROOT)
    return folder


class Selection:
    """Which tests a mutant meets, in which order."""

    def __init__(self, rows: dict[str, Row], seconds: float) -> None:
        self.on_import = {path: set(lines) for path, lines in rows.pop(ON_IMPORT).lines.items()}
        self.rows, self.seconds = rows, seconds
        self.killers: list[str] = []

    def takes_effect_on_import(self, path: str, mutant: Mutant) -> bool:
        return not self.on_import.get(path, set()).isdisjoint(range(*mutant.statement))

    def tests(self, path: str, mutant: Mutant) -> list[Row]:
        """Those that execute the mutant's statement; of an import's effects, all in the files that use the module."""
        if self.takes_effect_on_import(path, mutant):
            files = {_file(row) for row in self.rows.values() if path in row.lines}
            found = [row for row in self.rows.values() if _file(row) in files]
        else:
            lines = set(range(*mutant.statement))
            found = [row for row in self.rows.values() if not lines.isdisjoint(row.lines.get(path, ()))]
        found += [row for row in self.rows.values() if _file(row) in ALWAYS.get(path, ()) and row not in found]
        rank = {name: place for place, name in enumerate(reversed(self.killers[-30:]))}
        # The quickest first: so most tests of the most files have their say within the limit.
        found.sort(key=lambda row: (rank.get(row.test, len(rank)), row.seconds))
        return list(self._within(found))

    def broadest(self) -> list[Row]:
        """Of each file the test that executes the most lines, within a second if one does."""
        rows = sorted(self.rows.values(), key=lambda row: (row.seconds < 1, sum(map(len, row.lines.values()))))
        return list({_file(row): row for row in rows}.values())

    def _within(self, found: list[Row]) -> Iterator[Row]:
        left = self.seconds
        for row in found:
            if row.seconds <= left:
                left -= row.seconds
                yield row


def _file(row: Row) -> str:
    return row.test.partition("::")[0]


class Run:
    """Runs mutants and adds their outcomes to a file."""

    def __init__(self, overlay: Path, out: Path, selection: Selection, end: float) -> None:
        self.overlay, self.out, self.selection, self.end = overlay, out, selection, end

    def group(self, todo: list[tuple[str, Mutant]]) -> None:
        """First what can be changed in a living process, then what needs an import."""
        print(f"{len(todo)} mutants to run", flush=True)
        living = [pair for pair in todo if not self.selection.takes_effect_on_import(*pair)]
        if living and not (pid := os.fork()):
            pytest.main([*OPTIONS, *self._files(living)], [Collected(self, living)])
            os._exit(0)
        elif living:
            os.waitpid(pid, 0)
        known = outcomes(self.out)
        for path, mutant in todo:
            needs_import = known.get((path, mutant.name), {}).get("outcome") == "needs import"
            if needs_import or self.selection.takes_effect_on_import(path, mutant):
                self.one(path, mutant, lambda tests: run_anew([row.test for row in tests]))

    def _files(self, todo: list[tuple[str, Mutant]]) -> list[str]:
        names = {_file(row) for pair in todo for row in self.selection.tests(*pair)}
        return sorted(names)

    def one(self, path: str, mutant: Mutant, run: Callable[[list[Row]], None]) -> None:
        """Put the mutant into the overlay, `run` the tests in a fork, and put the module back."""
        if time.monotonic() > self.end:
            return
        tests = self.selection.tests(path, mutant)
        outcome = Outcome("unreached")
        if tests:
            place = self.overlay / path
            for kept in (place.parent / "__pycache__").glob(f"{place.stem}.*"):
                kept.unlink()
            place.write_text(mutant.source)
            outcome = wait_for(lambda: run(tests), self.overlay, limit=60 + 5 * sum(row.seconds for row in tests))
            shutil.copyfile(ROOT / path, place)
        if outcome.killer:
            self.selection.killers = [one for one in self.selection.killers if one != outcome.killer] + [outcome.killer]
        row = {
            "module": path,
            "mutant": mutant.name,
            "line": mutant.line,
            "outcome": outcome.word,
            "by": outcome.killer,
        }
        with self.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if outcome.word in SURVIVED:
            print(f"  {outcome.word}: {path}:{mutant.line} {mutant.name}", flush=True)


class Collected:
    """A pytest plugin: in place of the collected tests it runs mutants, each in a fork with its own tests."""

    def __init__(self, run: Run, todo: list[tuple[str, Mutant]]) -> None:
        self.run, self.todo = run, todo

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        warm_up(session, [items[row.test] for row in self.run.selection.broadest() if row.test in items])
        living = functions_of(self.run.overlay)
        gc.collect()
        gc.freeze()  # a fork copies what its collector touches; what is frozen is found no more
        for path, mutant in self.todo:

            def start(tests: list[Row], path: str = path, mutant: Mutant = mutant) -> None:
                try:
                    change(living, self.run.overlay / path, (ROOT / path).read_text(), mutant.source)
                except NeedsImportError:
                    os._exit(3)
                run_items(session, [(items[row.test], row.seconds) for row in tests if row.test in items])

            self.run.one(path, mutant, start)
        return True


def warm_up(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Run some tests, so that what they import as they run is there in every fork. No result of the package's stays."""
    for item in items:
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    if session.testsfailed:
        raise pytest.UsageError("a test fails with unchanged code")
    for one in gc.get_objects():
        if type(one) is functools._lru_cache_wrapper and str(one.__module__).startswith("diptych"):
            one.cache_clear()


def run_anew(tests: list[str]) -> None:
    """Import the package, collect the tests and run them until one fails."""

    class Plugin:
        def pytest_runtestloop(self, session: pytest.Session) -> bool:
            if session.testsfailed:  # on collecting
                os._exit(1)
            order = {name: place for place, name in enumerate(tests)}
            chosen = sorted((one for one in session.items if one.nodeid in order), key=lambda one: order[one.nodeid])
            run_items(session, [(item, 1.0) for item in chosen])
            return True

    status = pytest.main([*OPTIONS, *dict.fromkeys(name.partition("::")[0] for name in tests)], [Plugin()])
    os._exit(1 if status else 0)


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
    found = outcomes(path)
    modules = sorted({module for module, _ in found})
    names = {(module, one.name) for module in modules for one in mutants((ROOT / module).read_text())}
    for key, row in found.items():
        if key not in names:
            continue  # the module has changed since
        counts = table.setdefault(row["module"], [0, 0, 0, 0])
        kind = 1 if row["outcome"] not in SURVIVED else 2 if key in equivalent else 3
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
