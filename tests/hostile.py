"""Small files that need much time or memory: seeds for the tests of limits, made on demand."""

import io
import struct
import zlib

from PIL import Image


def strip(width: int, height: int) -> bytes:
    """A PNG with very few rows or columns: 2 KB for 700,000 pixels."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (200, 100, 50)).save(stream, "PNG")
    return stream.getvalue()


def jpeg_of_scans(num_scans: int, side: int = 4000) -> bytes:
    """A progressive JPEG whose last scan is repeated this many times."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), (9, 99, 50)).save(stream, "JPEG", progressive=True, quality=50)
    data = stream.getvalue()
    own, last = data.count(b"\xff\xda"), data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * (num_scans - own) + data[-2:]


def jpeg_of_segments(num_segments: int) -> bytes:
    """A JPEG with this many EXIF segments. Pillow joins them one by one and copies all of them each time."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 99, 50)).save(stream, "JPEG")
    data, piece = stream.getvalue(), b"Exif\0\0" + bytes(256)
    return data[:2] + (b"\xff\xe1" + struct.pack(">H", 2 + len(piece)) + piece) * num_segments + data[2:]


def netpbm(width: int, height: int, maximum: int, magic: str = "P6") -> bytes:
    """A black PGM or PPM with an unusual maximum value."""
    bands = 3 if magic == "P6" else 1
    return f"{magic} {width} {height} {maximum}\n".encode() + bytes(width * height * bands * (1 + (maximum > 255)))


def plain_netpbm(values: int) -> bytes:
    """A PPM written in decimal numbers."""
    return f"P3 {values // 3} 1 200\n".encode() + b"1 " * values


def png_without_pixels(width: int, height: int) -> bytes:
    """A PNG header of this image size, without data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")
