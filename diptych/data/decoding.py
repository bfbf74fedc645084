"""Decodes an encoded file, array or PIL image to an upright RGB image, or raises an ImageError that gives the reason.

Decisions: The EXIF orientation is applied, because people caption what they see. Transparent images are composited on
white, as img2dataset and image viewers do (other packages differ: openai/CLIP's resize makes transparency black,
transformers shows the hidden colors). 16-bit gray is scaled to 8 bits, not clipped; values whose white level is unknown
are refused. Only the first frame of an animation is used. An ordinary photograph decodes as in every other package.
"""

import contextlib
import functools
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from diptych.data.decoding_limits import BinaryFile, check_scans, decode_netpbm, open_timed
from diptych.data.image_files import missing_decoder
from diptych.errors import ImageError
from diptych.files import HEAD, stand_in, stand_in_at

MAX_PIXELS = 89_478_485
"""Largest width x height that is decoded: Pillow's own limit, 256 MiB of RGB."""

# Formats whose decoders Pillow includes; others, such as EPS, would start an external program. JPEG includes MPO.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 0x0102
_OVERSHOOT = 1.5
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(
    image: bytes | bytearray | memoryview | np.ndarray | Image.Image | str | Path,
    *,
    max_pixels: int = MAX_PIXELS,
    target: int | None = None,
) -> Image.Image:
    """Decode an image.

    Args:
        image: an encoded file (JPEG, PNG, WebP, GIF, BMP, TIFF, PPM, AVIF, HEIF) as bytes or path; pixels, uint8
            (height, width) or (height, width, 1, 3 or 4); or a PIL image, which is not changed.
        max_pixels: an image whose header states more pixels is refused before anything is decoded.
        target: in training, decode a JPEG at 1/2, 1/4 or 1/8 of its size if the short side keeps `target` pixels.
    Returns:
        An upright image in mode RGB.
    Raises:
        ImageError: not an image, truncated, damaged, too large, or decoding takes too long.
    """
    where = f"{image}: " if isinstance(image, str | Path) else ""
    _silence_pillow()
    try:
        if isinstance(image, np.ndarray):
            return _to_rgb(_from_array(image), max_pixels)
        if isinstance(image, Image.Image):
            return _to_rgb(image, max_pixels)
        with _file(image) as file, Image.open(file, formats=_formats(file)) as opened:
            _check_size(opened.size, max_pixels)
            if opened.format in ("JPEG", "MPO"):
                check_scans(file, opened.width * opened.height)
                if target is not None:
                    opened.draft(None, (target, target))
            return _to_rgb(decode_netpbm(opened) or opened, max_pixels)
    except ImageError as error:
        raise ImageError(f"{where}{error}") from None
    except FileNotFoundError:
        raise ImageError(f"{where}there is no such file") from None
    except UnidentifiedImageError:
        reason = f"not a {', '.join(_FORMATS)} image, or its header is damaged"
        raise ImageError(f"{where}{_stand_in(image) or reason}") from None
    except Image.DecompressionBombError as error:
        raise ImageError(f"{where}the image is too large: {error}") from None
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        raise ImageError(f"{where}the image cannot be decoded: {error or type(error).__name__}") from error


@functools.cache
def _silence_pillow() -> None:
    """Silence Pillow's warnings about damaged metadata: they do not name the image, and one of 60 KB can give 5,000."""
    warnings.filterwarnings("ignore", module="PIL")


def _stand_in(image: object) -> str:
    """What the file is if it is a placeholder or empty; "" otherwise."""
    with contextlib.suppress(OSError):
        if isinstance(image, str | Path) and not Path(image).stat().st_size:
            return "the image is empty (0 bytes)"
    if isinstance(image, bytes | bytearray | memoryview):
        return stand_in(bytes(image[:HEAD]), len(image), "image")
    return stand_in_at(Path(image), "image") if isinstance(image, str | Path) else ""


@contextlib.contextmanager
def picture_errors() -> Iterator[None]:
    """Turn errors that one image causes into that image's ImageError; programming errors pass through."""
    try:
        yield
    except ImageError:
        raise
    except (MemoryError, OverflowError, ValueError, RuntimeError, SystemError) as error:
        raise ImageError(f"the image cannot be used: {str(error)[:200] or type(error).__name__}") from error


def _file(image: object) -> BinaryFile:
    if not isinstance(image, str | Path | bytes | bytearray | memoryview):
        raise ImageError(f"{type(image).__name__} is not an image; give bytes, a path, a uint8 array or a PIL image")
    if not isinstance(image, str | Path) and not len(image):
        raise ImageError("the image is empty (0 bytes)")
    return open_timed(image)


def _formats(file: BinaryFile) -> tuple[str, ...]:
    """The formats to try; AVIF and HEIF only for such files, because their decoders take time to import.

    Raises:
        ImageError: the file is AVIF or HEIF, and the decoder is not installed.
    """
    head = file.read(64)
    file.seek(0)
    if head[4:8] != b"ftyp":
        return _FORMATS
    end = min(len(head), int.from_bytes(head[:4], "big"))
    brands = {head[8:12], *(head[place : place + 4] for place in range(16, end, 4))}
    for name, extension, known in (("AVIF", "avif", _AVIF_BRANDS), ("HEIF", "heic", _HEIF_BRANDS)):
        if brands.isdisjoint(known):
            continue
        if advice := missing_decoder(extension):
            raise ImageError(f"an image in {name}, which cannot be decoded here: {advice}")
        if name == "HEIF":
            _register_heif()
        return (name,)
    return _FORMATS


@functools.cache
def _register_heif() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels: {width} x {height}")
    if width * height > max_pixels:
        raise ImageError(f"the image is too large: {width} x {height} pixels, more than {max_pixels}")


def _from_array(pixels: np.ndarray) -> Image.Image:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2] if pixels.ndim == 3 else 0
    if pixels.dtype != np.uint8 or channels not in (1, 3, 4) or not pixels.size:
        raise ImageError(
            f"an array of {pixels.dtype} and shape {pixels.shape} is not an image; it must be uint8 (height, width) "
            "or (height, width, 1, 3 or 4), and not empty"
        )
    return Image.fromarray(pixels[:, :, 0] if pixels.ndim == 3 and channels == 1 else pixels)


def _to_rgb(image: Image.Image, max_pixels: int) -> Image.Image:
    """The image upright and in 8-bit RGB; the argument is not changed."""
    _check_size(image.size, max_pixels)
    if image.mode == "I" and getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE) == (32,):
        raise ImageError("a TIFF of 32-bit integers does not say which value is white: save it in 8 or 16 bits")
    image = _upright(image)
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode.startswith(("I", "F")):
        return _to_8_bits(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    """The image rotated according to its EXIF orientation. Nothing else in EXIF is read or written.

    ImageOps.exif_transpose rewrites all of EXIF, which fails on values that have nothing to do with the pixels.
    """
    image.load()  # Pillow itself rotates a TIFF while loading it
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        turn = _TURNS.get(orientation)
    except Exception:  # the pixels may be fine even if EXIF is damaged
        return image
    return image if turn is None else image.transpose(turn)


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Convert modes I;16, I (PNG, TIFF, PGM) and F (TIFF) to L."""
    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    top = 65535.0
    if image.mode == "F":  # resampling may overshoot the range slightly; other values have another scale
        low, high = float(values.min()), float(values.max())
        top = 1.0 if high <= _OVERSHOOT else 255.0
        if high > _OVERSHOOT * top or low < (1 - _OVERSHOOT) * top:
            raise ImageError(
                f"an image of floating-point numbers from {low:g} to {high:g} does not say which is white: "
                "scale it to 0 to 1, or 0 to 255"
            )
    return Image.fromarray(np.clip(values * (255 / top) + 0.5, 0, 255).astype(np.uint8))
