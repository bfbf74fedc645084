"""Names of a package that are imported when they are first used, so that a command loads only what it needs.

torch takes a second to import, and some of the libraries beside it half a second each. A third of that is Python's
search for garbage, which there is none of: `uncollected` leaves it out, and `uncollected_imports` does so for every
import of such a library, wherever a command makes it.
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
        package: its `__name__`.
        homes: by module, the names that it gives; a module that gives its own last name is one of the names itself.
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = home_of[name]
        with uncollected():
            module = importlib.import_module(home)
        value = module if home == f"{package}.{name}" else getattr(module, name)
        setattr(sys.modules[package], name, value)  # once: later uses do not come here
        return value

    def names() -> list[str]:
        return sorted({*home_of, *vars(sys.modules[package])})

    return get, names


class CallablePackage(types.ModuleType):
    """A package that is also called: `diptych.evaluate(...)` calls `diptych.evaluate.evaluate`.

    A package sets its own class to this one (a documented use of a module's `__class__`) and has a function of its own
    last name. It stays a module: `from diptych.evaluate import X` and `import diptych.evaluate.suite` work as always.
    Unlike other modules it can be pickled, as functions can, by its name.
    """

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function())

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the package's function of its own name."""
        return self._function()(*arguments, **options)

    def __reduce__(self) -> tuple[Callable[[str], types.ModuleType], tuple[str]]:
        return importlib.import_module, (self.__name__,)

    def _function(self) -> Callable[..., Any]:
        return getattr(self, self.__name__.rpartition(".")[2])


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Within, Python does not look for garbage; after it, whatever happened, it does as before.

    torch makes half a million objects, and going through them again and again takes a third of the time of its import.
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
    """Within, the modules of these packages are imported under `uncollected`, whoever imports them."""
    finder = _Uncollected(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Uncollected(importlib.abc.MetaPathFinder):
    """Finds modules where Python itself does, and has their code run under `uncollected`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's spec; None of other packages' modules, so that the other finders are asked."""
        if fullname.partition(".")[0] not in self._names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            return None  # an editable installation, a zip file: imported as without this
        run = spec.loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            with uncollected():
                run(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # of this loader, which is the module's alone
        return spec
