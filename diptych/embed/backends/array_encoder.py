"""Images to vectors with a compiled model, as NumPy arrays: `BackendModel.encode_images` without torch."""

from collections.abc import Iterable

import numpy as np

from diptych.data.preprocessing import evaluation_array
from diptych.embed.backends.compiled_model import CompiledModel
from diptych.embed.image_inputs import ImageInput, OnError, prepared_batches


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
