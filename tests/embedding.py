"""Small models with random weights, and images for them, for the tests of diptych.embed."""

import functools

import numpy as np
from model_tools import random_clip

from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed import Model
from diptych.model.clip_config import CLIPConfig, CompactResNetConfig, ResNetConfig, TextConfig, ViTConfig

TEXT = TextConfig(context_length=24, vocab_size=700, width=128, layers=2)
VIT = CLIPConfig(64, ViTConfig(48, 16, width=128, layers=2), TEXT)
RESNET = CLIPConfig(96, ResNetConfig(64, 16, (1, 1, 1, 1)), TEXT, "gelu")
COMPACT = CLIPConfig(64, CompactResNetConfig(32, (32, 64), (1, 2)), TEXT)
TEXTS = ["a photo of a cat", "two green dogs and a very long tail", "", "dogs"]


@functools.cache
def small_tokenizer() -> Tokenizer:
    """A tokenizer trained on a few words."""
    return Tokenizer.train(["a photo of a cat", "two green dogs", "a very long tail"] * 3, 600, context_length=24)


def make_vit() -> Model:
    """A model with CLIP's settings."""
    return Model(random_clip(VIT), small_tokenizer(), Preprocessing(48), "vit")


def make_resnet() -> Model:
    """A model whose activation and preprocessing differ from all defaults."""
    odd = Preprocessing(64, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7), "bilinear", "squash")
    return Model(random_clip(RESNET), small_tokenizer(), odd, "resnet")


def make_compact() -> Model:
    """A model of the same kind as the default recipe's."""
    return Model(random_clip(COMPACT), small_tokenizer(), Preprocessing(32), "compact")


def make_pictures() -> list[np.ndarray]:
    """Five images of different heights."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + 10 * i, 90, 3), dtype=np.uint8) for i in range(5)]
