"""Changes functions of a package that is already imported, so that a mutant costs a fork and not an import."""

import ast
import gc
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

_OPTIMIZED = 1  # co_flags of functions; bodies of modules and classes lack it
Place = tuple[str, int, str]


class NeedsImportError(Exception):
    """The change takes effect only when the module is imported anew: a constant, a default, a class body."""


def functions_of(folder: Path) -> dict[Place, list[FunctionType]]:
    """Every function that lives now and was defined under `folder`, by where it was defined."""
    found: dict[Place, list[FunctionType]] = {}
    for one in gc.get_objects():
        if type(one) is FunctionType and one.__code__.co_filename.startswith(str(folder)):
            found.setdefault(_place(one.__code__), []).append(one)
    return found


def change(living: dict[Place, list[FunctionType]], path: Path, source: str, changed: str) -> None:
    """Give the living functions of a module the code of its changed source."""
    real = compile(source, str(path), "exec")
    plain = compile(ast.unparse(ast.parse(source)), str(path), "exec")
    new = list(_changed(real, plain, compile(changed, str(path), "exec")))
    reached = [(function, code) for before, code in new for function in living.get(_place(before), ())]
    if not reached or any(len(function.__code__.co_freevars) != len(code.co_freevars) for function, code in reached):
        raise NeedsImportError
    for function, code in reached:
        function.__code__ = code


def _place(code: CodeType) -> Place:
    return code.co_qualname, code.co_firstlineno, code.co_filename


def _changed(real: CodeType, plain: CodeType, changed: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """(before, after) of the functions in which something differs, at any depth, outermost first."""
    inner = list(zip(_inner(real), _inner(plain), _inner(changed), strict=False))
    if not plain.co_flags & _OPTIMIZED:
        if _shape(plain) != _shape(changed):
            raise NeedsImportError
    elif _deep(plain) != _deep(changed):
        yield real, changed
    for triple in inner:
        yield from _changed(*triple)


def _inner(code: CodeType) -> list[CodeType]:
    return [one for one in code.co_consts if isinstance(one, CodeType)]


def _shape(code: CodeType) -> tuple:
    """All that the code does itself; of functions inside, only that they are there."""
    constants = [
        ("code", one.co_name) if isinstance(one, CodeType) else (type(one), repr(one)) for one in code.co_consts
    ]
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_exceptiontable


def _deep(code: CodeType) -> tuple:
    return _shape(code), [_deep(one) for one in _inner(code)]
