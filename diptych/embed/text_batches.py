"""Encode the texts of samples: a batch at a time, with texts that are too long or unusable set apart."""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.errors import ConfigError, InputError, TextError

_log = logging.getLogger(__name__)


class TextFunction:
    """Texts to vectors. A text longer than the model's context is cut, and counted.

    Attributes:
        num_cut: the number of texts that were cut.
    Raises:
        ConfigError: the encoder encodes no texts.
    """

    def __init__(self, encoder: Encoder) -> None:
        record = about(encoder)
        if not record.has_texts:
            raise ConfigError(f"{encoder.name} {record.no_texts}")
        self._encoder: Any = encoder
        self._tokenizer, self.num_cut = record.tokenizer, 0

    def __call__(self, texts: Sequence[str]) -> tuple[torch.Tensor | None, dict[int, InputError]]:
        """The vectors of the good texts, (n, E) or None, and the errors of the others by their index."""
        try:
            return self._encoder.encode_texts(list(texts)), {}
        except TextError as error:
            if self._tokenizer is None:
                return self._one_by_one(texts, error)
        limit = self._tokenizer.context_length - 2  # without start and end
        self.num_cut += sum(len(self._tokenizer.encode(text)) > limit for text in texts)
        return self._encoder.encode_texts(list(texts), truncate=True), {}

    def _one_by_one(self, texts: Sequence[str], error: TextError) -> tuple[torch.Tensor | None, dict[int, InputError]]:
        if len(texts) == 1:
            return None, {0: error}
        good: list[torch.Tensor] = []
        failed: dict[int, InputError] = {}
        for index, text in enumerate(texts):
            try:
                good.append(self._encoder.encode_texts([text]))
            except TextError as problem:
                failed[index] = problem
        return (torch.cat(good) if good else None), failed

    def report(self) -> None:
        """Log how many texts were cut, if any."""
        if self.num_cut:
            _log.warning("%d texts are longer than the model's context and were cut there", self.num_cut)
