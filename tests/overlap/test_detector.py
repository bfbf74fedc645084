"""The copy detector that comes with Diptych."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diptych
from diptych.data.copies import CopyAugmentation, copy_image
from diptych.data.open_source import open_source
from diptych.embed.about import about
from diptych.errors import ConfigError, WeightsError
from diptych.overlap.detector import SHIPPED, load_detector
from diptych.overlap.image_views import ALL_VIEWS
from diptych.records import Sample

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "photos"


def test_it_is_small_and_reads_no_texts():
    size = sum(path.stat().st_size for path in SHIPPED.iterdir())
    assert size <= 8 * 2**20
    detector = load_detector()
    assert about(detector.encoder).no_texts and list(detector.encoders) == ["as_it_is", "mirrored"]
    assert list(load_detector(views=("as_it_is",)).encoders) == ["as_it_is"]


def test_its_card_says_what_it_was_trained_on_and_what_it_cannot_see():
    card = (SHIPPED / "README.md").read_text(encoding="utf-8")
    for words in (
        "## Data",
        "make.py",
        "held-out",
        "What it cannot see",
        "CIFAR-10 and all test splits were not opened",
    ):
        assert words in card


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="needs ../shared/data/photos")
def test_copies_of_photographs_score_higher_than_other_photographs():
    photos = [item for item in open_source(str(PHOTOS)).read(0) if isinstance(item, Sample)]
    images = [Image.open(io.BytesIO(photo.image)).convert("RGB") for photo in photos]
    config = CopyAugmentation(least_area=0.5)
    copies = [copy_image(image, config, np.random.default_rng(place)) for place, image in enumerate(images)]
    encoder = load_detector().encoder
    scores = encoder.encode_images(copies) @ encoder.encode_images(images).T
    assert (scores.argmax(dim=1).numpy() == np.arange(len(images))).mean() > 0.9


@pytest.mark.parametrize(
    ("view", "flip"),
    [("mirrored", np.s_[:, ::-1]), ("upside_down", np.s_[::-1]), ("turned", np.s_[::-1, ::-1])],
)
def test_a_flipped_copy_scores_as_the_copy_in_its_view(view, flip):
    detector = load_detector(views=ALL_VIEWS)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name, encoder in detector.encoders.items():
        found = encoder.encode_images([image[flip].copy()])
        score = float((found * detector.encoder.encode_images([image])).sum())
        assert (score > 1 - 1e-5) == (name == view)
        pixels = torch.from_numpy(image[flip].copy()).permute(2, 0, 1)[None]
        assert torch.allclose(encoder.encode_pixels(pixels), found, atol=1e-5)


def test_an_unknown_view_is_refused():
    with pytest.raises(ConfigError, match="no view 'sideways'; the views are as_it_is"):
        _ = load_detector(views=("sideways",)).encoders


def test_any_model_can_be_the_detector(tmp_path):
    assert load_detector("default").name == "copy_detector"
    with pytest.raises(WeightsError, match="no model folder"):
        load_detector(tmp_path / "nothing")
    diptych.load("default").save(tmp_path / "clip")
    assert load_detector(tmp_path / "clip").name == "clip"
