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
from diptych.errors import ConfigError, DiptychError, ImageError
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
    shapes: list[torch.Size] = []  # of the first that is sound
    place = 0
    with ThreadPoolExecutor(min(_MOST_DECODERS, num_cores())) as pool:
        for batch in in_batches(pictures, batch_size):
            prepared = [_of_one_shape(one, shapes) for one in pool.map(attempt, batch)]
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


def _of_one_shape(prepared: torch.Tensor | ImageError, shapes: list[torch.Size]) -> torch.Tensor | ImageError:
    """What was prepared; of another shape than the first one, an error."""
    if isinstance(prepared, ImageError):
        return prepared
    shapes += [] if shapes else [prepared.shape]
    if prepared.shape == shapes[0]:
        return prepared
    return ImageError(f"the picture is prepared as {tuple(prepared.shape)}, those before it as {tuple(shapes[0])}")


def guarded(prepare: Callable[[Any], Any]) -> Callable[[Any], torch.Tensor]:
    """Another library's preprocessing, of which every exception is the ImageError of the picture it is raised for."""

    def prepared(picture: Any) -> torch.Tensor:
        try:
            found = prepare(picture)
        except ImageError:
            raise
        except Exception as error:  # it raises what it likes
            raise ImageError(f"the model's preprocessing failed: {in_short(error)}") from error
        if not isinstance(found, torch.Tensor):
            raise ImageError(f"the model's preprocessing gave a {type(found).__name__}, which is no tensor")
        return found

    return prepared


def in_short(error: Exception) -> str:
    """An exception in one line; that of Diptych by its words, another one with its type."""
    words = str(error).strip().split("\n")[0][:300]
    return words if isinstance(error, DiptychError) else f"{type(error).__name__}: {words}"


def encode_apart(
    encode: Callable[[list[Any]], Any], pictures: Sequence[Any]
) -> tuple[torch.Tensor | None, dict[int, Exception]]:
    """Encode pictures together; where that fails, without those that fail alone.

    Args:
        encode: N >= 1 pictures -> (N, E); somebody else's, it may raise anything.
        pictures: decoded ones.
    Returns:
        the rows of the others, None where there are none, and by its place why a picture failed.
    Raises:
        Exception: what `encode` raises of all together where it raises nothing of any of them alone.
    """
    try:
        return torch.as_tensor(encode(list(pictures))), {}
    except Exception:
        failed: dict[int, Exception] = {}
        for place, picture in enumerate(pictures):
            try:
                encode([picture])
            except Exception as error:
                # An encoder of ours calls the picture by its place, which is 0 here.
                failed[place] = error.__cause__ if isinstance(error.__cause__, ImageError) else error
        if not failed:
            raise  # of all together
    good = [picture for place, picture in enumerate(pictures) if place not in failed]
    return (torch.as_tensor(encode(good)) if good else None), failed


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
