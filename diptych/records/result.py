"""Result: one measured number, and the checks of its fields."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Hashable, Mapping
from typing import Any, NoReturn, TypeVar, final

T = TypeVar("T")

_FRACTIONS = re.compile(
    r"(text_|image_)?(accuracy|contamination|recall_at_|mean_per_class_|mean_of_top_|roc_auc|within_)"
)
_ROUNDING = 1e-6


@final
class Condition(dict[str, str | int | float]):
    """A read-only mapping. It is a dict, so that json, copy and pickle accept it."""

    def _refuse(self, *arguments: Any, **named: Any) -> NoReturn:
        raise TypeError("the condition of a Result cannot be changed; dataclasses.replace makes another Result")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type, tuple[dict[str, str | int | float]]]:
        return Condition, (dict(self),)


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """One measured number: a row of a results.jsonl file.

    Attributes:
        task: name of the task that measured it, e.g. "zero_shot".
        metric: "accuracy", "accuracy_top_5", "mean_per_class_accuracy", "recall_at_k", ...: fractions in [0, 1];
            any other unit is part of the name ("error_km").
        interval: method and level of [low, high], e.g. "clopper-pearson 99.5%"; None without interval.
        protocol: how it was measured, one word; `wording.PROTOCOLS` lists those of Diptych's own tasks.
        condition: what was varied, e.g. {"classifier": "probe", "shots": 16}, {"shift": "fog", "severity": 3} or
            {"classifier": "static", "subset": "ImageNet-A"}; values are strings and finite numbers. Read-only.
        run: {"command", "commit", "machine", "fingerprint"}; `diptych evaluate` on folders adds "folder".
    """

    task: str
    dataset: str
    split: str
    metric: str
    value: float
    n: int
    low: float | None
    high: float | None
    interval: str | None
    protocol: str
    model: str
    condition: Mapping[str, str | int | float] = dataclasses.field(default_factory=Condition)
    run: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.condition, Mapping):  # check_result refuses other types
            object.__setattr__(self, "condition", Condition(self.condition))

    @property
    def identity(self) -> tuple[Hashable, ...]:
        """What is measured. Two Results with the same identity are two measurements of the same number."""
        condition = tuple(sorted(self.condition.items()))
        return (self.task, self.dataset, self.split, self.metric, self.protocol, condition, self.model)

    def setting(self, name: str, kind: type[T]) -> T | None:
        """The value of `name` in run["settings"], or None if it is missing or of another type. An int is a float."""
        settings = self.run.get("settings")
        value = settings.get(name) if isinstance(settings, Mapping) else None
        fits = is_number(value) if kind is float else isinstance(value, kind)
        return value if fits and (kind is not int or is_number(value)) else None


def check_result(result: Result) -> None:
    """Refuse a Result with invalid fields.

    Raises:
        ValueError: a field is invalid; the message names the field and the problem.
    """
    for name in ("task", "dataset", "split", "metric", "protocol", "model"):
        if not isinstance(getattr(result, name), str):
            raise ValueError(f"{name} is {getattr(result, name)!r:.60}; it must be a string")
    if result.interval is not None and not isinstance(result.interval, str):
        raise ValueError(f"interval is {result.interval!r:.60}; it must be a string or null")
    if isinstance(result.n, bool) or not isinstance(result.n, int) or result.n < 0:
        raise ValueError(f"n is {result.n!r:.60}; it must be a whole number, 0 or more")
    for name in ("value", "low", "high"):
        number = getattr(result, name)
        if number is None and name != "value":
            continue
        if not is_number(number):
            raise ValueError(f"{name} is {number!r:.60}; it must be a finite number")
        if _FRACTIONS.match(result.metric) and not -_ROUNDING <= number <= 1 + _ROUNDING:
            raise ValueError(f"{name} is {number!r:.60}; {result.metric:.60} is a fraction, from 0 to 1")
    if (result.low is None) != (result.high is None):
        raise ValueError("one of low and high is null; an interval has both ends")
    if result.low is not None and result.high is not None:
        # With very few samples, the percentiles of a bootstrap may not contain the value.
        inside = result.low <= result.value <= result.high or (result.interval or "").startswith("bootstrap")
        if result.low > result.high or not inside:
            raise ValueError(
                f"low, value and high are {result.low}, {result.value} and {result.high}; they must ascend"
            )
    if not isinstance(result.condition, Mapping):
        raise ValueError(f"condition is {result.condition!r:.60}; it must be an object")
    for name, value in result.condition.items():
        if not isinstance(name, str) or not (isinstance(value, str) or is_number(value)):
            raise ValueError(f"{name!r:.60} of condition is {value!r:.60}; it must be a string or a finite number")
    if not isinstance(result.run, Mapping):
        raise ValueError(f"run is {result.run!r:.60}; it must be an object")


def is_number(value: Any) -> bool:
    """Whether the value is a finite number; bool is not a number."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an int with hundreds of digits
        return False
