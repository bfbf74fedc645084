"""Whole training runs as functions: what to change for a run of your own starts here.

diptych train pairs/ --recipe compact-rn --epochs 10 --out runs/mine
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from diptych.data.loader import LoaderConfig
from diptych.data.transforms import Augmentation, Preprocessing
from diptych.errors import ConfigError
from diptych.model.presets import get_preset
from diptych.train import CheckpointConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from diptych.train.inputs import count_pairs, open_pairs

Recipe = Callable[[tuple[str, ...], str, int], TrainConfig]

RESNET_ADAM: dict[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8}  # table 18; OptimizerConfig defaults to the ViTs'
# Learning rates of tables 19 and 20; the batch of 32,768 pairs and the other values of table 18 are common to all nine.
PAPER_LEARNING_RATES = {
    "RN50": 5e-4,
    "RN101": 5e-4,
    "RN50x4": 5e-4,
    "RN50x16": 4e-4,
    "RN50x64": 3.6e-4,
    "ViT-B/32": 5e-4,
    "ViT-B/16": 5e-4,
    "ViT-L/14": 4e-4,
    "ViT-L/14@336px": 2e-5,
}


def quickstart(data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """The embedded pairs in a few minutes on two cores: a small modified ResNet at 64 pixels."""
    config = _small("playground-rn", data, out, num_pairs, batch=128, learning_rate=1.5e-3, warmup_steps=150)
    return dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, weight_decay=0.5))


def compact_rn(data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """Small photographs on a processor without a GPU: plain convolutions at 64 pixels, and Muon (docs/log.md)."""
    config = _small("compact-rn", data, out, num_pairs, learning_rate=1e-3, warmup_steps=200)
    return dataclasses.replace(
        config,
        augmentation=Augmentation(rescale=(0.35, 1.0), flip=0.5, low_resolution=0.15),
        optimizer=dataclasses.replace(config.optimizer, muon_learning_rate=4e-3),
    )


def tiny_rn(data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """The same with the paper's modified ResNet, in small, and AdamW alone, as in the paper."""
    config = _small("tiny-rn", data, out, num_pairs, learning_rate=1.5e-3, warmup_steps=300)
    return dataclasses.replace(config, augmentation=Augmentation(rescale=(0.5, 1.0), flip=0.5))


def tiny_vit(data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """The same with a Vision Transformer, in small."""
    config = _small("tiny-vit", data, out, num_pairs, learning_rate=1e-3, warmup_steps=100)
    return dataclasses.replace(config, augmentation=Augmentation(rescale=(0.5, 1.0), flip=0.5))


def paper(name: str, data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """One of the paper's nine models with its hyper-parameters (section 2.5, tables 18 to 20).

    The batch of 32,768 pairs needs a machine to match; `global_batch_size` is what to lower first.
    """
    model = get_preset(name)
    adam = RESNET_ADAM if name.startswith("RN") else {}
    return TrainConfig(
        model=model,
        data=data,
        out=out,
        num_pairs=num_pairs,
        preprocessing=Preprocessing(image_size=model.vision.image_size),
        tokenizer="openai",
        loader=LoaderConfig(global_batch_size=32_768, num_workers=8),
        optimizer=OptimizerConfig(learning_rate=PAPER_LEARNING_RATES[name], weight_decay=0.2, **adam),
        schedule=ScheduleConfig(warmup_steps=2000),
    )


def _small(
    preset: str,
    data: tuple[str, ...],
    out: str,
    num_pairs: int,
    *,
    batch: int = 256,
    learning_rate: float,
    warmup_steps: int,
) -> TrainConfig:
    model = get_preset(preset)
    return TrainConfig(
        model=model,
        data=data,
        out=out,
        num_pairs=num_pairs,
        preprocessing=Preprocessing(image_size=model.vision.image_size),
        loader=LoaderConfig(global_batch_size=batch, num_workers=1),
        optimizer=OptimizerConfig(learning_rate=learning_rate, weight_decay=0.1),
        schedule=ScheduleConfig(warmup_steps=warmup_steps),
        checkpoint=CheckpointConfig(every_steps=1000, every_minutes=2.0),
    )


RECIPES: dict[str, Recipe] = {
    "quickstart": quickstart,
    "compact-rn": compact_rn,
    "tiny-rn": tiny_rn,
    "tiny-vit": tiny_vit,
    **{name: (lambda *args, _name=name: paper(_name, *args)) for name in PAPER_LEARNING_RATES},
}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigError: there is none; the known ones are listed.
    """
    if name not in RECIPES:
        raise ConfigError(f"there is no recipe {name!r}; known: {', '.join(RECIPES)}")
    return RECIPES[name]


def configure(
    recipe: str,
    data: tuple[str, ...],
    out: str,
    *,
    num_pairs: int | None = None,
    epochs: float | None = None,
    top: Mapping[str, Any],
    **components: Mapping[str, Any],
) -> TrainConfig:
    """A recipe with some of its values replaced; None leaves a value as the recipe has it.

    Args:
        num_pairs, epochs: how long to train; exactly one of them. Epochs are counted by reading the data once.
        top: fields of TrainConfig itself.
        components: fields of its parts: loader, optimizer, schedule, checkpoint.
    Raises:
        ConfigError: neither or both lengths given, or the values contradict each other.
    """
    if (num_pairs is None) == (epochs is None):
        raise ConfigError("say how long to train: either --pairs or --epochs")
    if epochs is not None and not 0 < epochs < math.inf:
        raise ConfigError(f"epochs is {epochs}; it must be a number above 0")
    make = get_recipe(recipe)
    if num_pairs is None:
        assert epochs is not None
        num_pairs = int(epochs * count_pairs(open_pairs(data, make(data, out, 1_000_000_000).model.vision.image_size)))
    # Parts first: the whole checks that they fit together only once all of them are in place.
    draft = make(data, out, max(num_pairs, 1_000_000))
    parts = {name: dataclasses.replace(getattr(draft, name), **_given(values)) for name, values in components.items()}
    if _given(components.get("schedule", {})).get("warmup_steps") is None:
        num_steps = num_pairs // parts.get("loader", draft.loader).global_batch_size
        parts["schedule"] = dataclasses.replace(draft.schedule, warmup_steps=_warmup(draft.schedule, num_steps))
    return dataclasses.replace(draft, num_pairs=num_pairs, **parts, **_given(top))


def _warmup(schedule: ScheduleConfig, num_steps: int) -> int:
    """The recipe's warm-up, cut to a tenth of a short run."""
    return max(1, min(schedule.warmup_steps, num_steps // 10))


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
