"""Open a published model that another library computes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from diptych.embed.catalogue import HUB, find
from diptych.embed.encoder import Encoder
from diptych.embed.hub import Fetched, fetch, libraries_offline
from diptych.embed.model_description import describe
from diptych.errors import ConfigError, WeightsError


def open_fetched(fetched: Fetched, device: torch.device, precision: str) -> Encoder:
    """A fetched model that another library computes.

    Raises:
        WeightsError: it is not what was published.
        ConfigError: the library is missing, or the precision does not exist there.
    """
    check_library_precision(precision)
    library = "open_clip" if fetched.layout == "open_clip" else "hf"
    with libraries_offline():
        return _open_folder(library, fetched, device)


def open_with_library(library: str, name: str, device: torch.device) -> Encoder | None:
    """A published model by the library that the user names; None if the library must find the name itself.

    Args:
        library: "hf" or "open_clip"; others open local folders alone.
        name: what follows the prefix.
    """
    if library not in ("hf", "open_clip"):
        return None
    if library == "hf":
        reference = None if Path(name).is_dir() else find(HUB + name)
        layout: Any = "huggingface"
    else:
        architecture, _, tag = name.partition("@")
        local = Path(tag).exists() if tag else Path(name).exists()
        reference = None if local else find(name if name.startswith(HUB) else f"{architecture}/{tag}")
        layout = "open_clip"
    if reference is None or reference.repository is None:
        return None
    return _open_folder(library, fetch(reference, layout=layout), device)


def check_library_precision(precision: str) -> None:
    """Refuse a precision that models of other libraries do not compute in.

    Raises:
        ConfigError: it is neither "fp32" nor "auto".
    """
    if precision not in ("fp32", "auto"):
        raise ConfigError(f"models of other libraries compute in fp32 here, not in {precision}")


def is_native(fetched: Fetched) -> bool:
    """Whether Diptych's own towers compute it: as the catalogue says, or if its configuration is understood."""
    if fetched.model is not None and (fetched.model.runs == "native" or fetched.layout == "open_clip"):
        return fetched.model.runs == "native"
    try:
        with _without_warnings():
            describe(fetched.path, prefer_open_clip=fetched.layout == "open_clip")
    except (ConfigError, WeightsError):
        return False
    return True


@contextmanager
def _without_warnings() -> Iterator[None]:
    """What is only tried is not worth a warning; loading warns again."""
    logger = logging.getLogger("diptych")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _open_folder(library: str, fetched: Fetched, device: torch.device) -> Encoder:
    """Open a fetched folder with a library, under the name of the model instead of the folder's."""
    encoder: Any
    if library == "hf":
        from diptych.embed.huggingface import open_huggingface

        encoder = open_huggingface(str(fetched.path), device)
    else:
        from diptych.embed.open_clip import open_open_clip

        encoder = open_open_clip(str(fetched.path), device)
    encoder.name = fetched.name
    return encoder
