"""Image input shared by all encoders: batching, preparation, and handling of broken images."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from PIL import Image

from diptych.embed.image_inputs import ImageInput, OnError, error_reporter, in_batches, in_short, prepared_batches
from diptych.errors import ImageError

__all__ = [
    "OnError",
    "blank_picture",
    "embed_pictures",
    "encode_apart",
    "error_reporter",
    "guarded",
    "in_batches",
    "in_short",
    "scattered",
]


def embed_pictures(
    images: Iterable[ImageInput],
    prepare: Callable[[Image.Image], torch.Tensor],
    embed: Callable[[torch.Tensor], torch.Tensor],
    *,
    batch_size: int,
    on_error: OnError = "raise",
) -> torch.Tensor:
    """Embed images, one row each. Memory holds at most one batch of prepared images.

    Args:
        images: as in `in_batches`.
        prepare: a decoded image -> (3, R, R), the network's input; called from several threads.
        embed: (n, 3, R, R) -> (n, E) float32 on the CPU.
        on_error: see OnError.
    Returns:
        (N, E) float32; rows of images that cannot be decoded are NaN. (0, E) for no images.
    Raises:
        ImageError: an image cannot be decoded, and on_error is "raise".
        ConfigError: on_error is not one of OnError.
    """
    parts: list[torch.Tensor] = []
    good_indices: list[int] = []  # of the images that have a row
    count = 0
    for batch in prepared_batches(images, prepare, batch_size, on_error):
        if batch.images:
            parts.append(embed(torch.stack(batch.images)))
        good_indices += batch.indices
        count = batch.end
    if not parts:  # a blank image gives the width of a row
        parts.append(embed(prepare(blank_picture())[None])[:0])
    return scattered(torch.cat(parts), good_indices, count)


def guarded(prepare: Callable[[Any], Any]) -> Callable[[Any], torch.Tensor]:
    """Wrap another library's preprocessing, so that every exception becomes an ImageError."""

    def guarded_prepare(image: Any) -> torch.Tensor:
        try:
            pixels = prepare(image)
        except ImageError:
            raise
        except Exception as error:  # the library can raise anything
            raise ImageError(f"the model's preprocessing failed: {in_short(error)}") from error
        if not isinstance(pixels, torch.Tensor):
            raise ImageError(f"the model's preprocessing gave a {type(pixels).__name__}, which is no tensor")
        return pixels

    return guarded_prepare


def encode_apart(
    encode: Callable[[list[Any]], Any], images: Sequence[Any]
) -> tuple[torch.Tensor | None, dict[int, Exception]]:
    """Encode images as one batch; if that fails, leave out those that fail on their own.

    Args:
        encode: N >= 1 images -> (N, E); user code, which can raise anything.
        images: decoded images.
    Returns:
        The rows of the images that did not fail (None if all failed), and the exceptions of the others by index.
    Raises:
        Exception: the batch failed, but no image fails on its own; the batch's exception is raised.
    """
    try:
        return torch.as_tensor(encode(list(images))), {}
    except Exception:
        failed: dict[int, Exception] = {}
        for index, image in enumerate(images):
            try:
                encode([image])
            except Exception as error:
                # Diptych's own encoders put the index into the message, which is always 0 here.
                failed[index] = error.__cause__ if isinstance(error.__cause__, ImageError) else error
        if not failed:
            raise  # the batch's exception
    good = [image for index, image in enumerate(images) if index not in failed]
    return (torch.as_tensor(encode(good)) if good else None), failed


def blank_picture() -> Image.Image:
    """A black image, used to measure the width of an encoder's vectors."""
    return Image.new("RGB", (64, 64))


def scattered(rows: torch.Tensor, indices: Sequence[int], count: int) -> torch.Tensor:
    """(count, E) with the given rows (n, E) at their indices; the other rows are NaN."""
    if len(rows) == count:
        return rows
    result = torch.full((count, rows.shape[1]), torch.nan)
    result[list(indices)] = rows
    return result
