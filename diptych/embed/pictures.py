"""What every encoder does with pictures: take them in batches, prepare each, and say what becomes of a broken one."""

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
from diptych.embed.encoder import Picture
from diptych.errors import ConfigError, ImageError
from diptych.model.device import num_cores

OnError = Literal["raise", "skip"] | Callable[[int, ImageError], None]
"""What becomes of a picture that cannot be decoded.

"raise" raises the ImageError, which names the picture's place; "skip" logs it and gives a row of NaN, so that row i
belongs to picture i as always; a function is called with the place and the error, and the row is NaN, too.
"""

_MOST_DECODERS = 8
_log = logging.getLogger(__name__)


def in_batches(pictures: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    """Lists of up to `size` pictures: of a list, an array of paths or of pixels (N, height, width, 3), or a generator.

    Raises:
        ImageError: it is a single picture.
    """
    single = isinstance(pictures, str | Path | bytes | bytearray | memoryview | Image.Image)
    if single or (isinstance(pictures, np.ndarray) and pictures.ndim != 1 and pictures.ndim < 4):
        raise ImageError("give a list of pictures, not a single one")
    if not isinstance(pictures, Iterable) and not hasattr(pictures, "__getitem__"):
        raise ImageError(f"give a list of pictures, not one {type(pictures).__name__}")
    rest = iter(pictures)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def embed_pictures(
    pictures: Iterable[Picture],
    prepare: Callable[[Image.Image], torch.Tensor],
    embed: Callable[[torch.Tensor], torch.Tensor],
    *,
    batch_size: int,
    on_error: OnError = "raise",
) -> torch.Tensor:
    """One row for each picture; no more than a batch of prepared pictures is in memory.

    Args:
        pictures: as `in_batches` takes them.
        prepare: a decoded picture -> (3, R, R), as the network takes it; several threads call it.
        embed: (n, 3, R, R) -> (n, E) float32 on the CPU.
        on_error: see OnError.
    Returns:
        (N, E) float32, with NaN in the rows of pictures that cannot be decoded; (0, E) of no pictures.
    Raises:
        ImageError: a picture cannot be decoded, and on_error is "raise".
        ConfigError: on_error is something else.
    """
    report = error_reporter(on_error)

    def attempt(picture: Picture) -> torch.Tensor | ImageError:
        try:
            return prepare(decode_image(picture))
        except ImageError as error:
            return error

    parts: list[torch.Tensor] = []
    sound: list[int] = []  # the places of their rows
    place = 0
    with ThreadPoolExecutor(min(_MOST_DECODERS, num_cores())) as pool:
        for batch in in_batches(pictures, batch_size):
            prepared = list(pool.map(attempt, batch))
            for index, one in enumerate(prepared):
                if isinstance(one, ImageError):
                    report(place + index, one)
            good = [one for one in prepared if isinstance(one, torch.Tensor)]
            if good:
                parts.append(embed(torch.stack(good)))
            sound += [place + index for index, one in enumerate(prepared) if isinstance(one, torch.Tensor)]
            place += len(batch)
    if not parts:  # a blank picture tells how wide a row is
        parts.append(embed(prepare(blank_picture())[None])[:0])
    return scattered(torch.cat(parts), sound, place)


def blank_picture() -> Image.Image:
    """A picture to learn the width of an encoder's vectors from."""
    return Image.new("RGB", (64, 64))


def scattered(rows: torch.Tensor, places: Sequence[int], number: int) -> torch.Tensor:
    """(n, E) rows at their places among `number`; the others are NaN."""
    if len(rows) == number:
        return rows
    result = torch.full((number, rows.shape[1]), torch.nan)
    result[list(places)] = rows
    return result


def error_reporter(on_error: Any) -> Callable[[int, ImageError], None]:
    """What to call with the place and the error of a picture that cannot be decoded.

    Raises:
        ConfigError: on_error is none of OnError.
    """
    if on_error == "raise":
        return _raise
    if on_error == "skip":
        return lambda place, error: _log.warning("skipped picture %d: %s", place, error)
    if callable(on_error):
        return on_error
    raise ConfigError(f'on_error must be "raise", "skip" or a function of place and error, not {on_error!r}')


def _raise(place: int, error: ImageError) -> None:
    raise ImageError(f"picture {place}: {error}") from error
