"""Prevent libraries from running code that comes with a model."""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from diptych.errors import WeightsError

REASON = "Diptych runs no code that comes with a model"


class RemoteCodeError(WeightsError):
    """A model needs its own code."""


@contextlib.contextmanager
def no_remote_code(name: str) -> Iterator[None]:
    """Within this context transformers neither runs a model's own code nor asks on stdin whether to run it.

    Diptych's own calls also pass `trust_remote_code=False`. This guard covers calls by other libraries: open_clip, for
    example, calls transformers with values of an open_clip_config.json.

    Args:
        name: name of the model in messages.
    Raises:
        WeightsError: the model needs its own code.
    """
    try:
        loader: Any = importlib.import_module("transformers.dynamic_module_utils")
    except Exception:  # transformers is missing or broken, so nothing can run such code
        yield
        return

    def refuse(*_: Any, **__: Any) -> None:
        raise RemoteCodeError(remote_code_sentence(name))

    guarded = {"get_class_in_module": refuse, "TIME_OUT_REMOTE_CODE": 0}  # a time limit of 0 means that it does not ask
    before = {key: getattr(loader, key) for key in guarded if hasattr(loader, key)}
    for key in before:
        setattr(loader, key, guarded[key])
    try:
        yield
    finally:
        for key, value in before.items():
            setattr(loader, key, value)


def remote_code_sentence(name: str, asked: str = "") -> str:
    """The message for a model that needs its own code."""
    return (
        f"{name} needs code that comes with it{asked and f' ({asked})'}, and {REASON}. If you have read that code and "
        "trust it, load the model in your own module and give the object as python:MODULE:NAME"
    )


def asked_code(values: Mapping[str, Any]) -> str:
    """The modules that a configuration's auto_map names; "" if it names none."""
    auto_map = values.get("auto_map")
    return ", ".join(sorted(map(str, auto_map.values())))[:120] if isinstance(auto_map, Mapping) else ""
