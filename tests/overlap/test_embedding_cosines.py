"""benchmarks/duplicates.py --part embeddings: on hand-solved vectors, and by the command on a few photographs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import noise

from diptych.data.shards import write_shards
from diptych.overlap.copy_benchmark import Photo
from diptych.records import Sample

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPT = BENCHMARKS / "duplicates.py"


@pytest.fixture
def cosines(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import embedding_cosines

    return embedding_cosines


class Colourful:
    """Two numbers of an image, as an angle: 0 for gray, 60 degrees for red and blue; its size tells it is cropped."""

    def encode_images(self, images):
        pixels = [np.asarray(image.convert("RGB"), np.float64) for image in images]
        angles = [np.pi / 3 * (abs(one[..., 0] - one[..., 2]).mean() > 1) for one in pixels]
        angles = [angle + np.pi / 2 * (one.shape[0] < 30) for angle, one in zip(angles, pixels, strict=True)]
        return torch.tensor([[np.cos(angle), np.sin(angle)] for angle in angles], dtype=torch.float32)


def test_hand_solved_cosines(cosines):
    """Colour photographs are equal to each other and at 60 degrees from their gray copies, at 90 from their crops."""
    photos = [Photo(str(number), noise(40, 40, number)) for number in range(5)]
    figures = cosines.embedding_cosines(Colourful(), photos)
    assert figures["most_similar_pair"] == {"cosine": pytest.approx(1), "keys": ["0", "1"]}
    assert figures["best_other_p99"] == pytest.approx(1)
    crop, grey = figures["copies"].values()
    assert crop == {"median_cosine": pytest.approx(0, abs=1e-6), "share_another_nearer": 1.0}
    assert grey == {"median_cosine": pytest.approx(0.5), "share_another_nearer": 1.0}


def test_the_nearest_other_photograph(cosines):
    angles = np.radians([0, 10, 30, 30])
    other, best = cosines.best_others(np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32))
    assert other.tolist() == [1, 0, 3, 2]
    assert best == pytest.approx(np.cos(np.radians([10, 10, 0, 0])), abs=1e-6)


def test_a_photograph_that_is_there_twice_counts_once(cosines):
    photos = [Photo(str(number), noise(8, 8, number % 3)) for number in range(5)]
    assert [photo.key for photo in cosines.without_repetitions(photos)] == ["0", "1", "2"]


def test_the_command(tmp_path):
    photos = [Sample(f"{number:03}", np.asarray(noise(64, 64, number)), label=0) for number in range(8)]
    write_shards(photos, tmp_path / "photos")
    words = ["--part", "embeddings", "--images", str(tmp_path / "photos"), "--queried", "6", "--detectors", "clip"]
    run = subprocess.run([sys.executable, SCRIPT, *words, "--json"], capture_output=True, text=True, check=True)
    figures = json.loads(run.stdout.splitlines()[-1])
    assert figures["part"] == "embeddings" and figures["num_photographs"] == 6
    [found] = figures["detectors"].values()
    assert -1 <= found["best_other_p99"] <= found["most_similar_pair"]["cosine"] <= 1.00001
    assert len(set(found["most_similar_pair"]["keys"])) == 2
    assert all(0 <= row["share_another_nearer"] <= 1 for row in found["copies"].values()) and len(found["copies"]) == 2
    assert found["textures"]["lowest_cosine"] <= found["textures"]["median_cosine"] <= 1.00001
