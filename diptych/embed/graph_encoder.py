"""An encoder of two graphs: image and text towers that another runtime computes, such as an ONNX folder's."""

import hashlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch

from diptych.data.library_tokenizer import AnyTokenizer
from diptych.data.transforms import Preprocessing, evaluation_pixels, normalise
from diptych.embed.about import About
from diptych.embed.encoder import ImageInput
from diptych.embed.image_batches import OnError, embed_pictures
from diptych.errors import WeightsError
from diptych.model.clip import normalised

BATCH_SIZE = 64
Graph = Callable[[np.ndarray], np.ndarray]
"""Images, float32 normalized or uint8 (N, 3, R, R), or tokens int64 (N, L) -> (N, E) of any norm."""
_NO_TEXTS = "has no text graph: probes can measure it, zero-shot cannot"
_NO_TOKENIZER = "came without a tokenizer: put its tokenizer.json beside the graphs"


class GraphEncoder:
    """Encodes images and texts by graphs of another runtime; implements the Encoder protocol.

    Attributes:
        name: name of the model in results.
        made_by: the runtime, with its version.
        preprocessing: how an image becomes the graph's input.
        takes_uint8: the image graph takes pixels uint8 and normalizes them itself.
        reads_padding: the padding after a text changes its embedding.
        tokenizer: None if the model came without one.
        logit_scale, logit_bias: what turns cosines into logits; None if unknown.
    """

    def __init__(
        self,
        name: str,
        *,
        made_by: str,
        images: Graph,
        texts: Graph | None,
        preprocessing: Preprocessing,
        tokenizer: AnyTokenizer | None,
        takes_uint8: bool = False,
        reads_padding: bool = False,
        logit_scale: float | None = None,
        logit_bias: float | None = None,
        fingerprint: str | None = None,
    ) -> None:
        """Wrap two graphs.

        Args:
            fingerprint: changes whenever a file of the model changes; None caches nothing.
        """
        self.name, self.made_by, self.preprocessing, self.tokenizer = name, made_by, preprocessing, tokenizer
        self.takes_uint8, self.reads_padding = takes_uint8, reads_padding
        self._images, self._texts = images, texts
        self.logit_scale, self.logit_bias = logit_scale, logit_bias
        no_texts = _NO_TEXTS if texts is None else None if tokenizer is not None else _NO_TOKENIZER
        text = None if tokenizer is None or fingerprint is None else f"{fingerprint} {tokenizer.fingerprint}"
        self.about = About(
            no_texts=no_texts,
            takes_pixels=True,
            logit_scale=logit_scale,
            logit_bias=logit_bias,
            image_fingerprint=None if fingerprint is None else _digest(f"{fingerprint} {preprocessing}"),
            text_fingerprint=None if text is None else _digest(text),
            device=torch.device("cpu"),
            tokenizer=tokenizer,
        )

    def __repr__(self) -> str:
        return f"GraphEncoder({self.name!r}, {self.made_by}, {self.preprocessing.image_size} px)"

    @property
    def image_fingerprint(self) -> str | None:
        """Changes whenever an image's embedding could change."""
        return self.about.image_fingerprint

    @property
    def fingerprint(self) -> str | None:
        """Changes whenever a text's embedding could change."""
        return self.about.text_fingerprint

    def encode_images(
        self, images: Iterable[ImageInput], batch_size: int = BATCH_SIZE, *, on_error: OnError = "raise"
    ) -> torch.Tensor:
        """N images -> (N, E) float32 on the CPU, unit norm; see `Model.encode_images`."""
        return embed_pictures(
            images,
            lambda image: evaluation_pixels(image, self.preprocessing),
            self.encode_pixels,
            batch_size=batch_size,
            on_error=on_error,
        )

    def encode_pixels(self, images: torch.Tensor, batch_size: int = BATCH_SIZE) -> torch.Tensor:
        """The output of `evaluation_pixels`, uint8 (N, 3, R, R) -> (N, E) float32, unit norm."""
        parts = [
            self.embed_inputs(batch if self.takes_uint8 else normalise(batch, self.preprocessing))
            for batch in images.split(batch_size)
        ]
        return normalised(torch.cat(parts))

    def embed_inputs(self, pixels: torch.Tensor) -> torch.Tensor:
        """The image graph's own input (N, 3, R, R) -> (N, E), of any norm."""
        return torch.from_numpy(self._images(pixels.numpy()))

    def encode_texts(self, texts: Sequence[str], truncate: bool = False, batch_size: int = BATCH_SIZE) -> torch.Tensor:
        """N texts -> (N, E) float32 on the CPU, unit norm.

        Raises:
            WeightsError: there is no text graph or no tokenizer.
            TextError: a text is longer than the context.
        """
        if self._texts is None or self.tokenizer is None:
            raise WeightsError(f"{self.name} {self.about.no_texts}")
        tokens, lengths = self.tokenizer(texts, truncate=truncate)
        # What stands after a text's end is padding, whatever the text said after it.
        tokens = tokens.masked_fill(torch.arange(tokens.shape[1]) >= lengths[:, None], self.tokenizer.pad_id).long()
        order = lengths.argsort(stable=True)  # texts of similar length share a batch, which is as long as its longest
        parts = [
            torch.from_numpy(self._texts(tokens[rows, : int(lengths[rows].max())].numpy()))
            for rows in order.split(batch_size)
            if len(rows)
        ]
        return normalised(torch.cat(parts))[order.argsort()] if parts else torch.zeros(0, 0)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
