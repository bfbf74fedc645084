"""The modules that are mutated, by group, and the test files that may answer for them."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # some tests import others as tests.x; last, so that a copy of the package goes before
_TABLE = tomllib.loads((Path(__file__).parent / "groups.toml").read_text())
GROUPS: dict[str, list[str]] = {
    group: sorted(
        str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern) if path.name != "__init__.py"
    )
    for group, patterns in _TABLE["groups"].items()
}
ALWAYS = {path: files for group, files in _TABLE["always"].items() for path in GROUPS[group]}
FILES = [path for paths in GROUPS.values() for path in paths]


def test_files() -> list[str]:
    """Every test file but those left out."""
    left_out = {path for pattern in _TABLE["left_out"] for path in (ROOT / "tests").rglob(pattern)}
    return [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tests").rglob("test_*.py")) if path not in left_out]
