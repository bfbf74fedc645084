"""Runs that are small enough for a test: real pairs and real towers in one or two seconds."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from colours import encoded
from PIL import Image

from diptych.data.loader import LoaderConfig
from diptych.data.playground import Playground
from diptych.data.transforms import Augmentation, Preprocessing
from diptych.model.clip_config import CLIPConfig, CompactResNetConfig, ResNetConfig, TextConfig
from diptych.records import Batch, Sample
from diptych.train import CheckpointConfig, OptimizerConfig, ScheduleConfig, TrainConfig

MODEL = CLIPConfig(
    32, ResNetConfig(32, 8, (1, 1, 1, 1)), TextConfig(context_length=32, vocab_size=560, width=64, layers=1)
)

# Further settings of the recipe for small photographs, for `tiny_config(**COMPACT)`.
COMPACT = {
    "model": CLIPConfig(32, CompactResNetConfig(32, (16, 32, 64), (1, 1, 1)), MODEL.text),
    "augmentation": Augmentation(rescale=(0.35, 1.0), flip=0.5, colour=0.2, low_resolution=0.3),
    "optimizer": OptimizerConfig(learning_rate=1e-3, muon_learning_rate=4e-3),
}

# The same on the command line: eight updates of the smallest recipe.
SHORT = ("--recipe", "quickstart", "--pairs", "256", "--batch-size", "32", "--workers", "0")


def generated_pairs(number: int = 100) -> list[Sample]:
    """Playground pairs in the form in which files hold them: PNG bytes and one caption."""
    samples = Playground(number, size=64).read(0)
    return [Sample(s.key, encoded(Image.fromarray(s.image)), s.texts[:1]) for s in samples]


def tiny_config(out: Path, num_steps: int = 12, **changes: Any) -> TrainConfig:
    """A run over 200 generated pairs that logs every step."""
    config = TrainConfig(
        model=MODEL,
        data=("playground:200",),
        out=str(out),
        num_pairs=num_steps * 16,
        preprocessing=Preprocessing(image_size=32),
        loader=LoaderConfig(global_batch_size=16, num_workers=0, shuffle_buffer=50, chunk_size=8),
        optimizer=OptimizerConfig(learning_rate=1e-3),
        schedule=ScheduleConfig(warmup_steps=2),
        checkpoint=CheckpointConfig(every_steps=4, every_minutes=60.0),
        log_steps=1,
    )
    return dataclasses.replace(config, **changes)


def batch_of(n: int) -> Batch:
    generator = torch.Generator().manual_seed(n)
    lengths = torch.randint(3, 13, (n,), generator=generator)
    tokens = torch.randint(1, 48, (n, 12), generator=generator, dtype=torch.int32)
    tokens[torch.arange(12) >= lengths[:, None]] = 0
    tokens[torch.arange(n), lengths - 1] = 49
    images = torch.randint(0, 256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Batch(images, tokens, lengths, tuple(map(str, range(n))))
