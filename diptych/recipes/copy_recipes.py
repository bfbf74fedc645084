"""Copy detectors: models that find changed copies of an image (CLIP paper, appendix C).

diptych train photos/ --recipe copy-detector --epochs 4 --out runs/detector
"""

import dataclasses

from diptych.data.copies import CopyAugmentation
from diptych.data.loader import LoaderConfig
from diptych.data.transforms import Preprocessing
from diptych.model.presets import get_preset
from diptych.train import CheckpointConfig, OptimizerConfig, ScheduleConfig, TrainConfig

PAPER_BATCH = 1712


def copy_detector(data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """A small copy detector for two cores: 64 pixels, batches of 512 images, Muon. Captions are not read."""
    config = _config(
        "copy-detector",
        data,
        out,
        num_pairs,
        LoaderConfig(global_batch_size=512, num_workers=1, shuffle_buffer=16_384),
        OptimizerConfig(learning_rate=2e-3, weight_decay=0.05, muon_learning_rate=8e-3),
        warmup_steps=50,
    )
    # On processors without matrix units for bf16, its convolutions take 1.5 times as long.
    return dataclasses.replace(config, precision="fp32")


def paper_copy_detector(data: tuple[str, ...], out: str, num_pairs: int) -> TrainConfig:
    """The paper's detector: an antialiased ResNet-50, batches of 1,712 images, about 30 M of them (appendix C).

    The paper states neither the input size nor the optimizer: here they are 224 pixels and AdamW.
    """
    return _config(
        "copy-detector-RN50",
        data,
        out,
        num_pairs,
        LoaderConfig(global_batch_size=PAPER_BATCH, num_workers=8, lanes=16),
        OptimizerConfig(learning_rate=1e-3, weight_decay=0.05),
        warmup_steps=1000,
        micro_batch_size=214,
    )


def _config(
    preset: str,
    data: tuple[str, ...],
    out: str,
    num_pairs: int,
    loader: LoaderConfig,
    optimizer: OptimizerConfig,
    *,
    warmup_steps: int,
    micro_batch_size: int | None = None,
) -> TrainConfig:
    model = get_preset(preset)
    return TrainConfig(
        model=model,
        data=data,
        out=out,
        num_pairs=num_pairs,
        # Squashed, not cropped: the margin of an image may be all that a copy shares with it.
        preprocessing=Preprocessing(image_size=model.vision.image_size, interpolation="bilinear", resize="squash"),
        loader=loader,
        optimizer=optimizer,
        schedule=ScheduleConfig(warmup_steps=warmup_steps),
        checkpoint=CheckpointConfig(every_steps=1000, every_minutes=2.0),
        objective="copies",
        copies=CopyAugmentation(),
        micro_batch_size=micro_batch_size,
        held_out=0.01,
    )
