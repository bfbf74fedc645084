"""Building blocks of the miniature archives."""

import functools
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pictures import encoded
from PIL import Image

from diptych.evalsets import get_prompts

Expected = dict[str, list[tuple[str, int]]]


@functools.cache
def _encoded(number: int, format: str) -> bytes:
    return encoded(Image.new("RGB", (8, 8), (number, 255 - number, number // 2)), format)


def picture(key: str) -> bytes:
    """The content of an image file; its color depends on its key."""
    format = {"png": "PNG", "ppm": "PPM"}.get(key.rsplit(".", 1)[-1], "JPEG")
    return _encoded(zlib.crc32(key.encode()) % 251, format)


def names(row: str) -> list[str]:
    return [several[0] for several in get_prompts(row).class_names]


def write(folder: Path, keys: Sequence[str]) -> None:
    """Write image files."""
    for parent in {(folder / key).parent for key in keys}:
        parent.mkdir(parents=True, exist_ok=True)
    for key in keys:
        (folder / key).write_bytes(picture(key))


def write_list(path: Path, rows: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in rows))


def planes(number: int, height: int, width: int, depth: int = 3) -> np.ndarray:
    """(depth, height, width): red is the column, green the row, blue the number."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, np.full((height, width), number)][:depth]).astype(np.uint8)


def arrays(split: str, labels: Sequence[int]) -> list[tuple[str, int]]:
    return [(f"{split}:{number}", label) for number, label in enumerate(labels)]
