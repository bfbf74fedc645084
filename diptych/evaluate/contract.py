"""What an evaluator is: it sees an Encoder, never a network, and yields Results."""

from typing import Protocol

from diptych.embed.encoder import Encoder
from diptych.records import Result


class Evaluator(Protocol):
    """One measurement. `fit` runs evaluators during training, `diptych evaluate` afterwards: the same objects."""

    def __call__(self, encoder: Encoder, /) -> list[Result]:
        """Measure the encoder; one Result per number."""
        ...
