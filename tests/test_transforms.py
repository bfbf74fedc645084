"""Pictures to pixels: parity with torchvision, bad and odd input, and the augmentation's geometry."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.data.decoding import decode_image
from diptych.data.transforms import Augmentation, Preprocessing, evaluation_pixels, normalise, training_pixels
from diptych.errors import ConfigError, ImageError

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos" / "0.tar.gz"


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth random picture: pure noise would make every resize look alike."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def gradient(width: int, height: int) -> Image.Image:
    """Red counts columns, green counts rows."""
    columns, rows = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([columns, rows, np.zeros_like(rows)], axis=2).astype(np.uint8))


# ---- evaluation: bit for bit what torchvision does

SIZES = [
    (500, 375),
    (375, 500),
    (400, 296),
    (64, 64),
    (65, 64),
    (64, 67),
    (30, 20),
    (7, 333),
    (1, 1),
    (225, 224),
    (333, 332),
]


@pytest.fixture(scope="module")
def vision():
    import peers  # noqa: F401  (makes the import below work beside a CPU build of torch)

    return pytest.importorskip("torchvision.transforms", reason="the peer torchvision is not installed")


@pytest.mark.parametrize("image_size", [32, 64, 224, 337])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_evaluation_equals_torchvision(vision, image_size, interpolation):
    mode = vision.InterpolationMode(interpolation)
    reference = vision.Compose([vision.Resize(image_size, mode), vision.CenterCrop(image_size), vision.PILToTensor()])
    for width, height in SIZES:
        picture = noise(width, height)
        ours = evaluation_pixels(picture, Preprocessing(image_size, interpolation=interpolation))
        assert ours.dtype == torch.uint8 and ours.is_contiguous()
        assert torch.equal(ours, reference(picture)), (width, height)


def test_squash_equals_torchvision(vision):
    reference = vision.Compose([vision.Resize((48, 48), vision.InterpolationMode.BICUBIC), vision.PILToTensor()])
    for width, height in SIZES:
        picture = noise(width, height)
        assert torch.equal(evaluation_pixels(picture, Preprocessing(48, resize="squash")), reference(picture))


def test_photos_and_normalisation_equal_open_clip(vision):
    if not PHOTOS.is_file():
        pytest.skip(f"{PHOTOS} is not there")
    import tarfile

    from open_clip.transform import image_transform

    reference = image_transform(224, is_train=False)
    with tarfile.open(PHOTOS) as tar:
        pictures = [tar.extractfile(m).read() for m in tar if m.name.endswith(".jpg")][:12]
    for data in pictures:
        theirs = reference(Image.open(io.BytesIO(data)))
        ours = evaluation_pixels(decode_image(data), Preprocessing())
        assert torch.equal(normalise(ours[None], Preprocessing())[0], theirs)


def test_normalise_dtype():
    images = torch.arange(3 * 4 * 4, dtype=torch.uint8).reshape(1, 3, 4, 4)
    exact = normalise(images, Preprocessing(4))
    assert torch.equal(normalise(images, Preprocessing(4), torch.bfloat16), exact.bfloat16())
    assert exact[0, 1, 0, 0].item() == pytest.approx((16 / 255 - 0.4578275) / 0.26130258, abs=1e-6)
    assert images[0, 0, 0, 1] == 1  # untouched


# ---- decoding: the odd and the bad


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
        (3, "int is no picture"),
        (None, "NoneType is no picture"),
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


# ---- training


def crops(picture, augmentation, count=200, image_size=32):
    rng = np.random.default_rng(0)
    preprocessing = Preprocessing(image_size)
    return torch.stack([training_pixels(picture, preprocessing, augmentation, rng) for _ in range(count)])


def test_training_is_the_random_square_of_the_resized_image():
    """The square is as large as the short side, and its place runs evenly from one end to the other."""
    for width, height, axis in ((96, 32, 0), (32, 96, 1)):
        pixels = crops(gradient(width, height), Augmentation()).float()
        along, across = pixels[:, axis], pixels[:, 1 - axis]
        assert across.amin().item() < 5 and across.amax().item() > 250  # the whole of the short side
        spans = along.amax(dim=(1, 2)) - along.amin(dim=(1, 2))
        assert spans.min() > 75 and spans.max() < 90  # a third of the long side
        middles = along.mean(dim=(1, 2))
        assert middles.min() < 50 and middles.max() > 205
        assert np.histogram(middles, bins=4, range=(42, 213))[0].min() > 25


def test_training_resize_is_close_to_the_evaluations():
    for seed, size in enumerate(((375, 375), (90, 90), (32, 32), (20, 20))):
        picture = noise(*size, seed=seed)
        ours = training_pixels(picture, Preprocessing(32), Augmentation(), np.random.default_rng(0)).int()
        difference = (ours - evaluation_pixels(picture, Preprocessing(32)).int()).abs()
        assert difference.max() <= 2 and difference.float().mean() < 0.2


def test_centre_crop():
    pixels = crops(gradient(96, 32), Augmentation(crop="centre"), count=3)
    assert (pixels[0] == pixels[1]).all()
    expected = evaluation_pixels(gradient(96, 32), Preprocessing(32))
    assert (pixels[0].int() - expected.int()).abs().max() <= 2


def test_rescale_takes_a_share_of_the_area():
    pixels = crops(gradient(64, 64), Augmentation(rescale=(0.25, 0.5))).float()
    spans = (pixels[:, 0].amax(dim=(1, 2)) - pixels[:, 0].amin(dim=(1, 2))) / 255
    areas = spans**2
    assert areas.min() > 0.2 and areas.max() < 0.53 and areas.std() > 0.05
    assert Augmentation(rescale=(0.25, 0.5)).decoding_target(64) == 128


def test_flip_colour_and_blur():
    picture = gradient(32, 32)
    plain = crops(picture, Augmentation(), 1)[0]
    flipped = crops(picture, Augmentation(flip=0.5))
    mirrored = (flipped == plain.flip(-1)).all(dim=(1, 2, 3))
    assert ((flipped == plain).all(dim=(1, 2, 3)) ^ mirrored).all()
    assert 70 < mirrored.sum() < 130
    colour = crops(noise(32, 32), Augmentation(colour=0.4)).float().mean(dim=(1, 2, 3))
    assert colour.std() > 5
    sharp = np.zeros((32, 32, 3), np.uint8)
    sharp[::2] = 255
    blurred = (crops(Image.fromarray(sharp), Augmentation(blur=0.5)).float().std(dim=(1, 2, 3)) < 127).sum()
    assert 60 < blurred < 140


def test_draws_depend_on_the_rng_alone():
    augmentation = Augmentation(rescale=(0.3, 1.0), flip=0.5, colour=0.2, blur=0.3)
    picture = noise(70, 50)
    assert torch.equal(crops(picture, augmentation, 20), crops(picture, augmentation, 20))


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (3, 2), (5000, 10)])
def test_extreme_shapes(size):
    augmentation = Augmentation(rescale=(0.1, 1.0), flip=0.5, blur=0.5, colour=0.5)
    for preprocessing in (Preprocessing(24), Preprocessing(24, resize="squash")):
        rng = np.random.default_rng(0)
        assert training_pixels(noise(*size), preprocessing, augmentation, rng).shape == (3, 24, 24)
        assert training_pixels(noise(*size), preprocessing, Augmentation(), rng).shape == (3, 24, 24)
        assert evaluation_pixels(noise(*size), preprocessing).shape == (3, 24, 24)


# ---- configurations


def test_configs_survive_a_dict():
    import json

    preprocessing = Preprocessing(64, mean=(0.5, 0.5, 0.5), interpolation="bilinear", resize="squash")
    augmentation = Augmentation("centre", (0.5, 1.0), 0.5, 0.1, 0.2)
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing
    assert Augmentation.from_dict(json.loads(json.dumps(augmentation.to_dict()))) == augmentation


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (Preprocessing, {"image_size": 0}, "image_size is 0"),
        (Preprocessing, {"image_size": 10**9}, "image_size"),
        (Preprocessing, {"image_size": "224"}, "image_size"),
        (Preprocessing, {"image_size": True}, "image_size"),
        (Preprocessing, {"std": [0.1, 0.0, 0.1]}, "std"),
        (Preprocessing, {"mean": [0.1, 0.1]}, "mean"),
        (Preprocessing, {"mean": [0.1, float("nan"), 0.1]}, "mean"),
        (Preprocessing, {"interpolation": "nearest"}, "bicubic, bilinear"),
        (Preprocessing, {"resize": "longest"}, "shortest, squash"),
        (Preprocessing, {"size": 224}, "unknown keys .'size'."),
        (Augmentation, {"crop": "none"}, "random_square, centre"),
        (Augmentation, {"rescale": [0.9, 0.5]}, "lower fraction"),
        (Augmentation, {"rescale": [0.0, 0.5]}, "rescale"),
        (Augmentation, {"rescale": 0.5}, "rescale"),
        (Augmentation, {"flip": 2}, "flip is 2"),
        (Augmentation, {"blur": -0.1}, "blur"),
        (Augmentation, {"colour": "much"}, "colour"),
    ],
)
def test_absurd_configs(kind, values, says):
    with pytest.raises(ConfigError, match=says):
        kind.from_dict(values)
