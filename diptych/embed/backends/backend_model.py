"""A compiled model as an Encoder: what a Model does, without its network."""

import platform
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from diptych.data.library_tokenizer import AnyTokenizer
from diptych.data.transforms import evaluation_pixels
from diptych.embed.about import About
from diptych.embed.backends.array_encoder import encode_text_arrays
from diptych.embed.backends.compiled_model import CompiledModel
from diptych.embed.encoder import ImageInput
from diptych.embed.image_batches import OnError, embed_pictures
from diptych.errors import ShapeError, WeightsError
from diptych.files import shown

BATCH_SIZE = 64


class BackendModel:
    """Encodes images and texts with a compiled model; implements the Encoder protocol.

    Attributes:
        compiled: the graphs and their record.
        tokenizer: None if the model came without one; then encode_texts raises.
        preprocessing: how an image becomes pixels.
        name: name of the model in results.
    """

    def __init__(
        self, compiled: CompiledModel, tokenizer: AnyTokenizer | None, reload: "Callable[[], Any] | None" = None
    ) -> None:
        """Wrap a compiled model.

        Args:
            reload: loads the model again in another process, which may run on another machine with another cache; it
                must be picklable. None: another process opens the same folder.
        """
        self.compiled, self.tokenizer, self._reload = compiled, tokenizer, reload
        self.preprocessing, self.name = compiled.preprocessing, compiled.record.name

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reload is None:
            return BackendModel, (self.compiled, self.tokenizer)
        return _reloaded, (self._reload, self.image_fingerprint)

    def __repr__(self) -> str:
        record = self.compiled.record
        return (
            f"BackendModel({self.name!r}, {record.backend} {record.precision}, {self.preprocessing.image_size} px, "
            f"{record.embed_dim}-d)"
        )

    @property
    def logit_scale(self) -> float | None:
        """exp(t), the factor from cosines to logits; None for a model without."""
        return self.compiled.record.logit_scale

    @property
    def logit_bias(self) -> float | None:
        """The bias of SigLIP's logits; None for a model without."""
        return self.compiled.record.logit_bias

    @property
    def gflops(self) -> float:
        """Billions of multiply-adds of the image tower for one image."""
        return self.compiled.record.gflops

    @property
    def about(self) -> About:
        """What the model can do and what its results depend on; the fingerprints name back end and precision."""
        record = self.compiled.record
        texts = record.source_text_fingerprint
        return About(
            no_texts=self.compiled.record.no_texts,
            has_features=True,
            takes_pixels=True,
            logit_scale=record.logit_scale,
            logit_bias=record.logit_bias,
            image_fingerprint=record.fingerprint(record.source_image_fingerprint),
            text_fingerprint=None if texts is None or self.tokenizer is None else record.fingerprint(texts),
            gflops=record.gflops,
            precision=record.precision,
            backend=record.library,
            device=torch.device("cpu"),
            tokenizer=self.tokenizer,
        )

    def vector_dim(self, kind: str) -> int:
        """Numbers per vector of a kind, without opening a graph."""
        return self.compiled.record.features_dim if kind == "features" else self.compiled.record.embed_dim

    def release(self) -> None:
        """Close the graphs before processes are forked: the threads of an open one do not exist in the fork."""
        self.compiled.close()

    @property
    def fingerprint(self) -> str | None:
        """Changes whenever a text's embedding could change; None without a tokenizer."""
        return self.about.text_fingerprint

    @property
    def image_fingerprint(self) -> str | None:
        """Changes whenever an image's embedding could change."""
        return self.about.image_fingerprint

    def encode_images(
        self, images: Iterable[ImageInput], batch_size: int = BATCH_SIZE, *, on_error: OnError = "raise"
    ) -> torch.Tensor:
        """N images -> (N, E) float32, unit norm; see `Model.encode_images`."""
        return self._encode_images(images, self.encode_pixels, batch_size, on_error)

    def image_features(
        self, images: Iterable[ImageInput], batch_size: int = BATCH_SIZE, *, on_error: OnError = "raise"
    ) -> torch.Tensor:
        """N images -> (N, W) float32: the image tower's output before the projection, for probes."""
        return self._encode_images(images, self.pixel_features, batch_size, on_error)

    def encode_pixels(self, images: torch.Tensor, batch_size: int = BATCH_SIZE) -> torch.Tensor:
        """The output of `evaluation_pixels`, uint8 (N, 3, R, R) -> (N, E) float32, unit norm."""
        return self._batched(images, self.compiled.embed_pixels, batch_size, self.compiled.record.embed_dim)

    def pixel_features(self, images: torch.Tensor, batch_size: int = BATCH_SIZE) -> torch.Tensor:
        """The output of `evaluation_pixels`, uint8 (N, 3, R, R) -> (N, W) float32."""
        return self._batched(images, self.compiled.pixel_features, batch_size, self.compiled.record.features_dim)

    def encode_texts(self, texts: Sequence[str], truncate: bool = False, batch_size: int = BATCH_SIZE) -> torch.Tensor:
        """N texts -> (N, E) float32, unit norm; see `Model.encode_texts`.

        Raises:
            WeightsError: the model has no text side, or no tokenizer.
            TextError: a text is longer than the context.
        """
        if self.tokenizer is None or self.compiled.record.no_texts is not None:
            raise WeightsError(f"{self.name} {self.compiled.record.no_texts}")
        embeddings = encode_text_arrays(self.compiled, self.tokenizer, texts, batch_size, truncate=truncate)
        return torch.from_numpy(embeddings)

    def _batched(
        self, images: torch.Tensor, function: Callable[[np.ndarray], np.ndarray], batch_size: int, dim: int
    ) -> torch.Tensor:
        if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8:
            got = images.dtype if isinstance(images, torch.Tensor) else shown(images)
            raise ShapeError(f"{self.name} takes uint8 pixels in a tensor, not {got}")
        parts = [function(batch.numpy()) for batch in images.split(batch_size) if len(batch)]
        return torch.from_numpy(np.concatenate([np.zeros((0, dim), np.float32), *parts]))

    def _encode_images(
        self,
        images: Iterable[ImageInput],
        function: Callable[[torch.Tensor, int], torch.Tensor],
        batch_size: int,
        on_error: OnError,
    ) -> torch.Tensor:
        return embed_pictures(
            images,
            lambda image: evaluation_pixels(image, self.preprocessing),
            lambda pixels: function(pixels, batch_size),
            batch_size=batch_size,
            on_error=on_error,
        )


def _reloaded(reload: Callable[[], Any], fingerprint: str) -> Any:
    """The model on the machine of this process.

    Raises:
        WeightsError: it differs there.
    """
    model = reload()
    if model.about.image_fingerprint != fingerprint:
        raise WeightsError(
            f"{model.name} gives other vectors on {platform.node()} than where the work began: another model has that "
            "name there, or its back end failed its test"
        )
    return model
