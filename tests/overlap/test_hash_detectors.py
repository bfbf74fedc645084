"""The vectors of hash detectors are the libraries' own hashes, and their cosines count differing bits."""

import sys

import numpy as np
import pytest
import torch
from pictures import encoded, noise

from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.errors import ConfigError, ImageError, InputError
from diptych.overlap.hash_detectors import HASHES, load_hash

pdqhash, imagehash = pytest.importorskip("pdqhash"), pytest.importorskip("imagehash")


@pytest.fixture(params=HASHES)
def detector(request):
    return load_hash(request.param)


def test_a_detector_is_an_encoder_of_images_alone(detector):
    assert isinstance(detector, Encoder)
    assert about(detector).no_texts and about(detector).image_fingerprint == detector.image_fingerprint
    with pytest.raises(InputError, match="encodes no texts"):
        detector.encode_texts(["a dog"])


def test_cosines_count_the_bits_of_the_library(detector):
    images = [noise(64 + seed, 80, seed) for seed in range(8)]
    vectors = detector.encode_images(images)
    assert vectors.dtype == torch.float32 and vectors.shape == (8, detector.num_bits)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(8))
    if detector.name == "pdq":
        hashes = [pdqhash.compute(np.asarray(image))[0].astype(bool) for image in images]
        hamming = np.array([[(a != b).sum() for b in hashes] for a in hashes])
    else:
        hashes = [imagehash.phash(image) for image in images]
        hamming = np.array([[a - b for b in hashes] for a in hashes])
    assert np.allclose(vectors @ vectors.T, 1 - 2 * hamming / detector.num_bits, atol=1e-6)
    assert hamming.max() > detector.num_bits / 4  # these images differ


def test_files_pixels_and_images_give_the_same_vector(detector, tmp_path):
    image = noise(90, 70)
    (tmp_path / "a.png").write_bytes(encoded(image, "PNG"))
    vectors = detector.encode_images([image, encoded(image, "PNG"), np.asarray(image), tmp_path / "a.png"])
    assert (vectors == vectors[0]).all()
    assert detector.encode_images([]).shape == (0, detector.num_bits)


def test_a_broken_image_is_named_or_left_out(detector):
    with pytest.raises(ImageError, match="image 1"):
        detector.encode_images([noise(64, 64), b"broken"])
    rows = detector.encode_images([noise(64, 64), b"broken"], on_error="skip")
    assert rows[1].isnan().all() and not rows[0].isnan().any()


def test_the_versions_mark_the_vectors():
    assert "pdqhash" in load_hash("pdq").image_fingerprint and "imagehash" in load_hash("phash").image_fingerprint


def test_what_is_missing_is_named(monkeypatch):
    with pytest.raises(ConfigError, match="no hash detector 'md5'; there are: pdq, phash"):
        load_hash("md5")
    monkeypatch.setitem(sys.modules, "pdqhash", None)
    with pytest.raises(ConfigError, match=r"needs pdqhash: pip install 'diptych\[overlap\]'"):
        load_hash("pdq")
