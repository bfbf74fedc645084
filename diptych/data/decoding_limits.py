"""Limits on decoding time: the number of scans in a JPEG, CPU time while a file is read, and slow decoders.

A small file can require much work. If the format states how much, that is checked first, so that every machine refuses
the same files; a time limit stops the rest.
"""

import io
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from diptych.errors import ImageError

MAX_SECONDS = 10.0
"""CPU seconds of this thread until the whole file is read. An intact image of 89 megapixels takes 2 to 4."""
MAX_SCANS = 100
"""Scans of a progressive JPEG; encoders write 6 to 20."""
MAX_SCANNED_PIXELS = 1 << 31
"""Pixels times scans: 24 scans of the largest image, 100 scans of a 21-megapixel image."""

_BLOCK, _SMALL = 1 << 14, 1 << 16
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
# Inside a scan, FF is followed by 00 or by one of the eight restart markers.
_MARKER = re.compile(rb"\xff([^\x00\x01\xff\xd0-\xd8])", re.DOTALL)


class _Timed(io.BufferedIOBase):
    """A file whose read fails once the time is up; Pillow's decoders read one block at a time."""

    _end = float("inf")
    _reads = 0

    def start_clock(self) -> None:
        """Allow MAX_SECONDS from now on."""
        self._end = time.thread_time() + MAX_SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        # A thread's clock needs a system call: one per block, or one for many small header reads.
        self._reads += 1
        if (self._reads & 63 == 0 or size is None or not 0 <= size < _BLOCK) and time.thread_time() > self._end:
            raise ImageError(f"decoding takes more than {MAX_SECONDS:g} seconds")
        return super().read(size)


class _TimedBytes(_Timed, io.BytesIO):
    pass


class _TimedFile(_Timed, io.BufferedReader):
    pass


BinaryFile = io.BytesIO | _TimedFile


def open_timed(image: str | Path | bytes | bytearray | memoryview) -> BinaryFile:
    """An encoded image as a file for Pillow, with its clock started; small data has no clock, as no decoder is slow.

    Raises:
        ImageError: the path is not a regular file: reading it may never end.
        OSError: the file cannot be opened.
    """
    if not isinstance(image, str | Path) and len(image) < _SMALL:
        return io.BytesIO(image)
    file: _TimedBytes | _TimedFile
    if isinstance(image, str | Path):
        if Path(image).exists() and not Path(image).is_file():
            raise ImageError("it is not a regular file")
        file = _TimedFile(io.FileIO(image))
    else:
        file = _TimedBytes(image)
    file.start_clock()
    return file


def check_scans(file: BinaryFile, pixels: int) -> None:
    """Refuse a JPEG with too many scans.

    Each scan of a progressive JPEG visits all pixels, however short the scan is: 368 KB can take 16 seconds.

    Raises:
        ImageError: there are more scans than MAX_SCANS or MAX_SCANNED_PIXELS allow.
    """
    if isinstance(file, io.BytesIO):
        data = file.getvalue()
    else:
        place = file.tell()
        file.seek(0)
        data = file.read()
        file.seek(place)
    allowed = min(MAX_SCANS, MAX_SCANNED_PIXELS // pixels)
    # First an upper bound: profiles and thumbnails may contain these two bytes, too.
    if data.count(bytes((0xFF, _START_OF_SCAN))) > allowed and count_scans(data) > allowed:
        raise ImageError(f"a JPEG of {pixels} pixels has more than {allowed} scans")


def count_scans(data: bytes) -> int:
    """The number of scans in a JPEG, counted from its markers."""
    count, place = 0, 2
    while (match := _MARKER.search(data, place)) is not None:
        marker, place = match[1][0], match.end()
        if marker == _END_OF_IMAGE:
            break
        count += marker == _START_OF_SCAN
        place += max(2, int.from_bytes(data[place : place + 2], "big"))
    return count


def decode_netpbm(opened: ImageFile.ImageFile) -> Image.Image | None:
    """A binary PGM or PPM whose maximum value is not 255, in Pillow's mode L, I or RGB; None for other files.

    Pillow decodes these value by value in Python, 64 MB in 90 seconds; NumPy does it at once with the same result.

    Raises:
        ImageError: the file is truncated.
    """
    tile: Any = opened.tile[0] if len(opened.tile) == 1 else None
    if opened.format != "PPM" or tile is None or tile[0] != "ppm" or opened.fp is None:
        return None
    (width, height), bands, maximum = opened.size, len(opened.getbands()), tile[3][-1]
    kind = np.dtype(np.uint8 if maximum < 256 else ">u2")
    opened.fp.seek(tile[2])
    size = width * height * bands * kind.itemsize
    data = opened.fp.read(size)
    if len(data) < size:
        raise ImageError(f"the image is truncated: {len(data)} of {size} bytes")
    highest = 65535 if opened.mode == "I" else 255
    table = np.minimum(np.round(np.arange(1 << 8 * kind.itemsize) / maximum * highest), highest)
    values = table.astype(np.int32 if opened.mode == "I" else np.uint8)[np.frombuffer(data, kind)]
    return Image.fromarray(values.reshape((height, width, bands) if bands > 1 else (height, width)))
