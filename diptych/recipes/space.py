"""The search space: fields of the configuration, each with its choices or its range."""

import dataclasses
import math
import typing
from typing import Any

from diptych.errors import ConfigError
from diptych.recipes.settings import ALIASES, apply_settings, field_kind
from diptych.train import TrainConfig

_GRID_POINTS = 5  # of a range, in a grid


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One field to search: either choices, as text, or a range."""

    name: str
    kind: type
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    def points(self) -> list[Any]:
        """The values in a grid."""
        if self.choices:
            return list(self.choices)
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        steps = [low + (high - low) * index / (_GRID_POINTS - 1) for index in range(_GRID_POINTS)]
        inner = [math.exp(step) if self.log else step for step in steps[1:-1]]
        return list(dict.fromkeys(self.kind(value) for value in (self.low, *inner, self.high)))

    def suggest(self, trial: Any) -> Any:
        """The value for an Optuna trial."""
        if self.choices:
            return trial.suggest_categorical(self.name, self.choices)
        if self.kind is int:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def value(self, text: str) -> Any:
        """The value of a setting to try first."""
        return text if self.choices else self.kind(float(text))


def parse_dimension(config: TrainConfig, text: str) -> Dimension:
    """A field and its choices or range.

    Raises:
        ConfigError: there is no such field, or the range is not valid.
    """
    name, _, values = text.partition("=")
    name = ALIASES.get(name.strip(), name.strip())
    kind = field_kind(config, name)
    if ".." not in values:
        choices = tuple(value.strip() for value in values.split(",") if value.strip())
        for choice in choices:
            apply_settings(config, [f"{name}={choice}"])
        if not choices:
            raise ConfigError(f"{text!r} leaves no choice; write NAME=A,B,C or NAME=LOW..HIGH")
        return Dimension(name, str, choices)
    log, bounds = values.startswith("log:"), values.removeprefix("log:").split("..")
    try:
        low, high = map(float, bounds)
    except ValueError:
        raise ConfigError(f"{text!r} is not a range; write NAME=LOW..HIGH or NAME=log:LOW..HIGH") from None
    whole = int in (kind, *typing.get_args(kind))
    if not (math.isfinite(low) and math.isfinite(high) and low < high and (low > 0 or not log)):
        raise ConfigError(f"{text!r}: the lower bound comes first, and is above 0 on a logarithmic scale")
    return Dimension(name, int if whole else float, (), low, high, log)
