"""Build a complete TrainConfig from a recipe's name and a command line's options."""

import dataclasses
import difflib
import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from diptych.embed.weight_file_options import parse_heads
from diptych.errors import ConfigError
from diptych.recipes.copy_recipes import copy_detector, paper_copy_detector
from diptych.recipes.paper_recipes import (
    HIGH_RESOLUTION,
    PAPER_EPOCHS,
    PAPER_LEARNING_RATES,
    high_resolution,
    paper,
    yfcc,
)
from diptych.recipes.settings import Changes, parse_settings, rebuild
from diptych.recipes.small_recipes import compact_rn, playground_rn, quickstart, siglip, tiny_rn, tiny_vit
from diptych.recipes.tuning import finetune, lit
from diptych.train import TrainConfig
from diptych.train.config import InitConfig
from diptych.train.inputs import count_pairs, no_pairs, open_pairs
from diptych.train.length import NO_LIMIT

# (data, out, num_pairs); recipes that start from trained weights also take `init`.
Recipe = Callable[..., TrainConfig]

RECIPES: dict[str, Recipe] = {
    "quickstart": quickstart,
    "playground-rn": playground_rn,
    "compact-rn": compact_rn,
    "tiny-rn": tiny_rn,
    "tiny-vit": tiny_vit,
    "siglip": siglip,
    **{name: functools.partial(paper, name) for name in PAPER_LEARNING_RATES},
    HIGH_RESOLUTION: high_resolution,
    "yfcc": yfcc,
    "copy-detector": copy_detector,
    "copy-detector-RN50": paper_copy_detector,
    "finetune": finetune,
    "lit": lit,
}
BEGIN_WITH_WEIGHTS = (HIGH_RESOLUTION, "finetune", "lit")
# The paper's passes over the data; other recipes have no default length.
EPOCHS: Mapping[str, float] = {name: PAPER_EPOCHS for name in (*PAPER_LEARNING_RATES, "yfcc")} | {HIGH_RESOLUTION: 1}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigError: there is no such recipe; the message lists the known ones.
    """
    if name not in RECIPES:
        known = {spelling.lower(): recipe for recipe in RECIPES for spelling in (recipe, recipe.replace("/", "-"))}
        matches = difflib.get_close_matches(name.lower(), known, 2, 0.7)
        near = list(dict.fromkeys(known[match] for match in matches))
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(f"there is no recipe {name!r}; {hint}known: {', '.join(RECIPES)}")
    return RECIPES[name]


def configure(
    recipe: str,
    data: tuple[str, ...],
    out: str,
    *,
    num_pairs: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    init: InitConfig | str | None = None,
    settings: Iterable[str] = (),
    top: Mapping[str, Any],
    **components: Mapping[str, Any],
) -> TrainConfig:
    """A recipe with some of its values replaced; None keeps the recipe's value.

    Args:
        num_pairs, epochs: how long to train; give one of them, or neither for a recipe of the paper, which has its own
            epochs. Epochs are counted by reading the data once.
        minutes: training time; if it is combined with one of the others, the run ends at whichever comes first.
        init: the model to start from; its tokenizer is used, too, unless another one is set. An InitConfig also states
            heads and activation of a weight file.
        settings: any field by its dotted name, "optimizer.learning_rate=1e-3"; they override everything else.
        top: fields of TrainConfig itself.
        components: fields of its parts: loader, optimizer, schedule, checkpoint.
    Raises:
        ConfigError: neither or both lengths are given, a setting is unknown, or the values contradict each other.
    """
    settings = list(settings)
    draft = _draft(recipe, data, out, _initial(InitConfig.of(init), settings))
    options = {**_not_none({**top, "minutes": minutes})}
    options |= {name: _not_none(values) for name, values in components.items()}
    changes = _merged(options, parse_settings(draft, settings))
    changes["num_pairs"] = _length(draft, changes, num_pairs, epochs, EPOCHS.get(recipe))
    # All changes at once: TrainConfig checks that its parts fit together.
    config = rebuild(draft, changes)
    if "warmup_steps" in changes.get("schedule", {}):
        return config
    return dataclasses.replace(config, schedule=config.schedule.shortened(config.num_steps))


def _draft(recipe: str, data: tuple[str, ...], out: str, init: InitConfig) -> TrainConfig:
    """The recipe without changes, on its initial weights."""
    make = get_recipe(recipe)
    if recipe in BEGIN_WITH_WEIGHTS:
        return make(data, out, NO_LIMIT, init=init)
    config = make(data, out, NO_LIMIT)
    if init.weights is None and (init.activation or init.heads):
        raise ConfigError("--activation and --heads describe a weight file to start from: name it (--init FILE)")
    return config if init.weights is None else dataclasses.replace(config, init=init, tokenizer="init")


def _initial(init: InitConfig, settings: list[str]) -> InitConfig:
    """The init config with the settings of `init.*`, which recipes need first to take the architecture from there."""
    split = ((name.strip(), text.strip()) for name, _, text in (setting.partition("=") for setting in settings))
    values = {name: text for name, text in split if text.lower() != "none"}
    heads = values.get("init.heads")
    return dataclasses.replace(
        init,
        weights=init.weights or values.get("init.weights"),
        activation=init.activation or values.get("init.activation"),
        heads=init.heads if heads is None else parse_heads(heads),
    )


def _length(
    draft: TrainConfig, changes: Changes, num_pairs: int | None, epochs: float | None, default: float | None
) -> int:
    """Pairs to see in the whole run."""
    if "num_pairs" in changes and num_pairs is None and epochs is None:
        return changes["num_pairs"]
    if num_pairs is None and epochs is None:
        if changes.get("minutes") is not None:
            return NO_LIMIT
        epochs = default
    if (num_pairs is None) == (epochs is None) or "num_pairs" in changes:
        raise ConfigError(
            "choose how long to train: --pairs or --epochs, --minutes, or --minutes with one of the others"
        )
    if num_pairs is not None:
        return num_pairs
    assert epochs is not None
    if not 0 < epochs < math.inf:
        raise ConfigError(f"epochs is {epochs}; it must be a number above 0")
    data = changes.get("data", draft.data)
    columns = dataclasses.replace(draft.columns, **changes.get("columns", {}))
    source = open_pairs(data, draft.model.vision.image_size, columns=columns)
    if not (counted := count_pairs(source, captions=draft.copies is None)):
        raise no_pairs(data, source)
    return int(epochs * counted)


def _not_none(values: Mapping[str, Any]) -> Changes:
    return {name: value for name, value in values.items() if value is not None}


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> Changes:
    """Merge two trees; if both name a field, the second's value wins."""
    merged = {**first, **second}
    for name in first.keys() & second.keys():
        if isinstance(first[name], Mapping) and isinstance(second[name], Mapping):
            merged[name] = _merged(first[name], second[name])
    return merged
