"""Pictures that ask for more time or memory than they may have: each is refused or served, and ends nothing else."""

import io

import numpy as np
import peers  # noqa: F401  (before torchvision)
import pytest
import torch
from hostile import jpeg_of_scans, jpeg_of_segments, netpbm, plain_netpbm, png_without_pixels, strip
from loading import Shards, config, make, small_tokenizer
from pictures import encoded, noise
from PIL import Image

from diptych.data import decoding_limits
from diptych.data.decoding import decode_image, picture_errors
from diptych.data.decoding_limits import count_scans, decode_netpbm
from diptych.data.evaluation_batches import evaluation_batches
from diptych.data.loader import Loader
from diptych.data.shifts import ShiftedSource
from diptych.data.transforms import Augmentation, Preprocessing, evaluation_pixels, training_pixels
from diptych.errors import ImageError
from diptych.records import Sample

# ---- strips


@pytest.mark.parametrize("size", [(2400, 20), (20, 2400), (3001, 27), (27, 3001), (1500, 1), (1, 1500)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_strip_is_what_resize_and_crop_make_of_it(size, interpolation):
    """As torchvision: the whole strip is resized, and then cropped."""
    vision = pytest.importorskip("torchvision.transforms")
    picture = noise(*size)
    resized = vision.Resize(32, interpolation=vision.InterpolationMode(interpolation))(picture)
    expected = torch.from_numpy(np.array(vision.CenterCrop(32)(resized))).permute(2, 0, 1).int()
    ours = evaluation_pixels(picture, Preprocessing(32, interpolation=interpolation)).int()
    assert (ours - expected).abs().max() <= 2


@pytest.mark.parametrize("size", [(700_000, 1), (1, 700_000), (100_000, 30), (1, 1)])
@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_a_long_strip_takes_no_memory_to_speak_of(size, resize):
    """Resized as a whole, the first would have 2.9 billion pixels."""
    data, preprocessing = strip(*size), Preprocessing(64, resize=resize)
    picture = decode_image(data)
    for augmentation in (Augmentation(), Augmentation(rescale=(0.5, 1.0), flip=0.5)):
        pixels = training_pixels(picture, preprocessing, augmentation, np.random.default_rng(0))
        assert pixels.shape == (3, 64, 64) and pixels[:, 0, 0].tolist() == [200, 100, 50]
    pixels = evaluation_pixels(picture, preprocessing)
    assert pixels.shape == (3, 64, 64) and pixels[:, 63, 63].tolist() == [200, 100, 50]


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_no_pixels(size):
    with pytest.raises(ImageError):
        decode_image(png_without_pixels(*size))


# ---- time


def test_scans_are_counted_before_anything_is_decoded():
    bomb = jpeg_of_scans(1500)
    assert count_scans(bomb) == 1500 and count_scans(jpeg_of_scans(12, side=32)) == 12
    with pytest.raises(ImageError, match="16000000 pixels has more than 100 scans"):
        decode_image(bomb)
    assert decode_image(jpeg_of_scans(100, side=64)).size == (64, 64)


def test_the_larger_a_jpeg_the_fewer_scans(monkeypatch):
    monkeypatch.setattr(decoding_limits, "MAX_SCANNED_PIXELS", 20 * 64 * 64)
    assert decode_image(jpeg_of_scans(20, side=64)).size == (64, 64)
    with pytest.raises(ImageError, match="more than 20 scans"):
        decode_image(jpeg_of_scans(21, side=64))


def test_markers_in_metadata_are_no_scans(monkeypatch):
    monkeypatch.setattr(decoding_limits, "MAX_SCANS", 12)
    thumbnail = b"\xff\xda" * 20_000
    data = encoded(noise(64, 48), "JPEG", progressive=True, comment=thumbnail, icc_profile=thumbnail)
    assert data.count(b"\xff\xda") > 40_000 and count_scans(data) == 10
    assert decode_image(data).size == (64, 48)


@pytest.mark.parametrize("magic", ["P5", "P6"])
@pytest.mark.parametrize("maximum", [1, 100, 200, 256, 1023, 4095, 65534])
def test_an_unusual_maximum_gives_pillows_values(magic, maximum):
    shape = (5, 7, 3) if magic == "P6" else (5, 7)
    kind = np.uint8 if maximum < 256 else ">u2"
    # Some values are above the stated maximum.
    values = np.random.default_rng(0).integers(0, np.iinfo(kind).max + 1, shape).astype(kind)
    values.flat[:3] = 0, maximum, maximum // 2
    data = f"{magic} 7 5 {maximum}\n".encode() + values.tobytes()
    with Image.open(io.BytesIO(data)) as opened:
        ours = decode_netpbm(opened)
    with Image.open(io.BytesIO(data)) as opened:
        assert ours.mode == opened.mode and np.array_equal(np.asarray(ours), np.asarray(opened))
    with pytest.raises(ImageError, match="truncated"):
        decode_image(data[:-1])


def test_slow_decoders_stop_in_time(monkeypatch):
    """64 MB of the first took 90 seconds and are now read at once; of the others, the clock stops the reading."""
    assert decode_image(netpbm(1000, 1000, 200)).size == (1000, 1000)
    assert decode_image(plain_netpbm(3000)).size == (1000, 1)
    monkeypatch.setattr(decoding_limits, "MAX_SECONDS", 0.1)
    for data in (plain_netpbm(3_000_000), jpeg_of_segments(20_000)):
        with pytest.raises(ImageError, match=r"more than 0\.1 seconds"):
            decode_image(data)
    assert decode_image(netpbm(100, 100, 200)).size == (100, 100)


def test_the_clock_runs_for_files_too(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding_limits, "MAX_SECONDS", 0.1)
    path = tmp_path / "a.ppm"
    path.write_bytes(plain_netpbm(3_000_000))
    with pytest.raises(ImageError, match=r"a\.ppm: .*more than 0\.1 seconds"):
        decode_image(path)
    with pytest.raises(ImageError, match="not a regular file"):
        decode_image("/dev/zero")


# ---- one bad picture ends nothing


@pytest.mark.parametrize("error", [MemoryError(), OverflowError("x"), RecursionError("x"), SystemError("x")])
def test_whatever_goes_wrong_over_a_picture_is_its_error(error):
    with pytest.raises(ImageError, match="the image cannot be used"), picture_errors():
        raise error
    with pytest.raises(TypeError), picture_errors():
        raise TypeError("our own mistake")


def test_hostile_pictures_among_good_ones():
    good = [item for item in make([20]).contents[0]]
    hostile = [strip(700_000, 1), strip(1, 700_000), jpeg_of_scans(1500), png_without_pixels(0, 9), strip(1, 1)]
    samples = [*good[:10], *(Sample(f"h{n}", data, ("a photo",), 0) for n, data in enumerate(hostile)), *good[10:]]
    source = Shards([samples])
    usable = [f"k{n}" for n in range(10)] + ["h0", "h1", "h4"] + [f"k{n}" for n in range(10, 20)]
    for num_workers in (0, 2):
        batches = evaluation_batches(source, Preprocessing(32), 4, num_workers)
        assert [sample.key for batch in batches for sample in batch.samples] == usable
        values = config(num_workers=num_workers, global_batch_size=23, shuffle_buffer=0, max_broken=0.5)
        loader = Loader(source, small_tokenizer(), Preprocessing(32), values, Augmentation(rescale=(0.5, 1.0)))
        assert list(next(iter(loader)).keys) == usable
        loader.close()


def test_a_strip_that_cannot_be_turned_is_broken():
    source = ShiftedSource(
        Shards([[Sample("long", strip(100_000, 1), (), 0), make([1]).contents[0][0]]]), "rotation", 3
    )
    broken, turned = source.read(0)
    assert "is too long to be rotated" in broken.reason and turned.image.shape == (10, 14, 3)
