"""What the command line states of bare weight files: each command sets it once, before it loads a model."""

_stated: dict[str, str | None] = {"activation": None, "heads": None}


def state(name: str, value: str | None) -> str | None:
    """Keep "activation" or "heads" of this command; returns the value."""
    _stated[name] = value
    return value


def stated() -> tuple[str | None, str | None]:
    """Activation and heads as the command line gave them, None where it did not."""
    return _stated["activation"], _stated["heads"]
