"""Image inputs of all encoders: the forms of an image, batches of them, and what to do with broken ones. No torch."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from PIL import Image

from diptych.data.decoding import decode_image
from diptych.errors import ConfigError, DiptychError, ImageError, InputError, ShapeError
from diptych.processor import num_cores

ImageInput = Image.Image | str | Path | bytes | np.ndarray
"""A PIL image, the path or the bytes of an encoded file, or pixels uint8 (height, width, 3)."""

OnError = Literal["raise", "skip"] | Callable[[int, ImageError], None]
"""How to handle an image that cannot be decoded.

"raise": raise the ImageError, whose message has the image's index. "skip": log the error; the row is NaN, so that row i
still belongs to image i. A function: it is called with the index and the error, and the row is NaN.
"""

_MAX_DECODERS = 8
_log = logging.getLogger(__name__)
Prepared = TypeVar("Prepared")  # an array or tensor with a shape


class PreparedBatch(Generic[Prepared]):
    """The images of a batch that could be decoded and prepared.

    Attributes:
        images: the network's inputs, all of one shape.
        indices: the place of each among all images.
        end: the number of images up to the end of this batch, broken ones included.
    """

    def __init__(self, images: list[Prepared], indices: list[int], end: int) -> None:
        self.images, self.indices, self.end = images, indices, end


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


def image_column(images: Any) -> Any:
    """The images of a table with one column, as pipelines pass it; anything else is returned unchanged.

    Args:
        images: a pandas or polars frame, or a 2-d array of objects or texts; or what `in_batches` takes.
    Raises:
        ShapeError: the table has several columns.
        InputError: it is a sparse matrix.
    """
    if hasattr(images, "toarray"):
        raise InputError("a sparse matrix holds no images; sparse input is not supported: give a list of images")
    shape: Any = getattr(images, "shape", ())
    is_frame = hasattr(images, "columns") and hasattr(images, "__dataframe__")
    if len(shape) != 2 or not (is_frame or (isinstance(images, np.ndarray) and images.dtype.kind in "OUST")):
        return images
    if shape[1] != 1:
        raise ShapeError(f"images are one column, and this table has {shape[1]}: choose the one with the images")
    return np.asarray(images)[:, 0]


def prepared_batches(
    images: Iterable[ImageInput], prepare: Callable[[Image.Image], Prepared], batch_size: int, on_error: OnError
) -> Iterator[PreparedBatch[Prepared]]:
    """Decode and prepare images in several threads. Memory holds at most one batch of prepared images.

    Args:
        images: as in `in_batches`.
        prepare: a decoded image -> the network's input; called from several threads.
        on_error: see OnError.
    Raises:
        ImageError: an image cannot be decoded, and on_error is "raise".
        ConfigError: on_error is not one of OnError.
    """
    report = error_reporter(on_error)

    def attempt(image: ImageInput) -> Prepared | ImageError:
        try:
            return prepare(decode_image(image))
        except ImageError as error:
            return error

    shapes: list[Any] = []  # the shape of the first good image
    count = 0
    with ThreadPoolExecutor(min(_MAX_DECODERS, num_cores())) as pool:
        for batch in in_batches(images, batch_size):
            good: list[Prepared] = []
            indices: list[int] = []
            for index, result in enumerate(pool.map(attempt, batch), start=count):
                checked = _check_shape(result, shapes)
                if isinstance(checked, ImageError):
                    report(index, checked)
                else:
                    good.append(checked)
                    indices.append(index)
            count += len(batch)
            yield PreparedBatch(good, indices, count)


def _check_shape(prepared: Any, shapes: list[Any]) -> Any:
    """The prepared image; an error if its shape differs from the first one's."""
    if isinstance(prepared, ImageError):
        return prepared
    shapes += [] if shapes else [prepared.shape]
    if prepared.shape == shapes[0]:
        return prepared
    return ImageError(f"the image is prepared as {tuple(prepared.shape)}, those before it as {tuple(shapes[0])}")


def in_short(error: Exception) -> str:
    """The first line of an exception's message, with the type in front unless it is a DiptychError."""
    message = str(error).strip().split("\n")[0][:300]
    return message if isinstance(error, DiptychError) else f"{type(error).__name__}: {message}"


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
