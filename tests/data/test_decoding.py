"""Pictures that are odd, damaged, too large, or none at all."""

import contextlib
import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from pictures import encoded, gradient, noise
from PIL import Image

from diptych.data.decoding import decode_image
from diptych.errors import ImageError


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF"])
def test_formats(format):
    picture = decode_image(encoded(noise(40, 30), format))
    assert picture.mode == "RGB" and picture.size == (40, 30)
    difference = np.abs(np.asarray(picture, dtype=int) - np.asarray(noise(40, 30), dtype=int)).mean()
    assert difference < (12 if format in ("JPEG", "WEBP", "GIF") else 1e-9)


def test_every_kind_of_input(tmp_path):
    picture = noise(20, 10)
    data, pixels = encoded(picture, "PNG"), np.asarray(picture)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    for image in (data, bytearray(data), memoryview(data), path, str(path), pixels, picture, Image.open(path)):
        assert np.array_equal(np.asarray(decode_image(image)), pixels)
    grey = decode_image(pixels[:, :, 0])
    assert np.array_equal(np.asarray(grey)[:, :, 2], pixels[:, :, 0])
    assert np.array_equal(np.asarray(decode_image(pixels[:, :, :1])), np.asarray(grey))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (b"", "0 bytes"),
        (b"no picture at all", "header"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "header"),
        (3, "int is not an image"),
        (None, "NoneType is not an image"),
        ("missing.jpg", "missing.jpg: there is no such file"),
        (np.zeros((4, 4, 3)), "float64"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), "not empty"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
    ],
)
def test_no_picture(image, says):
    with pytest.raises(ImageError, match=says):
        decode_image(image)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_truncated(format):
    data = encoded(noise(300, 200), format)
    for share in (0.02, 0.3, 0.7, 0.95):
        for target in (None, 64):
            with pytest.raises(ImageError):
                decode_image(data[: int(len(data) * share)], target=target)


@pytest.mark.filterwarnings("ignore:::PIL")
def test_damaged_bytes_never_escape():
    """Whatever the damage: a picture or an ImageError, never another exception."""
    rng = np.random.default_rng(0)
    for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
        data = np.frombuffer(encoded(noise(32, 24), format), np.uint8)
        for _ in range(60):
            broken = data.copy()
            broken[rng.integers(0, len(data), 4)] = rng.integers(0, 256, 4)
            with contextlib.suppress(ImageError):
                assert decode_image(broken.tobytes(), max_pixels=10**6).mode == "RGB"


def bomb(width: int, height: int) -> bytes:
    """A PNG of 200 megapixels in a few kilobytes, all of it valid."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width // 8 + 1)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bomb_is_refused_before_it_is_decoded():
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for width, height in ((20_000, 10_000), (10_000, 9_500)):  # above and below the size at which Pillow itself objects
        with pytest.raises(ImageError, match="too large"):
            decode_image(bomb(width, height))
    with pytest.raises(ImageError, match="100 x 50 pixels, more than 4999"):
        decode_image(encoded(noise(100, 50), "JPEG"), max_pixels=4999)
    with pytest.raises(ImageError, match="too large"):
        decode_image(noise(100, 50), max_pixels=4999)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_bomb_as_jpeg_is_refused_although_draft_would_make_it_small():
    data = encoded(Image.new("L", (3000, 2000)), "JPEG")
    with pytest.raises(ImageError, match="3000 x 2000"):
        decode_image(data, max_pixels=10**6, target=8)


def test_greyscale_palette_and_cmyk():
    grey = noise(16, 16).convert("L")
    assert np.array_equal(np.asarray(decode_image(encoded(grey, "PNG"))), np.asarray(grey.convert("RGB")))
    palette = noise(16, 16).quantize(16)
    assert np.array_equal(np.asarray(decode_image(encoded(palette, "PNG"))), np.asarray(palette.convert("RGB")))
    bits = Image.fromarray(np.eye(16, dtype=bool))
    assert np.array_equal(np.asarray(decode_image(encoded(bits, "PNG")))[:, :, 0], np.eye(16) * 255)
    red = Image.new("RGB", (16, 16), (200, 30, 30)).convert("CMYK")
    for format in ("JPEG", "TIFF"):
        assert np.abs(np.asarray(decode_image(encoded(red, format)), int)[8, 8] - (200, 30, 30)).max() < 12


def test_16_bits_are_scaled_and_not_clipped():
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    for format in ("PNG", "TIFF", "PPM"):
        decoded = np.asarray(decode_image(encoded(Image.fromarray(values), format)))
        assert np.array_equal(decoded, np.repeat(np.arange(256).reshape(16, 16, 1), 3, axis=2)), format
    floats = Image.fromarray((values / 65535).astype(np.float32))
    assert np.array_equal(np.asarray(decode_image(encoded(floats, "TIFF")))[:, :, 0], np.arange(256).reshape(16, 16))


@pytest.mark.parametrize(("low", "high", "white"), [(0, 1, 1), (-0.1, 1.2, 1), (0, 255, 255), (-20, 300, 255)])
def test_floats_go_to_1_or_to_255_and_resampling_may_leave_some_outside(low, high, white):
    values = np.linspace(low, high, 64, dtype=np.float32).reshape(8, 8)
    decoded = np.asarray(decode_image(encoded(Image.fromarray(values), "TIFF")))[:, :, 0]
    assert np.abs(decoded - np.clip(values / white * 255, 0, 255)).max() <= 0.51


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.linspace(0, 65535, 64, dtype=np.float32), "floating-point numbers from 0 to 65535"),
        (np.linspace(-1, 1, 64, dtype=np.float32), "floating-point numbers from -1 to 1"),
        (np.arange(64, dtype=np.int32), "32-bit integers"),
    ],
)
def test_numbers_whose_white_nobody_knows_are_refused(values, says):
    """Black or white pictures would come of them, without a word."""
    with pytest.raises(ImageError, match=says):
        decode_image(encoded(Image.fromarray(values.reshape(8, 8)), "TIFF"))


def test_an_empty_file_is_called_so(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(ImageError, match=r"a\.jpg: the image is empty \(0 bytes\)"):
        decode_image(tmp_path / "a.jpg")


def test_damaged_exif_draws_no_remarks_of_pillows():
    """5,000 entries that lie outside the file: each had a line of its own, and none named the picture."""
    entries = b"".join(struct.pack(">HHII", 0x9000 + n, 2, 1000, 1 << 24) for n in range(50))
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 50) + entries + b"\0\0\0\0"
    data = encoded(noise(8, 8), "JPEG")
    picture = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    code = "import sys; from diptych.data.decoding import decode_image; decode_image(sys.stdin.buffer.read())"
    done = subprocess.run([sys.executable, "-c", code], input=picture, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")


def test_transparency_is_laid_on_white():
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4] = (255, 0, 0, 255)  # opaque red beside invisible black
    for image in (
        encoded(Image.fromarray(pixels), "PNG"),
        encoded(Image.fromarray(pixels), "WEBP", lossless=True),
        pixels,
    ):
        decoded = np.asarray(decode_image(image))
        assert decoded[0, 0].tolist() == [255, 0, 0] and decoded[0, 7].tolist() == [255, 255, 255]
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.paste(1, (0, 0, 4, 8))
    decoded = np.asarray(decode_image(encoded(palette, "PNG", transparency=0)))
    assert decoded[0, 0].tolist() == [40, 50, 60] and decoded[0, 7].tolist() == [255, 255, 255]
    opaque = noise(8, 8).convert("RGBA")
    assert np.array_equal(np.asarray(decode_image(encoded(opaque, "PNG"))), np.asarray(noise(8, 8)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = gradient(48, 32)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(encoded(stored, "PNG", exif=exif))
    assert np.array_equal(np.asarray(decoded), np.asarray(upright))
    drafted = decode_image(encoded(stored, "JPEG", exif=exif, quality=95), target=16)
    assert drafted.size == (24, 16)
    assert np.abs(np.asarray(drafted, int) - np.asarray(upright.resize((24, 16)), int)).mean() < 4


@pytest.mark.filterwarnings("ignore:::PIL")
def test_damaged_exif_is_passed_over():
    data = encoded(noise(16, 16), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert decode_image(data).size == (16, 16)


def test_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "green")]
    for format in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if format == "WEBP" else {}
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
        assert np.asarray(decode_image(data))[0, 0].tolist() == [255, 0, 0]


def test_scaled_decoding_keeps_the_short_side():
    data = encoded(noise(800, 600), "JPEG")
    assert decode_image(data).size == (800, 600)
    for target, size in ((64, (100, 75)), (75, (100, 75)), (76, (200, 150)), (224, (400, 300)), (400, (800, 600))):
        assert decode_image(data, target=target).size == size
    assert decode_image(encoded(noise(800, 600), "PNG"), target=64).size == (800, 600)


def test_a_pil_image_is_not_changed():
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.open(io.BytesIO(encoded(noise(20, 10), "PNG", exif=exif)))
    assert decode_image(picture).size == (10, 20)
    assert picture.size == (20, 10) and picture.getexif()[0x0112] == 6
