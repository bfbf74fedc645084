"""What the command line states of bare weight files: each command sets it once, before it loads a model."""

from collections.abc import Sequence

from diptych.errors import ConfigError

_stated: dict[str, str | None] = {"activation": None, "heads": None}


def state(name: str, value: str | None) -> str | None:
    """Keep "activation" or "heads" of this command; returns the value."""
    _stated[name] = value
    return value


def forget() -> None:
    """At the end of a command: what it stated is nobody else's."""
    _stated.update(activation=None, heads=None)


def stated() -> tuple[str | None, str | None]:
    """Activation and heads as the command line gave them, None where it did not."""
    return _stated["activation"], _stated["heads"]


def parse_heads(heads: str | Sequence[int]) -> tuple[int, int]:
    """Heads of the image tower and of the text tower, from "16,12" or (16, 12).

    Raises:
        ConfigError: they are not two numbers above 0.
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
