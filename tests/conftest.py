"""Runs the command line as a user does, for the tests of the commands and of the pages that document them."""

import logging
import os
import re
import sys
import tempfile

import pytest

from diptych.cli import main

_CACHE = tempfile.TemporaryDirectory(prefix="diptych-tests-")


def pytest_configure(config: pytest.Config) -> None:
    """Tests, and the processes that they start, keep nothing in the user's cache and take nothing from it."""
    os.environ["XDG_CACHE_HOME"] = _CACHE.name


class Outcome:
    """The result of a command: exit status, stdout, stderr, and the log."""

    def __init__(self, status: int, out: str, err: str, log: str) -> None:
        self.status, self.out, self.err, self.log = status, out, err, log

    def is_error(self, *words: str) -> None:
        """`error: ...` with these words, status 1, no traceback, nothing on stdout; further lines are indented."""
        assert self.status == 1, self.err
        assert re.fullmatch(r"error: [^\n]+\n(  \S[^\n]*\n)*", self.err), self.err
        assert "Traceback" not in self.err + self.log
        assert not [word for word in words if word not in self.err], self.err


@pytest.fixture
def command(monkeypatch, capsys, caplog, tmp_path):
    """Run a command line in tmp_path; its log is kept separate from stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DIPTYCH_DEBUG", raising=False)
    level = logging.getLogger("diptych").level

    def run(*words: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["diptych", *map(str, words)])
        caplog.clear()
        capsys.readouterr()
        try:
            main()
            status = 0
        except SystemExit as exit:
            status = exit.code
        printed = capsys.readouterr()
        return Outcome(status, printed.out, printed.err, caplog.text)

    yield run
    logging.getLogger("diptych").setLevel(level)
