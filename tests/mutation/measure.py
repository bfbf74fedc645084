"""Which lines each test executes, so that a mutant meets only the tests that reach it.

    python tests/mutation/measure.py LINES.jsonl [tests/evaluate/metrics/test_metrics.py ...]

One row a test that passes: its name, its seconds, and its lines by module; what runs on import stands under "".
Rows of tests that were measured before are replaced. Processes that a test starts are not seen.
"""

import dataclasses
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from groups import FILES, ROOT, test_files

ON_IMPORT = ""


@dataclasses.dataclass
class Row:
    """Attributes:
    test: pytest's name of it.
    seconds: of processor time, under the tracer.
    lines: numbers by module, a path within the repository.
    """

    test: str
    seconds: float
    lines: dict[str, list[int]]


def read_rows(path: Path) -> dict[str, Row]:
    """The last row of each test."""
    rows = (Row(**json.loads(line)) for line in path.read_text().splitlines()) if path.exists() else ()
    return {row.test: row for row in rows}


class Tracer:
    """Collects (module, line) into `lines` while it runs."""

    def __init__(self) -> None:
        self.lines: set[tuple[str, int]] = set()
        self.watched = {str(ROOT / path): path for path in FILES}

    def start(self) -> None:
        threading.settrace(self.on_call)
        sys.settrace(self.on_call)

    def on_call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self.on_line if frame.f_code.co_filename in self.watched else None

    def on_line(self, frame: FrameType, event: str, argument: object) -> Any:
        self.lines.add((self.watched[frame.f_code.co_filename], frame.f_lineno))
        return self.on_line


class Plugin:
    """Gives each test the lines that it and its fixtures executed, a shared fixture's lines to all that use it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.tracer = Tracer()
        self.tracer.start()
        self.shared: dict[int, set[tuple[str, int]]] = {}
        self.rows: list[tuple[pytest.Item, float, set[tuple[str, int]]]] = []
        self.failed: set[str] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.on_import, self.tracer.lines = self.tracer.lines, set()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        outside, self.tracer.lines = self.tracer.lines, set()
        try:
            return (yield)
        finally:
            self.shared.setdefault(id(fixturedef), set()).update(self.tracer.lines)
            self.tracer.lines = outside

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        self.tracer.lines = set()
        start = sum(os.times()[:4])
        result = yield
        self.rows.append((item, sum(os.times()[:4]) - start, self.tracer.lines))
        if nextitem is None or nextitem.path != item.path:
            self.write()
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    def write(self) -> None:
        """Add what has run so far: an interrupted run keeps the files that are through."""
        known = read_rows(self.out)
        before = known[ON_IMPORT].lines if ON_IMPORT in known else {}
        on_import = self.on_import | {(module, line) for module, lines in before.items() for line in lines}
        known[ON_IMPORT] = _row(ON_IMPORT, 0, on_import)
        for item, seconds, lines in self.rows:
            fixtures = [one for several in item._fixtureinfo.name2fixturedefs.values() for one in several]  # type: ignore[attr-defined]
            lines = lines.union(*(self.shared.get(id(one), ()) for one in fixtures))
            known.pop(item.nodeid, None)
            if item.nodeid not in self.failed:
                known[item.nodeid] = _row(item.nodeid, seconds, lines)
        self.rows = []
        self.out.write_text("".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in known.values()))


def _row(test: str, seconds: float, lines: set[tuple[str, int]]) -> Row:
    modules = sorted({module for module, _ in lines})
    return Row(
        test, round(seconds, 3), {one: sorted(line for module, line in lines if module == one) for one in modules}
    )


if __name__ == "__main__":
    files = sys.argv[2:] or test_files()
    sys.exit(
        pytest.main(
            ["-q", "-o", "timeout=0", "-p", "no:cacheprovider", "-p", "no:randomly", *files],
            [Plugin(Path(sys.argv[1]))],
        )
    )
