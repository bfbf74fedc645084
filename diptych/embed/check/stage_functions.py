"""The stages of an encoder as functions, which a check runs one by one. Each kind of encoder has an adapter."""

import dataclasses
import importlib.metadata
import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image

from diptych.data.decoding import decode_image
from diptych.data.library_tokenizer import AnyTokenizer
from diptych.embed.check.known_differences import Known


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stages:
    """The stages of one encoder. A function is None if the encoder does not show that stage.

    Attributes:
        name: the model, as in the report.
        made_by: the library that computes, with its version.
        library: "diptych", "transformers", "open_clip", or "" if unknown.
        open: the bytes of a file -> the image as it is handed to `prepare`.
        prepare: an image -> float32 (3, R, R) as the network takes it.
        features: float32 (n, 3, R, R) -> (n, W), before the projection.
        embed_pixels: float32 (n, 3, R, R) -> (n, E), of any norm. None for an encoder without `prepare`.
        embed_images: RGB images -> (n, E). Used only without `embed_pixels`.
        tokens: n texts -> n arrays of ids, each as far as the text tower reads it.
        embed_texts: n texts -> (n, E), of any norm.
        no_texts: why `embed_texts` is None.
        logit_scale: exp(t), which multiplies cosines.
        logit_bias: what a model with SigLIP's loss adds to them; None for a softmax.
        known: the differences from Diptych that the library makes on purpose.
    """

    name: str
    made_by: str
    library: str = ""
    open: Callable[[bytes], Image.Image] = decode_image
    prepare: Callable[[Image.Image], torch.Tensor] | None = None
    features: Callable[[torch.Tensor], torch.Tensor] | None = None
    embed_pixels: Callable[[torch.Tensor], torch.Tensor] | None = None
    embed_images: Callable[[Sequence[Image.Image]], torch.Tensor] | None = None
    tokens: Callable[[Sequence[str]], list[np.ndarray]] | None = None
    embed_texts: Callable[[Sequence[str]], torch.Tensor] | None = None
    no_texts: str | None = None
    logit_scale: float | None = None
    logit_bias: float | None = None
    known: Known = dataclasses.field(default_factory=dict)


def tokens_as_read(tokenizer: AnyTokenizer, texts: Sequence[str], *, reads_padding: bool) -> list[np.ndarray]:
    """The ids of each text as far as the text tower reads them: to the text's end, or with the padding after it."""
    if reads_padding:
        return list(tokenizer(list(texts), truncate=True, pad_to=tokenizer.context_length)[0].numpy())
    ids, lengths = tokenizer(list(texts), truncate=True)
    return [row[:length] for row, length in zip(ids.numpy(), lengths.tolist(), strict=True)]


def open_by_pillow(data: bytes) -> Image.Image:
    """The image as Pillow opens it, in its own mode."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def version_of(package: str) -> str:
    """ "transformers 5.0.0"; the bare name if the package is not installed under it."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return package
