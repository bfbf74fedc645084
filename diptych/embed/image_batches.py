"""Image input shared by all encoders: batching, preparation, and handling of broken images."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from diptych.data.decoding import decode_image
from diptych.embed.encoder import ImageInput
from diptych.errors import ConfigError, DiptychError, ImageError
from diptych.model.device import num_cores

OnError = Literal["raise", "skip"] | Callable[[int, ImageError], None]
"""How to handle an image that cannot be decoded.

"raise": raise the ImageError, whose message has the image's index. "skip": log the error; the row is NaN, so that row i
still belongs to image i. A function: it is called with the index and the error, and the row is NaN.
"""

_MAX_DECODERS = 8
_log = logging.getLogger(__name__)


def in_batches(images: Iterable[ImageInput], size: int) -> Iterator[list[ImageInput]]:
    """Split images into lists of up to `size`.

    Args:
        images: a list, an array of paths or of pixels (N, height, width, 3), or a generator.
        size: images per list.
    Raises:
        ImageError: `images` is a single image.
    """
    single = isinstance(images, str | Path | bytes | bytearray | memoryview | Image.Image)
    if single or (isinstance(images, np.ndarray) and images.ndim != 1 and images.ndim < 4):
        raise ImageError("give a list of images, not a single one")
    if not isinstance(images, Iterable) and not hasattr(images, "__getitem__"):
        raise ImageError(f"give a list of images, not one {type(images).__name__}")
    rest = iter(images)
    while batch := list(itertools.islice(rest, size)):
        yield batch


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
    report = error_reporter(on_error)

    def attempt(image: ImageInput) -> torch.Tensor | ImageError:
        try:
            return prepare(decode_image(image))
        except ImageError as error:
            return error

    parts: list[torch.Tensor] = []
    good_indices: list[int] = []  # of the images that have a row
    shapes: list[torch.Size] = []  # the shape of the first good image
    count = 0
    with ThreadPoolExecutor(min(_MAX_DECODERS, num_cores())) as pool:
        for batch in in_batches(images, batch_size):
            prepared = [_check_shape(result, shapes) for result in pool.map(attempt, batch)]
            for index, result in enumerate(prepared, start=count):
                if isinstance(result, ImageError):
                    report(index, result)
            good = [result for result in prepared if isinstance(result, torch.Tensor)]
            if good:
                parts.append(embed(torch.stack(good)))
            good_indices += [i for i, result in enumerate(prepared, start=count) if isinstance(result, torch.Tensor)]
            count += len(batch)
    if not parts:  # a blank image gives the width of a row
        parts.append(embed(prepare(blank_picture())[None])[:0])
    return scattered(torch.cat(parts), good_indices, count)


def _check_shape(prepared: torch.Tensor | ImageError, shapes: list[torch.Size]) -> torch.Tensor | ImageError:
    """The prepared image; an error if its shape differs from the first one's."""
    if isinstance(prepared, ImageError):
        return prepared
    shapes += [] if shapes else [prepared.shape]
    if prepared.shape == shapes[0]:
        return prepared
    return ImageError(f"the image is prepared as {tuple(prepared.shape)}, those before it as {tuple(shapes[0])}")


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


def in_short(error: Exception) -> str:
    """The first line of an exception's message, with the type in front unless it is a DiptychError."""
    message = str(error).strip().split("\n")[0][:300]
    return message if isinstance(error, DiptychError) else f"{type(error).__name__}: {message}"


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


def error_reporter(on_error: Any) -> Callable[[int, ImageError], None]:
    """The function to call with the index and the error of an image that cannot be decoded.

    Raises:
        ConfigError: on_error is not one of OnError.
    """
    if on_error == "raise":
        return _raise
    if on_error == "skip":
        return lambda index, error: _log.warning("skipped image %d: %s", index, error)
    if callable(on_error):
        return on_error
    raise ConfigError(f'on_error must be "raise", "skip" or a function of index and error, not {on_error!r}')


def _raise(index: int, error: ImageError) -> None:
    raise ImageError(f"image {index}: {error}") from error
