"""Images and texts to vectors with a compiled model, as NumPy arrays: what `BackendModel` does, without torch."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from diptych.data.preprocessing import evaluation_array
from diptych.embed.backends.compiled_model import CompiledModel
from diptych.embed.image_inputs import ImageInput, OnError, prepared_batches

if TYPE_CHECKING:
    from diptych.data.library_tokenizer import AnyTokenizer


def encode_arrays(
    compiled: CompiledModel, images: Iterable[ImageInput], batch_size: int, on_error: OnError = "raise"
) -> np.ndarray:
    """N images -> (N, E) float32, unit norm; rows of images that cannot be decoded are NaN.

    Raises:
        ImageError: an image cannot be decoded, and on_error is "raise".
    """
    parts: list[np.ndarray] = []
    start = 0
    for batch in prepared_batches(
        images, lambda image: evaluation_array(image, compiled.preprocessing), batch_size, on_error
    ):
        rows = np.full((batch.end - start, compiled.record.embed_dim), np.nan, np.float32)
        if batch.images:
            rows[np.array(batch.indices) - start] = compiled.embed_pixels(np.stack(batch.images))
        parts.append(rows)
        start = batch.end
    return np.concatenate(parts) if parts else np.zeros((0, compiled.record.embed_dim), np.float32)


def encode_text_arrays(
    compiled: CompiledModel, tokenizer: "AnyTokenizer", texts: Sequence[str], batch_size: int, *, truncate: bool = False
) -> np.ndarray:
    """N texts -> (N, E) float32, unit norm. Each batch holds texts of similar length, up to its longest text.

    Raises:
        TextError: a text is longer than the context.
    """
    tokens, lengths = tokenizer.arrays(texts, truncate=truncate)
    tokens = np.where(np.arange(tokens.shape[1]) < lengths[:, None], tokens, tokenizer.pad_id)
    order = np.argsort(lengths, kind="stable")
    embeddings = np.zeros((len(tokens), compiled.record.embed_dim), np.float32)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        embeddings[rows] = compiled.embed_tokens(tokens[rows, : int(lengths[rows].max())])
    return embeddings
