"""Set any field of a TrainConfig by its dotted name: `--set optimizer.learning_rate=1e-3`."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from diptych.errors import ConfigError
from diptych.train import TrainConfig

# Other common names.
ALIASES = {"optimizer.lr": "optimizer.learning_rate", "optimizer.muon_lr": "optimizer.muon_learning_rate"}

Changes = dict[str, Any]  # a tree of the fields that change: {"optimizer": {"learning_rate": 1e-3}, "seed": 1}


def apply_settings(config: TrainConfig, settings: Iterable[str]) -> TrainConfig:
    """A configuration with some of its fields set.

    Args:
        settings: "name=value"; names are dotted (model.vision.image_size); values are numbers, text, true or false,
            none, or several of them separated by commas, as the field's annotation says. If a field is set twice, the
            last setting counts.
    Returns:
        the changed configuration, built once with all changes in place; see `rebuild`.
    Raises:
        ConfigError: there is no such field (the nearest names are listed), the value has the wrong type, or the
            values contradict each other.
    """
    return rebuild(config, parse_settings(config, settings))


def parse_settings(config: TrainConfig, settings: Iterable[str]) -> Changes:
    """The settings as a tree of typed values; nothing is built yet."""
    changes: Changes = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = ALIASES.get(name.strip(), name.strip())
        if not equals or not name:
            raise ConfigError(f"{setting!r} sets nothing; write NAME=VALUE, for example optimizer.learning_rate=1e-3")
        *groups, field = name.split(".")
        owner, group_changes = _owner(config, groups, name), changes
        for group in groups:
            group_changes = group_changes.setdefault(group, {})
        group_changes[field] = _typed(owner, field, name, text.strip())
    return changes


def rebuild(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """The configuration with the changes in place; each part is built once, inner parts first.

    If only one of preprocessing and image tower gets another image size, the other follows. If only the width of a
    tower is set, its attention heads stay 64 wide.

    Raises:
        ConfigError: the parts contradict each other.
    """
    return _replace(config, _with_one_image_size(changes))


def field_names(config: TrainConfig) -> list[str]:
    """The dotted names of all fields that can be set, in the order of their declaration."""
    return list(_names(config))


def field_kind(config: TrainConfig, name: str) -> Any:
    """The annotated type of the field with this dotted name.

    Raises:
        ConfigError: there is no such field; the nearest names are listed.
    """
    name = ALIASES.get(name, name)
    *groups, field = name.split(".")
    return _kind(_owner(config, groups, name), field, name)


def _names(owner: Any, before: str = "") -> Iterable[str]:
    for field in dataclasses.fields(owner):
        value = getattr(owner, field.name)
        if dataclasses.is_dataclass(value):
            yield from _names(value, f"{before}{field.name}.")
        else:
            yield before + field.name


def _owner(config: TrainConfig, groups: list[str], name: str) -> Any:
    """The part of the configuration that has the field."""
    owner: Any = config
    for group in groups:
        owner = getattr(owner, group, None)
        if not dataclasses.is_dataclass(owner):
            raise _unknown(config, name)
    if name.rpartition(".")[2] not in {field.name for field in dataclasses.fields(owner)}:
        raise _unknown(config, name)
    return owner


def _unknown(config: TrainConfig, name: str) -> ConfigError:
    names = field_names(config)
    last = name.rpartition(".")[2]
    same_end = [other for other in names if other.rpartition(".")[2] == last]
    near = list(dict.fromkeys(same_end + difflib.get_close_matches(name, names, n=5, cutoff=0.5)))
    hint = f"nearest: {', '.join(near[:5])}" if near else "diptych train ... --dry-run prints them all"
    return ConfigError(f"there is no setting {name!r}; {hint}")


def _kind(owner: Any, field: str, name: str) -> Any:
    if dataclasses.is_dataclass(value := getattr(owner, field)):
        inside = ", ".join(f"{name}.{inner.name}" for inner in dataclasses.fields(value))
        raise ConfigError(f"{name} is a group of settings; set one of {inside}")
    return typing.get_type_hints(type(owner))[field]


def _typed(owner: Any, field: str, name: str, text: str) -> Any:
    kind = _kind(owner, field, name)
    try:
        return _read(kind, text)
    except ValueError:
        raise ConfigError(f"{name} is {text!r}; it takes {_described(kind)}") from None


def _read(kind: Any, text: str) -> Any:
    """The value of that type that the text means; ValueError if it means none."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if text.lower() == "none" and type(None) in inner:
            return None
        return _first_of([option for option in inner if option is not type(None)], text)
    if origin is typing.Literal:
        return {str(option): option for option in inner}[text] if text in map(str, inner) else _refuse(text)
    if origin is tuple:
        parts = [part.strip() for part in text.strip("()[]").split(",") if part.strip()]
        kinds = [inner[0]] * len(parts) if inner[-1] is Ellipsis else list(inner)
        if len(parts) != len(kinds):
            raise ValueError(text)
        return tuple(_read(item_kind, part) for item_kind, part in zip(kinds, parts, strict=True))
    if kind is bool:
        return {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else _refuse(text)
    if kind is float and math.isnan(float(text)):
        raise ValueError(text)
    return kind(text) if text else _refuse(text)


def _first_of(kinds: list[Any], text: str) -> Any:
    for kind in kinds[:-1]:
        try:
            return _read(kind, text)
        except ValueError:
            continue
    return _read(kinds[-1], text)


def _refuse(text: str) -> Any:
    raise ValueError(text)


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}


def _described(kind: Any) -> str:
    """The type in words, for a message."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_described(option) for option in inner)
    if origin is tuple:
        number = "some" if inner[-1] is Ellipsis else str(len(inner))
        return f"{number} values separated by commas, each {_described(inner[0])}"
    return _WORDS.get(kind, str(kind))


def _with_one_image_size(changes: Mapping[str, Any]) -> Changes:
    """The changes with the image size in both places that need it, if it is set in one."""
    whole = {name: dict(value) if isinstance(value, Mapping) else value for name, value in changes.items()}
    of_model = whole.get("model", {}).get("vision", {}).get("image_size")
    of_preprocessing = whole.get("preprocessing", {}).get("image_size")
    if of_model is not None and of_preprocessing is None:
        whole["preprocessing"] = {**whole.get("preprocessing", {}), "image_size": of_model}
    elif of_preprocessing is not None and of_model is None:
        model = whole.get("model", {})
        whole["model"] = {**model, "vision": {**model.get("vision", {}), "image_size": of_preprocessing}}
    return whole


def _replace(owner: Any, changes: Mapping[str, Any]) -> Any:
    """dataclasses.replace through the whole tree, leaves first."""
    values = {
        name: _replace(getattr(owner, name), value) if isinstance(value, Mapping) else value
        for name, value in changes.items()
    }
    if hasattr(owner, "heads") and "heads" not in values and dataclasses.replace(owner, heads=0) == owner:
        values["heads"] = 0  # means width // 64
    return dataclasses.replace(owner, **values)
