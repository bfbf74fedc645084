"""docs/security.md names tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
TESTS = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
NAMED = sorted(set(re.findall(r"`((?:fuzz/)?test_\w+\.py)(?:::(\w+))?`", PAGE)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_the_test_of_a_promise_exists(file, name):
    text = TESTS[Path(file).name].read_text(encoding="utf-8")
    assert not name or f"def {name}(" in text


def test_the_fuzzers_that_are_named_exist():
    targets = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "fuzz").glob("targets_*.py"))
    named = re.findall(r"targets? ((?:`[\w-]+`(?:, )?)+)", PAGE)
    names = [name for several in named for name in re.findall(r"`([\w-]+)`", several)]
    assert len(names) > 8
    assert [name for name in names if f'"{name}"' not in targets] == []
