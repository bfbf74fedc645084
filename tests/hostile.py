"""Small files that ask for much: seeds for the tests of limits, made on the spot."""

import io
import struct
import zlib

from PIL import Image


def strip(width: int, height: int) -> bytes:
    """A PNG of one row or column, or of few; 2 KB for 700,000 pixels."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (200, 100, 50)).save(stream, "PNG")
    return stream.getvalue()


def jpeg_of_scans(num_scans: int, side: int = 4000) -> bytes:
    """A progressive JPEG whose last scan is repeated until there are so many."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (9, 99, 50)).save(stream, "JPEG", progressive=True, quality=50)
    data = stream.getvalue()
    own, last = data.count(b"\xff\xda"), data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * (num_scans - own) + data[-2:]


def jpeg_of_segments(num_segments: int) -> bytes:
    """A JPEG whose EXIF comes in so many pieces, which Pillow joins one by one, copying all of them each time."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 99, 50)).save(stream, "JPEG")
    data, piece = stream.getvalue(), b"Exif\0\0" + bytes(256)
    return data[:2] + (b"\xff\xe1" + struct.pack(">H", 2 + len(piece)) + piece) * num_segments + data[2:]


def netpbm(width: int, height: int, maximum: int, magic: str = "P6") -> bytes:
    """A black PGM or PPM whose brightest value is unusual."""
    bands = 3 if magic == "P6" else 1
    return f"{magic} {width} {height} {maximum}\n".encode() + bytes(width * height * bands * (1 + (maximum > 255)))


def plain_netpbm(values: int) -> bytes:
    """A PPM written in decimal numbers."""
    return f"P3 {values // 3} 1 200\n".encode() + b"1 " * values


def png_without_pixels(width: int, height: int) -> bytes:
    """A PNG header of that size and no data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")
