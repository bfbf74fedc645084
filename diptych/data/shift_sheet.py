"""A contact sheet: one image under all shifts, side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from diptych.data.decoding import decode_image
from diptych.data.shifts import SHIFTS, shift_pixels
from diptych.errors import DataError

_LABEL, _GAP, _TEXT = 130, 6, 20  # pixels: width of the name column, gap between images, height of the header


def contact_sheet(
    image: bytes | np.ndarray | Image.Image | str | Path,
    names: Sequence[str] | None = None,
    *,
    side: int = 112,
    key: str = "",
    seed: int = 0,
) -> Image.Image:
    """Draw one row per shift: the unchanged image, then each severity.

    Args:
        image: anything that `decode_image` accepts.
        names: names from SHIFTS; None for all.
        side: size of a cell in pixels; the shift is applied at the image's own size, then the result is resized.
        key, seed: determine the random draws.
    Raises:
        ImageError: the image cannot be decoded.
        ConfigError: a shift does not exist.
    """
    pixels = np.asarray(decode_image(image))
    names = list(SHIFTS if names is None else names)
    most = max((len(SHIFTS[name].severities) for name in names if name in SHIFTS), default=1)
    step = side + _GAP
    sheet = Image.new("RGB", (_LABEL + (1 + most) * step, _TEXT + len(names) * step), "white")
    draw = ImageDraw.Draw(sheet)
    for column in range(1 + most):
        draw.text((_LABEL + column * step, 4), str(column) if column else "as it is", fill="black")
    for row, name in enumerate(names):
        top = _TEXT + row * step
        draw.text((_GAP, top + side // 2 - 6), name, fill="black")
        cells = [pixels]
        cells += [shift_pixels(pixels, name, severity, key=key, seed=seed) for severity in _severities(name)]
        for column, cell in enumerate(cells):
            sheet.paste(_fitted(cell, side), (_LABEL + column * step, top))
    return sheet


def write_contact_sheet(image: bytes | np.ndarray | Image.Image | str | Path, path: str | Path) -> None:
    """Write the sheet of all shifts as a PNG file.

    Raises:
        ImageError: the image cannot be decoded.
        DataError: the file cannot be written.
    """
    sheet, path = contact_sheet(image), Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, "PNG")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def _severities(name: str) -> tuple[int, ...]:
    return SHIFTS[name].severities if name in SHIFTS else (1,)  # shift_pixels raises the error for an unknown shift


def _fitted(pixels: np.ndarray, side: int) -> Image.Image:
    image = Image.fromarray(pixels)
    scale = side / max(image.size)
    resampling = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), resampling)
