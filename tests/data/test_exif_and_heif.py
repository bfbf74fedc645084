"""EXIF decides nothing but the orientation; images of phones in HEIF and AVIF."""

import io
import struct
import sys

import numpy as np
import pytest
from pictures import encoded, noise
from PIL import Image, ImageOps

from diptych.data import image_files
from diptych.data.decoding import decode_image
from diptych.data.image_files import has_avif, missing_decoder
from diptych.errors import ImageError

SHORT, LONG, RATIONAL, SRATIONAL, FLOAT, DOUBLE = 3, 4, 5, 10, 11, 12


def directory(*entries: tuple[int, int, int, bytes | None], tail: bytes = b"") -> bytes:
    """An EXIF block, little endian, with one directory; a value of None lies in `tail`."""
    end = 8 + 2 + 12 * len(entries) + 4
    place = struct.pack("<L", end)
    rows = b"".join(
        struct.pack("<HHL", *head) + (place if value is None else value.ljust(4, b"\0")) for *head, value in entries
    )
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries)) + rows + b"\0\0\0\0" + tail


TURNED = (0x0112, SHORT, 1, struct.pack("<H", 6))
ODD = {
    "a rational of -1/0": directory(TURNED, (0x011A, SRATIONAL, 1, None), tail=struct.pack("<ll", -1, 0)),
    "a rational of 0/0": directory(TURNED, (0x9201, RATIONAL, 1, None), tail=struct.pack("<LL", 0, 0)),
    "NaN": directory(TURNED, (0x9201, DOUBLE, 1, None), tail=struct.pack("<d", float("nan"))),
    "infinity as a width": directory(TURNED, (0x0100, FLOAT, 1, struct.pack("<f", float("inf")))),
    "a value beyond the end": directory(TURNED, (0x9286, 7, 1000, struct.pack("<L", 1 << 30))),
    "2^31 values": directory(TURNED, (0x9286, 7, 1 << 31, struct.pack("<L", 8))),
    "a directory beyond the end": directory(TURNED, (0x8769, LONG, 1, struct.pack("<L", 1 << 30))),
    "a directory inside itself": directory(TURNED, (0x8769, LONG, 1, struct.pack("<L", 8))),
    "a directory of text": directory(TURNED, (0x8825, 2, 4, b"abcd")),
    "an unknown type": directory(TURNED, (0x9286, 99, 1, struct.pack("<L", 8))),
    "60 KB of a maker's notes": directory(TURNED, (0x9286, 7, 60_000, None), tail=b"x" * 60_000),
}
NO_ORIENTATION = {
    "text": directory((0x0112, 2, 2, b"6\0")),
    "NaN": directory((0x0112, FLOAT, 1, struct.pack("<f", float("nan")))),
    "9": directory((0x0112, SHORT, 1, struct.pack("<H", 9))),
    "0": directory((0x0112, SHORT, 1, struct.pack("<H", 0))),
    "of another byte order": b"Exif\0\0XX*\0\x08\0\0\0",
    "cut off": directory(TURNED)[:16],
    "empty": b"Exif\0\0",
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Possibly corrupt EXIF", "ignore:Tag data")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("name", ODD)
def test_odd_exif_never_costs_a_photograph(format, name):
    """The same pixels as with an EXIF block that says the orientation alone, turned by Pillow."""
    sound = Image.open(io.BytesIO(encoded(noise(24, 16), format, exif=directory(TURNED))))
    expected = np.asarray(ImageOps.exif_transpose(sound))
    assert expected.shape == (24, 16, 3)  # noise() is 24 wide; turned, it is 24 high
    assert np.array_equal(np.asarray(decode_image(encoded(noise(24, 16), format, exif=ODD[name]))), expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF", "ignore:Possibly corrupt EXIF")
@pytest.mark.parametrize("name", NO_ORIENTATION)
def test_a_broken_orientation_is_1(name):
    picture = noise(24, 16)
    decoded = decode_image(encoded(picture, "PNG", exif=NO_ORIENTATION[name]))
    assert np.array_equal(np.asarray(decoded), np.asarray(picture))


def test_a_tiff_is_turned_once():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = noise(24, 16)
    decoded = decode_image(encoded(picture, "TIFF", exif=exif))
    assert np.array_equal(np.asarray(decoded), np.rot90(np.asarray(picture), -1))


def test_heif():
    pillow_heif = pytest.importorskip("pillow_heif")
    picture = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[:, None, None] * 3, (1, 48, 3)))
    stream = io.BytesIO()
    pillow_heif.from_pillow(picture).save(stream, quality=95)
    decoded = decode_image(stream.getvalue())
    assert decoded.mode == "RGB" and decoded.size == (48, 64)
    assert np.abs(np.asarray(decoded, int) - np.asarray(picture, int)).mean() < 4
    with pytest.raises(ImageError, match="too large"):
        decode_image(stream.getvalue(), max_pixels=1000)


def test_heif_without_its_decoder_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(image_files.importlib.util, "find_spec", lambda name: None)
    missing_decoder.cache_clear()
    try:
        with pytest.raises(ImageError, match=r"HEIF.*diptych\[heif\]"):
            decode_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    finally:
        missing_decoder.cache_clear()


@pytest.mark.skipif(not has_avif(), reason="this Pillow reads no AVIF")
def test_avif():
    picture = noise(64, 48)
    decoded = decode_image(encoded(picture, "AVIF", quality=95))
    assert decoded.mode == "RGB" and decoded.size == (64, 48)
    assert np.abs(np.asarray(decoded, int) - np.asarray(picture, int)).mean() < 20
