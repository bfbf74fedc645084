"""Recipes for small machines: quickstart, playground-rn, compact-rn, tiny-rn, tiny-vit, siglip.

diptych train pairs/ --recipe compact-rn --epochs 10 --out runs/mine
"""

import dataclasses

from diptych.data.loader import LoaderConfig
from diptych.data.transforms import Augmentation, Preprocessing
from diptych.model.presets import get_preset
from diptych.train import CheckpointConfig, OptimizerConfig, ScheduleConfig, TrainConfig

# Initial bias of SigLIP's logits: it makes the many pairs that do not match cost little at first (arXiv
# 2303.15343, section 3.2). With a bias the scale starts at 10.
SIGLIP_BIAS = -10.0


def quickstart(data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """The embedded pairs in a few minutes on two cores: plain convolutions at 64 pixels, small batches, and Muon."""
    config = _small("playground-compact", data, out, num_pairs, batch=64, learning_rate=1.5e-3, warmup_steps=150)
    optimizer = dataclasses.replace(config.optimizer, weight_decay=0.5, muon_learning_rate=8e-3)
    return dataclasses.replace(config, optimizer=optimizer)


def playground_rn(data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """The embedded pairs with a small version of the paper's modified ResNet, and only AdamW, for figures 2 and 9."""
    config = _small("playground-rn", data, out, num_pairs, batch=128, learning_rate=1.5e-3, warmup_steps=150)
    return dataclasses.replace(config, optimizer=dataclasses.replace(config.optimizer, weight_decay=0.5))


def compact_rn(data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """Small photographs without a GPU: plain convolutions at 64 pixels, and Muon (docs/log.md)."""
    config = _small("compact-rn", data, out, num_pairs, learning_rate=1e-3, warmup_steps=200)
    return dataclasses.replace(
        config,
        augmentation=Augmentation(rescale=(0.35, 1.0), flip=0.5, low_resolution=0.15),
        optimizer=dataclasses.replace(config.optimizer, muon_learning_rate=4e-3),
    )


def tiny_rn(data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """compact_rn's pairs with a small version of the paper's modified ResNet, and only AdamW, as in the paper."""
    config = _small("tiny-rn", data, out, num_pairs, learning_rate=1.5e-3, warmup_steps=300)
    return dataclasses.replace(config, augmentation=Augmentation(rescale=(0.5, 1.0), flip=0.5))


def tiny_vit(data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """compact_rn's pairs with a small Vision Transformer."""
    config = _small("tiny-vit", data, out, num_pairs, learning_rate=1e-3, warmup_steps=100)
    return dataclasses.replace(config, augmentation=Augmentation(rescale=(0.5, 1.0), flip=0.5))


def siglip(data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """compact-rn under SigLIP's objective: every entry of the similarity matrix is a separate yes or no."""
    config = compact_rn(data, out, num_pairs)
    model = dataclasses.replace(config.model, logit_bias=SIGLIP_BIAS)
    return dataclasses.replace(config, model=model, objective="sigmoid")


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
