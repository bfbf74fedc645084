"""Code that comes with a model never runs: the guard around libraries that would run it."""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from diptych.errors import WeightsError

REASON = "Diptych runs no code that comes with a model"


class RemoteCodeError(WeightsError):
    """A model asks for code of its own."""


@contextlib.contextmanager
def no_remote_code(name: str) -> Iterator[None]:
    """While it is open, transformers neither runs a model's own code nor asks on stdin whether it should.

    `trust_remote_code=False` says the same at each call of ours. This also holds where another library makes the call,
    as open_clip does with what an open_clip_config.json gives it.

    Args:
        name: of the model, for the message.
    Raises:
        WeightsError: the model asked for its own code.
    """
    try:
        loader: Any = importlib.import_module("transformers.dynamic_module_utils")
    except Exception:  # without transformers, or with a broken one, there is nobody to run any
        yield
        return

    def refuse(*_: Any, **__: Any) -> None:
        raise RemoteCodeError(remote_code_sentence(name))

    guarded = {"get_class_in_module": refuse, "TIME_OUT_REMOTE_CODE": 0}  # no time to answer: it does not ask
    before = {key: getattr(loader, key) for key in guarded if hasattr(loader, key)}
    for key in before:
        setattr(loader, key, guarded[key])
    try:
        yield
    finally:
        for key, value in before.items():
            setattr(loader, key, value)


def remote_code_sentence(name: str, asked: str = "") -> str:
    """What to say of a model that needs code of its own."""
    return (
        f"{name} needs code that comes with it{asked and f' ({asked})'}, and {REASON}. Load it in a program of "
        "your own, if you have read that code and want it, and give the object as python:MODULE:NAME"
    )


def asked_code(values: Mapping[str, Any]) -> str:
    """The module that a configuration's auto_map names; "" where it names none."""
    found = values.get("auto_map")
    return ", ".join(sorted(map(str, found.values())))[:120] if isinstance(found, Mapping) else ""
