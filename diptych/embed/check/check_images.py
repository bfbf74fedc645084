"""The 32 images of a check, drawn by code: every kind of file on which libraries are known to differ.

Nothing here is a data file. The encoded bytes may depend on the version of Pillow; within one check both models read
the same bytes, and a record holds a digest of the decoded pixels.
"""

import dataclasses
import functools
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TRANSPARENCY, ORIENTATION, SIXTEEN_BITS, NOT_RGB, STRIP = "transparency", "orientation", "16 bits", "not RGB", "strip"
"""What is special about an image, where libraries differ on purpose."""

_ORIENTATION_TAG = 0x0112
_SEED = 20210226


@dataclasses.dataclass(frozen=True)
class CheckImage:
    """One image of a check.

    Attributes:
        name: what it is, for the report.
        data: the encoded file.
        trait: one of the words above if libraries treat such an image differently on purpose; "" otherwise.
    """

    name: str
    data: bytes
    trait: str = ""


@functools.cache
def check_images() -> tuple[CheckImage, ...]:
    """The 32 images, always in the same order."""
    return (*_plain_files(), *_transparent_files(), *_other_modes(), *_turned_files())


def _plain_files() -> list[CheckImage]:
    """RGB and grey: an ordinary loader, whatever the library, decodes them to the same pixels."""
    return [
        CheckImage("noise", _png(_noise(640, 480, 1))),
        CheckImage("gradient", _png(_scene(300, 200, 2))),
        CheckImage("one pixel", _png(Image.new("RGB", (1, 1), (180, 90, 30)))),
        CheckImage("1 x 500", _png(_noise(1, 500, 3)), STRIP),
        CheckImage("700 x 3", _png(_noise(700, 3, 4)), STRIP),
        CheckImage("37 x 901", _png(_scene(37, 901, 5))),
        CheckImage("2113 x 1409 JPEG", _encoded(_scene(704, 469, 6).resize((2113, 1409)), "JPEG", quality=90)),
        CheckImage("333 x 251 JPEG", _encoded(_scene(333, 251, 7), "JPEG", quality=60, subsampling=2)),
        CheckImage("progressive JPEG", _encoded(_scene(400, 300, 8), "JPEG", progressive=True)),
        CheckImage("224 x 224", _png(_scene(224, 224, 9))),
        CheckImage("checks of one pixel", _png(_checks(512))),
        CheckImage("written words", _png(_words())),
        CheckImage("WebP", _encoded(_scene(320, 241, 10), "WEBP", lossless=True)),
        CheckImage("grey", _png(_scene(123, 321, 11).convert("L"))),
        CheckImage("grey JPEG", _encoded(_scene(200, 150, 12).convert("L"), "JPEG")),
    ]


def _transparent_files() -> list[CheckImage]:
    palette = _scene(160, 120, 17).quantize(32)
    return [
        CheckImage("RGBA", _png(_faded(_scene(180, 260, 13))), TRANSPARENCY),
        CheckImage("grey with alpha", _png(_faded(_scene(240, 180, 14)).convert("LA")), TRANSPARENCY),
        CheckImage("transparent colour", _png(_with_hole(_scene(150, 150, 15)), transparency=(0, 0, 0)), TRANSPARENCY),
        CheckImage("WebP with alpha", _encoded(_faded(_scene(200, 200, 16)), "WEBP", lossless=True), TRANSPARENCY),
        CheckImage("palette with transparency", _encoded(palette, "PNG", transparency=3), TRANSPARENCY),
    ]


def _other_modes() -> list[CheckImage]:
    """Modes that a library may resize before it converts them to RGB."""
    ramp = np.linspace(0, 65535, 210 * 130).reshape(130, 210).astype(np.uint16)
    return [
        CheckImage("palette", _png(_scene(260, 190, 18).quantize(64)), NOT_RGB),
        CheckImage("GIF", _encoded(_scene(190, 260, 19).quantize(64), "GIF"), NOT_RGB),
        CheckImage("one bit", _png(_scene(300, 240, 20).convert("1")), NOT_RGB),
        CheckImage("CMYK JPEG", _encoded(_scene(280, 210, 21).convert("CMYK"), "JPEG", quality=92), NOT_RGB),
        CheckImage("16-bit grey", _png(Image.fromarray(ramp)), SIXTEEN_BITS),
    ]


def _turned_files() -> list[CheckImage]:
    """EXIF orientations 2 to 8."""
    images = []
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[_ORIENTATION_TAG] = orientation
        data = _encoded(_scene(310, 200, 20 + orientation), "JPEG", exif=exif)
        images.append(CheckImage(f"EXIF orientation {orientation}", data, ORIENTATION))
    return images


def _noise(width: int, height: int, seed: int) -> Image.Image:
    rng = np.random.default_rng(_SEED + seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def _scene(width: int, height: int, seed: int) -> Image.Image:
    """A gradient as of a sky, discs and bars with edges, and a little grain: what photographs consist of."""
    rng = np.random.default_rng(_SEED + seed)
    rows, columns = np.mgrid[0:height, 0:width] / max(width, height)
    first, second, slope = rng.integers(0, 256, 3), rng.integers(0, 256, 3), rng.random()
    share = np.clip(rows * slope + columns * (1 - slope), 0, 1)[:, :, None]
    pixels = first * (1 - share) + second * share
    for _ in range(8):
        x, y, radius = rng.random(), rng.random(), 0.05 + 0.2 * rng.random()
        inside = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
        bars = inside & (np.sin(40 * (columns + rows) * rng.random()) > 0)
        pixels[bars if rng.random() < 0.5 else inside] = rng.integers(0, 256, 3)
    pixels = pixels + rng.integers(-6, 7, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _checks(size: int) -> Image.Image:
    rows, columns = np.mgrid[0:size, 0:size]
    return Image.fromarray(((rows + columns) % 2 * 255).astype(np.uint8)).convert("RGB")


def _words() -> Image.Image:
    image = Image.new("RGB", (420, 180), (250, 250, 240))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default_imagefont()  # always the same letters, whatever fonts are installed
    for line in range(12):
        draw.text(
            (8 + 5 * line, 6 + 14 * line), f"line {line}: The quick brown fox, 0123456789 %&?!", (20, 20, 60), font
        )
    return image


def _faded(image: Image.Image) -> Image.Image:
    """The image with an alpha channel from clear to opaque."""
    ramp = np.linspace(0, 255, image.width * image.height).reshape(image.height, image.width).astype(np.uint8)
    image = image.convert("RGBA")
    image.putalpha(Image.fromarray(ramp))
    return image


def _with_hole(image: Image.Image) -> Image.Image:
    """The image with a black square, whose colour can be declared transparent."""
    image.paste((0, 0, 0), (20, 30, 90, 80))
    return image


def _png(image: Image.Image, **options: object) -> bytes:
    return _encoded(image, "PNG", **options)


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    save: Callable[..., None] = image.save
    save(buffer, kind, **options)
    return buffer.getvalue()
