"""The exact check finds planted maps, on real photographs where they are at hand, and refuses different photographs."""

import sys
from pathlib import Path

import numpy as np
import pytest
from pictures import noise, painting
from PIL import Image, ImageOps

from diptych.data.decoding import decode_image
from diptych.data.open_source import open_source
from diptych.errors import ConfigError, ImageError
from diptych.overlap.exact_check import check_pair
from diptych.overlap.unseen_copies import make_copy

pytest.importorskip("cv2")
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LOOK_ALIKE, COPY = 0.12, 0.2  # different photographs stay below, copies of usual strength reach it


def test_an_image_lies_over_itself():
    check = check_pair(painting(0), painting(0))
    assert check.score > 0.999 and check.share > 0.99 and not check.mirrored


def test_a_planted_map_is_found():
    photo = painting(1)
    crop = photo.crop((20, 10, 120, 100)).resize((173, 150), Image.Resampling.BICUBIC).rotate(4)
    for query, reference in ((crop, photo), (photo, crop)):
        check = check_pair(query, reference)
        assert check.score > 0.6 and check.share > 0.95 and not check.mirrored  # the turned corners are black


def test_a_mirrored_crop_is_found_and_called_so():
    check = check_pair(ImageOps.mirror(painting(2)).crop((30, 20, 150, 115)), painting(2))
    assert check.score > 0.8 and check.mirrored


def test_the_share_is_that_of_the_shared_area():
    photo = painting(3, (240, 120))
    check = check_pair(photo.crop((0, 0, 160, 120)), photo.crop((80, 0, 240, 120)))  # half of each shows the same
    assert check.score > 0.7 and check.share == pytest.approx(0.5, abs=0.05)


def test_brightness_contrast_and_colour_do_not_matter():
    photo = painting(4)
    changed = Image.fromarray((40 + 0.5 * np.asarray(photo)[:, :, ::-1]).astype(np.uint8))
    assert check_pair(changed, photo).score > 0.85


def test_different_images_do_not_match():
    scores = [check_pair(painting(seed), painting(seed + 50)).score for seed in range(10, 20)]
    assert max(scores) < LOOK_ALIKE


@pytest.mark.parametrize("colours", [((0, 0, 0), (0, 0, 0)), ((255, 255, 255), (250, 250, 250))])
def test_blank_images_give_no_evidence(colours):
    first, second = (Image.new("RGB", (64, 64), colour) for colour in colours)
    assert check_pair(first, second).score == 0


def test_tiny_and_long_images_are_taken():
    for size in ((1, 1), (2, 300), (8, 8)):
        assert -1 <= check_pair(noise(*size), noise(64, 64)).score <= 1


def photographs(name: str, count: int) -> list[Image.Image]:
    if not (DATA / name).exists():
        pytest.skip(f"{DATA / name} is absent")
    samples = (sample for sample in open_source(DATA / name).read(0))
    return [decode_image(next(samples).image) for _ in range(count)]


@pytest.mark.parametrize("name", ["flickr8k/val", "tiny-imagenet/train"])
def test_real_photographs(name):
    """Photographs of 160 and of 64 pixels: copies score high, all pairs of different photographs low."""
    photos = photographs(name, 6)
    rules = ("screenshot", "overlaid text", "mirror, grey", "strong crop", "webp", "crop, colour cast")
    for number, photo in enumerate(photos):
        check = check_pair(make_copy(photo, rules[number], 2, str(number)), photo)
        assert check.score > COPY, (rules[number], check)
        assert check.mirrored == rules[number].startswith("mirror")
        assert check_pair(photo, photos[number - 1]).score < LOOK_ALIKE


def test_what_cannot_be_checked_is_named(monkeypatch):
    with pytest.raises(ImageError):
        check_pair(b"broken", painting(0))
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"needs OpenCV: pip install 'diptych\[overlap\]'"):
        check_pair(painting(0), painting(0))
