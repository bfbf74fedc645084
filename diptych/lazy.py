"""Lazy imports: a package's names are imported on first use, so that a command loads only what it needs.

torch takes a second to import, and other large libraries half a second each. Python's garbage collector takes a third
of that time and finds nothing. `uncollected` turns it off for a block; `uncollected_imports` turns it off for every
import of a large library, wherever in a command the import happens.
"""

import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import inspect
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose public names come from its modules (PEP 562).

    The package imports the same names under TYPE_CHECKING and lists them in `__all__`, for type checkers and editors.

    Args:
        package: the package's `__name__`.
        homes: maps each module to the names that it provides. A module that provides its own last name is itself the
            value of that name.
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = home_of[name]
        with uncollected():
            module = importlib.import_module(home)
        value = module if home == f"{package}.{name}" else getattr(module, name)
        setattr(sys.modules[package], name, value)  # later uses find the attribute and do not call `get`
        return value

    def names() -> list[str]:
        return sorted({*home_of, *vars(sys.modules[package])})

    return get, names


class CallablePackage(types.ModuleType):
    """A package that can be called: `diptych.evaluate(...)` calls `diptych.evaluate.evaluate`.

    The package sets its `__class__` to this class (which Python documents for modules) and defines a function that has
    the package's last name. It stays a module: `from diptych.evaluate import X` and `import diptych.evaluate.suite`
    work as usual. Unlike other modules it can be pickled: by name, as functions are.
    """

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function())

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function that has the package's last name."""
        return self._function()(*arguments, **options)

    def __reduce__(self) -> tuple[Callable[[str], types.ModuleType], tuple[str]]:
        return importlib.import_module, (self.__name__,)

    def _function(self) -> Callable[..., Any]:
        return getattr(self, self.__name__.rpartition(".")[2])


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Turn the garbage collector off inside the block, and restore its state afterwards, also after an error.

    Importing torch creates half a million objects; scanning them repeatedly takes a third of the import time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


HEAVY = (
    "torch",
    "sympy",
    "transformers",
    "open_clip",
    "scipy",
    "sklearn",
    "pyarrow",
    "pandas",
    "torchvision",
    "optuna",
)


@contextlib.contextmanager
def uncollected_imports(names: Sequence[str] = HEAVY) -> Iterator[None]:
    """Inside the block, every import of a module of these packages runs under `uncollected`."""
    finder = _Uncollected(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Uncollected(importlib.abc.MetaPathFinder):
    """Finds modules as Python itself does, and runs their code under `uncollected`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's spec; None for modules of other packages, so that Python asks the next finder."""
        if fullname.partition(".")[0] not in self._names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return None  # an editable installation or a zip file: Python imports it as usual
        run = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            with uncollected():
                run(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # each module has its own loader
        return spec
