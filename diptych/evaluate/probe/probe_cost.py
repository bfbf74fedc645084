"""Predict the cost of a linear probe: time from a measured slice of the rows, memory from the sizes."""

import dataclasses
import time

import numpy as np
import torch

from diptych.errors import ShapeError
from diptych.evaluate.probe.descent import MEMORY
from diptych.evaluate.probe.design import BASIS_ROWS, CHUNK_VALUES, READ_ROWS, Design, kept_bytes
from diptych.evaluate.probe.feature_tables import Chosen, Rows
from diptych.evaluate.probe.losses import evaluate
from diptych.model.device import choose_device

NUM_FITS = 16
"""At most 15 fits of a search, and the final fit."""
EVALUATIONS_PER_FIT = (10, 20, 40)
"""Fast, usual and slow case; measured on generated features."""

_MIN_SECONDS = 0.3
_TOGETHER = 7  # descents of the first round; their memory is held until all have ended


@dataclasses.dataclass(frozen=True)
class Plan:
    """The predicted cost of a linear probe.

    Attributes:
        num_rows, width, num_classes: N, D, C.
        device: the device of the measurement.
        pass_seconds: time of one float32 evaluation of one classifier on all rows; check_seconds: in float64.
        seconds: time of the whole search and the final fit: fast, usual and slow case.
        memory_bytes: peak memory, without the features themselves.
        device_bytes: the part of it on a GPU; 0 without one.
        read_bytes: bytes that each pass reads from disk; 0 if a copy of the rows is kept.
        slice_rows: number of rows that were measured.
    """

    num_rows: int
    width: int
    num_classes: int
    device: str
    pass_seconds: float
    check_seconds: float
    seconds: tuple[float, float, float]
    memory_bytes: int
    device_bytes: int
    read_bytes: int
    slice_rows: int

    def words(self) -> str:
        """The plan in a few lines."""
        fast, usual, slow = (_duration(duration) for duration in self.seconds)
        where = f"{self.num_rows:,} rows x {self.width:,} features, {self.num_classes:,} classes on {self.device}"
        reading = f"each pass reads {_size(self.read_bytes)}" if self.read_bytes else "a copy of the rows is kept"
        on_device = f", {_size(self.device_bytes)} on the GPU" if self.device_bytes else ""
        return (
            f"linear probe of {where}\n"
            f"  time: about {usual} ({fast} to {slow}) for {NUM_FITS} fits of {EVALUATIONS_PER_FIT[0]} to "
            f"{EVALUATIONS_PER_FIT[2]} passes of {self.pass_seconds:.3g} s, measured on {self.slice_rows:,} rows\n"
            f"  memory: {_size(self.memory_bytes)}{on_device}; {reading}"
        )


def plan_probe(
    features: Rows | tuple[int, int], num_classes: int, *, device: str | None = None, slice_rows: int = 8192
) -> Plan:
    """Predict time and memory of the search of the penalty and the final fit.

    Args:
        features: a table (N, D), of which some rows from the middle are measured; or only its shape, for which random
            numbers are measured. They take as long as real ones, but nothing is read from disk.
        num_classes: C.
        device: None uses a GPU if there is one.
        slice_rows: how many rows to measure on.
    Raises:
        ShapeError: the sizes are not positive.
    """
    shape = features if isinstance(features, tuple) else features.shape
    if len(shape) != 2 or min(*shape, num_classes) < 1:
        raise ShapeError(f"a plan needs (N, D) and a number of classes, all positive; got {shape} and {num_classes}")
    num_rows, width = shape
    compute_device, rng = choose_device(device), np.random.default_rng(0)
    num_taken = min(num_rows, slice_rows)
    if isinstance(features, tuple):
        part: Rows = rng.standard_normal((num_taken, width), dtype=np.float32)
    else:
        first = (num_rows - num_taken) // 2
        part = Chosen(features, np.arange(first, first + num_taken))
    kept = num_rows * width * 4 <= kept_bytes(compute_device) or num_rows <= width
    start = time.perf_counter()
    design = Design(part, compute_device, keep=kept)
    prepared = (time.perf_counter() - start) * num_rows / num_taken
    labels = torch.from_numpy(rng.integers(0, num_classes, num_taken)).to(compute_device)
    one_pass, one_check = (
        _timed(design, labels, num_classes, dtype) * num_rows / num_taken for dtype in (torch.float32, torch.float64)
    )
    fast, usual, slow = (NUM_FITS * (count * one_pass + one_check) + 2 * prepared for count in EVALUATIONS_PER_FIT)
    memory, on_device = _memory(num_rows, width, num_classes, kept, compute_device)
    item = 4 if isinstance(features, tuple) else features.dtype.itemsize
    return Plan(
        num_rows=num_rows,
        width=width,
        num_classes=num_classes,
        device=str(compute_device),
        pass_seconds=one_pass,
        check_seconds=one_check,
        seconds=(fast, usual, slow),
        memory_bytes=memory,
        device_bytes=on_device,
        read_bytes=0 if kept else num_rows * width * item,
        slice_rows=num_taken,
    )


def _timed(design: Design, labels: torch.Tensor, num_classes: int, dtype: torch.dtype) -> float:
    """Median time of several evaluations of one classifier, in seconds."""
    point = torch.zeros(num_classes, design.rank + 1, dtype=torch.float64, device=design.device)
    times: list[float] = []
    while len(times) < 3 or sum(times) < _MIN_SECONDS:
        start = time.perf_counter()
        evaluate(design, labels, [point], [1.0], point, dtype)  # it returns numbers on the CPU, so nothing is pending
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def _memory(num_rows: int, width: int, num_classes: int, kept: bool, device: torch.device) -> tuple[int, int]:
    """Bytes in main memory, and bytes on a GPU."""
    rank = min(width, num_rows)
    point = num_classes * (rank + 1) * 8
    descents = _TOGETHER * (2 * MEMORY + 8) * point
    copy = num_rows * rank * (4 if num_rows > width else 12) if kept else 0
    rows = (min(num_rows, max(BASIS_ROWS, width + 1)) + 3 * rank) * width * 8
    chunk = CHUNK_VALUES[device.type] * 4 * 6 + min(num_rows, READ_ROWS) * width * 16
    solutions = NUM_FITS * num_classes * width * 8
    on_device = descents + copy + rows + chunk + num_rows * 8
    if device.type == "cuda":
        return solutions + READ_ROWS * width * 8 + num_rows * 8, on_device
    return solutions + on_device, 0


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
