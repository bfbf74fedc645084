"""Pixels: parity with torchvision and open_clip, and the augmentation's geometry."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import gradient, noise
from PIL import Image

from diptych.data.decoding import decode_image
from diptych.data.transforms import Augmentation, Preprocessing, evaluation_pixels, normalise, training_pixels
from diptych.errors import ConfigError

PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "photos" / "0.tar.gz"


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


def test_low_resolution_halves_and_scales_back():
    board = (255 * (np.indices((32, 32)).sum(axis=0) % 2)).astype(np.uint8)
    seen = crops(Image.fromarray(np.stack([board] * 3, axis=-1)), Augmentation(low_resolution=0.5)).float()
    spread = seen.std(dim=(1, 2, 3))  # a chessboard of single pixels becomes grey, or stays as it is
    assert ((spread < 2) | (spread > 127)).all()
    assert 60 < (spread < 2).sum() < 140


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
        (Preprocessing, {"resize": "longest"}, "shortest, shortest_floor, squash"),
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
