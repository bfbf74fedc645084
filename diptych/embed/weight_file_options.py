"""Command-line options for the models of a command: each command sets them once, before it loads a model."""

import dataclasses
from collections.abc import Sequence

from diptych.errors import ConfigError

_stated: dict[str, str | None] = {"activation": None, "heads": None, "backend": None}


@dataclasses.dataclass(frozen=True)
class Stated:
    """What is known about a bare weight file that the file does not say; None if not stated.

    Attributes:
        published: the file is a published one whose images are prepared as CLIP's.
    """

    activation: str | None = None
    heads: tuple[int, int] | None = None
    published: bool = False


def state(name: str, value: str | None) -> str | None:
    """Store the option "activation", "heads" or "backend" of this command; returns the value."""
    _stated[name] = value
    return value


def forget() -> None:
    """Clear the options at the end of a command."""
    _stated.update(activation=None, heads=None, backend=None)


def stated() -> tuple[str | None, str | None]:
    """Activation and heads from the command line; None if not given."""
    return _stated["activation"], _stated["heads"]


def parse_heads(heads: str | Sequence[int]) -> tuple[int, int]:
    """Parse the heads of the image tower and of the text tower from "16,12" or (16, 12).

    Raises:
        ConfigError: not two numbers above 0.
    """
    parts = heads.split(",") if isinstance(heads, str) else heads
    try:
        image, text = (int(part) for part in parts)
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"heads are two numbers, of the image and the text tower, such as 16,12; not {heads!r}"
        ) from error
    if image < 1 or text < 1:
        raise ConfigError(f"heads are two numbers above 0, of the image and the text tower; not {heads!r}")
    return image, text


def stated_in_command() -> Stated:
    """The options of the command line, parsed.

    Raises:
        ConfigError: the heads are not two numbers above 0.
    """
    activation, heads = stated()
    return Stated(activation, None if heads is None else parse_heads(heads))


def stated_backend() -> str | None:
    """The back end from the command line; None if not given."""
    return _stated["backend"] or None
