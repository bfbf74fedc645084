"""Recipes that start from trained weights: finetune and lit.

diptych train pairs/ --recipe finetune --init runs/mine/model --epochs 5 --out runs/tuned
"""

import dataclasses

from diptych.data.loader import LoaderConfig
from diptych.errors import ConfigError
from diptych.train import OptimizerConfig, ScheduleConfig, TrainConfig
from diptych.train.config import InitConfig
from diptych.train.initial import load_initial


def finetune(data: tuple[str, ...], out: str, num_pairs: int, init: InitConfig | str | None = None) -> TrainConfig:
    """Continue training a model on other pairs without forgetting what it knows.

    Uses a low learning rate, which falls towards the input: each layer has three quarters of the rate of the layer
    above it (layer-wise decay, as for BEiT, arXiv 2106.08254). The result can be averaged with the initial model
    (`diptych interpolate`).

    Args:
        init: a model as `diptych.load` takes it; the run uses its architecture, tokenizer and preprocessing. An
            InitConfig also states heads and activation of a weight file.
    Raises:
        ConfigError: no weights are given.
        WeightsError: there is no such model.
    """
    init = InitConfig.of(init)
    if init.weights is None:
        raise ConfigError("finetune and lit start from a trained model: name it (--init MODEL)")
    model = load_initial(init)
    return TrainConfig(
        model=model.clip.config,
        data=data,
        out=out,
        num_pairs=num_pairs,
        preprocessing=model.preprocessing,
        tokenizer="init",
        loader=LoaderConfig(global_batch_size=256, num_workers=1),
        optimizer=OptimizerConfig(learning_rate=1e-5, weight_decay=0.1, layer_decay=0.75),
        schedule=ScheduleConfig(warmup_steps=100),
        init=init,
    )


def lit(data: tuple[str, ...], out: str, num_pairs: int, init: InitConfig | str | None = None) -> TrainConfig:
    """Locked-image tuning: the image tower is locked, and the text tower learns to match it (arXiv 2111.07991).

    The text tower starts from the model's own weights, so the learning rate is a tenth of that paper's 1e-3, which is
    for a text tower trained from scratch; weight decay is that paper's.

    Args and errors: as in `finetune`.
    """
    config = finetune(data, out, num_pairs, init)
    return dataclasses.replace(
        config,
        optimizer=OptimizerConfig(learning_rate=1e-4, weight_decay=1e-4),
        init=dataclasses.replace(config.init, lock_image=True),
    )
