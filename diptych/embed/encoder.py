"""The Encoder protocol: evaluation and search work with any model that implements it."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch

from diptych.embed.image_inputs import ImageInput
from diptych.records import Result


@runtime_checkable
class Encoder(Protocol):
    """An image encoder and a text encoder into one space, where cosines measure how well an image and a text match."""

    @property
    def name(self) -> str:
        """Name of the model in results."""

    def encode_images(self, images: Sequence[ImageInput], /) -> torch.Tensor:
        """N images -> (N, E) float32 on the CPU, unit norm."""

    def encode_texts(self, texts: Sequence[str], /) -> torch.Tensor:
        """N texts -> (N, E) float32 on the CPU, unit norm."""


class Evaluator(Protocol):
    """One measurement of an encoder. `fit` and `diptych evaluate` run the same evaluators.

    An evaluator may also have `check(encoder) -> None`, which `fit` calls before the first step: it raises the errors
    that would otherwise end the measurement after hours of training. It takes seconds at most.
    """

    def __call__(self, encoder: Encoder, /) -> list[Result]:
        """Measure the encoder; one Result per number."""
        ...
