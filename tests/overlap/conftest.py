"""Data of which it is known what overlaps."""

import pytest
from known_images import sample, write_set

from diptych.data.shards import write_shards


@pytest.fixture
def data(tmp_path):
    """Training data of the numbers 0 to 199 in four shards, a set that shares 40 to 59, and one that shares none."""
    write_shards(map(sample, range(200)), tmp_path / "train", 50)
    write_set(tmp_path / "shared", range(40, 60))
    write_set(tmp_path / "new", range(1000, 1030))
    return tmp_path
