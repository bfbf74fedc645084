"""One picture under all shifts, side by side: to see what the numbers are about."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from diptych.data.decoding import decode_image
from diptych.data.shifts import SHIFTS, shift_pixels
from diptych.errors import DataError

_LABEL, _GAP, _TEXT = 130, 6, 20  # pixels: the names' column, between pictures, the line above


def contact_sheet(
    picture: bytes | np.ndarray | Image.Image | str | Path,
    names: Sequence[str] | None = None,
    *,
    side: int = 112,
    key: str = "",
    seed: int = 0,
) -> Image.Image:
    """One row per shift: the picture itself, then each severity.

    Args:
        picture: anything that `decode_image` takes.
        names: some of SHIFTS; None for all.
        side: pixels of a cell; the picture is shrunk or enlarged to fit after it was shifted in its own size.
        key, seed: of the draws.
    Raises:
        ImageError: the picture cannot be decoded.
        ConfigError: there is no such shift.
    """
    pixels = np.asarray(decode_image(picture))
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
        shown = [pixels]
        shown += [shift_pixels(pixels, name, severity, key=key, seed=seed) for severity in _severities(name)]
        for column, one in enumerate(shown):
            sheet.paste(_fitted(one, side), (_LABEL + column * step, top))
    return sheet


def write_contact_sheet(picture: bytes | np.ndarray | Image.Image | str | Path, path: str | Path) -> None:
    """Write the sheet of all shifts as a PNG file.

    Raises:
        ImageError: the picture cannot be decoded.
        DataError: the file cannot be written.
    """
    sheet, path = contact_sheet(picture), Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path, "PNG")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}; choose another place") from error


def _severities(name: str) -> tuple[int, ...]:
    return SHIFTS[name].severities if name in SHIFTS else (1,)  # shift_pixels says that there is no such shift


def _fitted(pixels: np.ndarray, side: int) -> Image.Image:
    one = Image.fromarray(pixels)
    scale = side / max(one.size)
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return one.resize((max(1, round(one.width * scale)), max(1, round(one.height * scale))), how)
