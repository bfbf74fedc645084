"""The paper's nine models and its YFCC ablation, with the paper's hyper-parameters.

torchrun --nproc-per-node 8 -m diptych train 'shards/{00000..00999}.tar' --recipe ViT-B/32 --epochs 32 --out runs/b32
"""

import dataclasses
from typing import Any

from diptych.data.loader import LoaderConfig
from diptych.data.transforms import Preprocessing
from diptych.errors import ConfigError
from diptych.model.presets import get_preset
from diptych.train import OptimizerConfig, ScheduleConfig, TrainConfig
from diptych.train.config import InitConfig

RESNET_ADAM: dict[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8}  # table 18; OptimizerConfig defaults to the ViTs'
# Learning rates of tables 19 and 20; the batch of 32,768 pairs and table 18's other values are the same for all nine.
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
PAPER_EPOCHS = 32
HIGH_RESOLUTION = "ViT-L/14@336px"
# Pairs that a process computes at once: affects memory, not the result (except BatchNorm's). 256 fit 16 GB up to ViT-B.
_MICRO_BATCH_SIZE = 256
_LANES = 256  # of the data order: any number of ranks up to this sees the pairs in the same order


def paper(name: str, data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """One of the paper's nine models with its hyper-parameters (section 2.5, tables 18 to 20).

    The batch of 32,768 pairs fits any machine: it is computed in micro-batches of `micro_batch_size`.
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
        loader=LoaderConfig(global_batch_size=32_768, num_workers=8, lanes=_LANES),
        optimizer=OptimizerConfig(learning_rate=PAPER_LEARNING_RATES[name], weight_decay=0.2, **adam),
        schedule=ScheduleConfig(warmup_steps=2000),
        micro_batch_size=_MICRO_BATCH_SIZE,
    )


def high_resolution(
    data: tuple[str, ...], out: str, num_pairs: int, init: InitConfig | str | None = None
) -> TrainConfig:
    """The extra epoch of ViT-L/14 at 336 pixels (section 2.5, table 20: a learning rate of 2e-5).

    Args:
        init: the trained ViT-L/14; its position embeddings are resampled to the larger image. The paper does not state
            the method or the epoch's schedule: here it is bicubic, with the schedule of the other eight models.
    Raises:
        ConfigError: no weights are given.
    """
    config = paper(HIGH_RESOLUTION, data, out, num_pairs)
    init = InitConfig.of(init)
    if init.weights is None:
        raise ConfigError(
            f"{HIGH_RESOLUTION} is one more epoch of a trained ViT-L/14 at 336 pixels: name that model (--init MODEL)"
        )
    return dataclasses.replace(config, tokenizer="init", init=init)


def yfcc(data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """One of the two models of the YFCC ablation: a ResNet-50, 32 epochs (appendix D).

    Train it twice, on the filtered YFCC100M subset and on as many pairs from other data, and compare them with
    `diptych paper table12`.
    """
    return paper("RN50", data, out, num_pairs)
