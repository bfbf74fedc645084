"""The dry run of a linear probe."""

import dataclasses

import numpy as np
import pytest
import torch

from diptych.errors import ShapeError
from diptych.evaluate.probe import probe_cost
from diptych.evaluate.probe.probe_cost import plan_probe


def test_a_plan_of_imagenet_from_a_slice(tmp_path):
    features = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (4096, 64))
    features[:] = np.random.default_rng(0).standard_normal(features.shape)
    small = plan_probe(features, 10, slice_rows=512)
    assert (small.num_rows, small.width, small.num_classes, small.slice_rows) == (4096, 64, 10, 512)
    assert small.pass_seconds > 0 and 0 < small.seconds[0] < small.seconds[1] < small.seconds[2]
    assert small.read_bytes == 0 and "a copy of the rows is kept" in small.words()


def test_of_sizes_alone_and_beyond_memory():
    large = plan_probe((1_280_000, 768), 1000, device="cpu", slice_rows=256)
    assert large.read_bytes == 1_280_000 * 768 * 4
    assert 1e9 < large.memory_bytes < 3e9  # far below the features' 3.9 GB, whatever the number of rows
    assert large.memory_bytes - plan_probe((640_000, 768), 1000, device="cpu", slice_rows=256).memory_bytes < 10e6
    assert "each pass reads 3.9 GB" in large.words() and "1,280,000 rows" in large.words()
    with pytest.raises(ShapeError, match="positive"):
        plan_probe((0, 768), 1000)


class Clock:
    """Every look at it is some seconds later than the last; it begins anew with the next list."""

    def __init__(self, *seconds):
        self.seconds, self.now, self.looks = seconds, 0.0, 0

    def __call__(self):
        self.now += self.seconds[self.looks % len(self.seconds)]
        self.looks += 1
        return self.now


def test_time_is_that_of_the_slice_times_the_rows(monkeypatch):
    """Looks at the clock: before and after the design, then before and after each of three passes in either precision.
    A pass takes 1, 5 and 2 s, so that 2 s is the one in the middle; the design takes 3 s."""
    monkeypatch.setattr(probe_cost.time, "perf_counter", Clock(0, 3, *(0, 1, 0, 5, 0, 2) * 2))
    rows = np.full((400, 6), np.nan, np.float32)
    rows[180:220] = np.random.default_rng(0).standard_normal((40, 6))  # the rows from the middle are those measured
    found = plan_probe(rows, 3, device="cpu", slice_rows=40)
    assert (found.num_rows, found.width, found.num_classes, found.slice_rows) == (400, 6, 3, 40)
    assert (found.pass_seconds, found.check_seconds, found.device) == (20, 20, "cpu")
    # 16 fits of 10, 20 and 40 passes and one in float64, and the design twice.
    assert found.seconds == (16 * 11 * 20 + 60, 16 * 21 * 20 + 60, 16 * 41 * 20 + 60)


def test_short_passes_are_measured_until_they_have_taken_a_while(monkeypatch):
    clock = Clock(0, 1 / 64)
    monkeypatch.setattr(probe_cost.time, "perf_counter", clock)
    found = plan_probe((10, 3), 2, device="cpu")
    assert found.pass_seconds == 1 / 64 and found.slice_rows == 10
    assert clock.looks == 2 * (2 * 20 + 1)  # 20 passes of 1/64 s are the first to take 0.3 s


def test_what_is_read_in_each_pass(monkeypatch):
    monkeypatch.setattr(probe_cost.time, "perf_counter", Clock(1))
    half = np.zeros((50, 6), np.float16)
    assert plan_probe(half, 2, device="cpu").read_bytes == 0
    monkeypatch.setattr("diptych.evaluate.probe.design._KEPT_BYTES", 50 * 6 * 4)
    assert plan_probe(half, 2, device="cpu").read_bytes == 0  # there is just room for a copy
    monkeypatch.setattr("diptych.evaluate.probe.design._KEPT_BYTES", 50 * 6 * 4 - 1)
    assert plan_probe(half, 2, device="cpu").read_bytes == 50 * 6 * 2
    assert plan_probe((50, 6), 2, device="cpu").read_bytes == 50 * 6 * 4
    assert plan_probe((6, 6), 2, device="cpu").read_bytes == 0  # no more rows than columns: always kept
    assert plan_probe((7, 6), 2, device="cpu").read_bytes == 0 < plan_probe((60, 6), 2, device="cpu").read_bytes


@pytest.mark.parametrize(
    ("sizes", "kept", "least"),
    [
        ((1_000_000, 128, 2), True, 4 * 1_000_000 * 128),  # the copy, float32
        ((2000, 20_000, 2), True, 12 * 2000**2 + 8 * 2000 * 20_000 * 5),  # the basis, and what finds it
        ((20_000, 1000, 50_000), False, 7 * 24 * 8 * 50_000 * 1001),  # seven descents of 12 steps, two tensors each
        ((10_000_000, 8192, 2), False, 3 * 8 * 8192**2 + 8 * 8193 * 8192 + 16384 * 8192 * 12),  # covariance, basis
        ((1_000_000_000, 2, 2), False, 8 * 1_000_000_000),  # the labels
    ],
)
def test_memory_is_that_of_the_largest_arrays_and_somewhat_more(sizes, kept, least):
    memory, on_device = probe_cost._memory(*sizes, kept, torch.device("cpu"))
    assert least <= memory <= 1.5 * least + 50e6 and on_device == 0
    beside, on_gpu = probe_cost._memory(*sizes, kept, torch.device("cuda"))
    assert least <= on_gpu <= 1.5 * least + 3e9
    solutions = 16 * 8 * sizes[1] * sizes[2] + 8 * sizes[0] + 16384 * 8 * sizes[1]
    assert beside == pytest.approx(solutions)
    if not kept:  # what holds no rows does not grow with them but for their labels
        more = probe_cost._memory(sizes[0] + 1000, *sizes[1:], kept, torch.device("cpu"))[0] - memory
        assert more == 8 * 1000


def test_words_are_those_of_the_numbers():
    one = probe_cost.Plan(
        1_281_167, 768, 1000, "cuda:0", 1.2345, 3.0, (89.4, 5399.0, 5401.0), 2_340_000_000, 0, 0, 8192
    )
    assert one.words() == (
        "linear probe of 1,281,167 rows x 768 features, 1,000 classes on cuda:0\n"
        "  time: about 90 min (89 s to 1.5 h) for 16 fits of 10 to 40 passes of 1.23 s, measured on 8,192 rows\n"
        "  memory: 2.3 GB; a copy of the rows is kept"
    )
    other = dataclasses.replace(
        one, seconds=(0.0312, 9.44, 91.0), memory_bytes=999_000_000, device_bytes=10**9, read_bytes=15_400_000
    )
    assert other.words().splitlines()[1:] == [
        "  time: about 9.4 s (0.031 s to 2 min) for 16 fits of 10 to 40 passes of 1.23 s, measured on 8,192 rows",
        "  memory: 999 MB, 1.0 GB on the GPU; each pass reads 15 MB",
    ]


def test_sizes_that_cannot_be_are_refused():
    for shape, num_classes in (((0, 3), 2), ((3, 0), 2), ((3, 3), 0), ((3,), 2)):
        with pytest.raises(ShapeError, match="all positive"):
            plan_probe(shape, num_classes)
    assert plan_probe((1, 1), 1, device="cpu").num_rows == 1
