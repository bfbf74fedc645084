"""The mutation tool: what it changes, how it changes a living module, and which tests it chooses."""

import importlib.util
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "mutation"))

from live import NeedsImportError, change, functions_of
from measure import Row
from mutants import mutants
from run import Selection

SOURCE = '''"""A module."""

import functools

LIMIT = 3


def plain(x, step=1):
    """Text."""
    if x > LIMIT:
        raise ValueError("more than 3")
    return x + step


@functools.wraps(plain)
def outer(x):
    def inner(y):
        return y * 2

    return inner(x) - 1


class Thing:
    side: int = 5

    @property
    def area(self):
        return self.side**2
'''


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "little.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("little", path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def named(name: str):
    (found,) = [one for one in mutants(SOURCE) if one.name == name]
    return found


def test_mutants_are_named_by_their_function_and_know_their_statement():
    names = [one.name for one in mutants(SOURCE)]
    assert names == [
        "#0: 3 -> 4",
        "plain#0: 1 -> 2",
        "plain#0: x > LIMIT -> x >= LIMIT",
        "plain#0: x > LIMIT -> x <= LIMIT",
        "plain#0: x + step -> x - step",
        "outer.inner#0: y * 2 -> y / 2",
        "outer.inner#0: 2 -> 3",
        "outer#0: inner(x) - 1 -> inner(x) + 1",
        "outer#0: 1 -> 2",
        "Thing#0: 5 -> 6",
        "Thing.area#0: self.side ** 2 -> self.side * 2",
        "Thing.area#0: 2 -> 3",
    ]
    assert named("plain#0: x > LIMIT -> x >= LIMIT").statement == (10, 11)  # the header alone
    assert named("outer.inner#0: 2 -> 3").statement == (18, 19)
    assert named("plain#0: 1 -> 2").statement[0] == 8


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("plain#0: x + step -> x - step", (1, 3, 25)),
        ("outer.inner#0: y * 2 -> y / 2", (3, 0, 25)),
        ("outer#0: inner(x) - 1 -> inner(x) + 1", (3, 5, 25)),
        ("Thing.area#0: self.side ** 2 -> self.side * 2", (3, 3, 10)),
    ],
)
def test_a_living_function_gets_the_changed_code(module, name, values):
    path = Path(module.__file__)
    change(functions_of(path.parent), path, SOURCE, named(name).source)
    assert (module.plain(2), module.outer(2), module.Thing().area) == values


@pytest.mark.parametrize("name", ["#0: 3 -> 4", "plain#0: 1 -> 2", "Thing#0: 5 -> 6"])
def test_constants_defaults_and_class_bodies_need_an_import(module, name):
    path = Path(module.__file__)
    with pytest.raises(NeedsImportError):
        change(functions_of(path.parent), path, SOURCE, named(name).source)


def test_a_mutant_meets_the_tests_that_reach_its_statement_and_killers_come_first():
    rows = [
        Row("", 0, {"little.py": [1, 5, 8]}),
        Row("tests/test_a.py::slow", 5, {"little.py": [12]}),
        Row("tests/test_a.py::other", 0.1, {"little.py": [10], "another.py": [1, 2, 3, 4]}),
        Row("tests/test_b.py::quick", 0.2, {"little.py": [10, 12]}),
        Row("tests/test_b.py::elsewhere", 0.1, {"another.py": [12]}),
        Row("tests/test_c.py::endless", 30, {"little.py": [12]}),
    ]
    selection = Selection({row.test: row for row in rows}, seconds=20)
    mutant, default = named("plain#0: x + step -> x - step"), named("plain#0: 1 -> 2")

    def chosen(one):
        return [row.test.partition("::")[2] for row in selection.tests("little.py", one)]

    assert chosen(mutant) == ["quick", "slow"]
    selection.killers.append("tests/test_a.py::slow")
    assert chosen(mutant) == ["slow", "quick"]
    assert not selection.takes_effect_on_import("little.py", mutant)
    assert selection.takes_effect_on_import("little.py", default)
    assert sorted(chosen(default)) == ["elsewhere", "other", "quick", "slow"]  # all of the files that use it
