"""Whether the network may be used: --offline of a command, or an environment variable."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

VARIABLES = ("DIPTYCH_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_LIBRARIES = "HF_HUB_OFFLINE"  # read by huggingface_hub when it is imported, for open_clip and transformers too
_before: list[str | None] = []


def state_offline(asked: bool) -> bool:
    """Store the option --offline of this command; returns it."""
    if asked and not _before:
        _before.append(os.environ.get(_LIBRARIES))
        os.environ[_LIBRARIES] = "1"
    return asked


def forget_offline() -> None:
    """Clear the option at the end of a command."""
    if _before:
        value = _before.pop()
        if value is None:
            os.environ.pop(_LIBRARIES, None)
        else:
            os.environ[_LIBRARIES] = value


@contextlib.contextmanager
def libraries_offline() -> Iterator[None]:
    """Within this context open_clip and transformers do not use the network either, if it is off."""
    if not is_offline():
        yield
        return
    before = os.environ.get(_LIBRARIES)
    os.environ[_LIBRARIES] = "1"
    constants: Any = sys.modules.get("huggingface_hub.constants")  # it has read the variable when it was imported
    constant = getattr(constants, _LIBRARIES, None)
    if constant is not None:
        setattr(constants, _LIBRARIES, True)
    try:
        yield
    finally:
        if constant is not None:
            setattr(constants, _LIBRARIES, constant)
        if before is None:
            os.environ.pop(_LIBRARIES, None)
        else:
            os.environ[_LIBRARIES] = before


def is_offline() -> bool:
    """Whether the network must not be used."""
    return any(os.environ.get(name, "").lower() in ("1", "on", "yes", "true") for name in VARIABLES)
