"""Names of a package that are imported when they are first used, so that a command loads only what it needs.

torch takes a second to import, and some of the libraries beside it half a second each.
"""

import contextlib
import gc
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
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


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Within, Python does not look for garbage: torch makes half a million objects, and going through them again and
    again takes a third of the time of its import.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
