"""What evaluation and search ask of a model: any model that fills this can be measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image

from diptych.records import Result

Picture = Image.Image | str | Path | bytes | np.ndarray
"""A PIL image, the path or the bytes of an encoded file, or pixels uint8 (height, width, 3)."""


@runtime_checkable
class Encoder(Protocol):
    """Two encoders into one space; cosines there say how well a picture and a text fit."""

    @property
    def name(self) -> str:
        """What results call the model."""

    def encode_images(self, pictures: Sequence[Picture], /) -> torch.Tensor:
        """N pictures -> (N, E) float32 on the CPU, unit norm."""

    def encode_texts(self, texts: Sequence[str], /) -> torch.Tensor:
        """N texts -> (N, E) float32 on the CPU, unit norm."""


class Evaluator(Protocol):
    """One measurement of an encoder. `fit` runs evaluators, `diptych evaluate` runs the same objects afterwards.

    An evaluator may also have `check(encoder) -> None`, which `fit` calls before the first step: it raises what would
    otherwise end the measurement after hours of training, and takes seconds at most.
    """

    def __call__(self, encoder: Encoder, /) -> list[Result]:
        """Measure the encoder; one Result per number."""
        ...
