"""The dry run of a linear probe."""

import numpy as np
import pytest

from diptych.errors import ShapeError
from diptych.evaluate.probe.plan import plan_probe


def test_a_plan_of_imagenet_from_a_slice(tmp_path):
    features = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (4096, 64))
    features[:] = np.random.default_rng(0).standard_normal(features.shape)
    small = plan_probe(features, 10, slice_rows=512)
    assert (small.num_rows, small.width, small.num_classes, small.slice_rows) == (4096, 64, 10, 512)
    assert small.pass_seconds > 0 and 0 < small.seconds[0] < small.seconds[1] < small.seconds[2]
    assert small.read_bytes == 0 and "a copy of the rows is kept" in small.words()


def test_of_sizes_alone_and_beyond_memory():
    plan = plan_probe((1_280_000, 768), 1000, device="cpu", slice_rows=256)
    assert plan.read_bytes == 1_280_000 * 768 * 4
    assert 1e9 < plan.memory_bytes < 3e9  # far below the features' 3.9 GB, whatever the number of rows
    assert plan.memory_bytes - plan_probe((640_000, 768), 1000, device="cpu", slice_rows=256).memory_bytes < 10e6
    assert "each pass reads 3.9 GB" in plan.words() and "1,280,000 rows" in plan.words()
    with pytest.raises(ShapeError, match="positive"):
        plan_probe((0, 768), 1000)
