"""A batch that fills up row by row, in the memory that it is handed over in."""

from collections.abc import Mapping

import numpy as np
import torch

from diptych.data.workers import DecodedChunk
from diptych.records import Batch


class Assembly:
    """A batch in the making: lane after lane, each with its rows, which may arrive in any order of lanes.

    The pixels are copied once, from a worker's memory to their place, so that a batch of gigabytes is held once.

    Args:
        counts: rows of each lane, in the order that they have in the batch.
        image_size: R, of the pictures.
        pin_memory: hold the tensors where a GPU can fetch them by itself; without CUDA it means nothing.
    Attributes:
        missing: rows of each lane still to come.
    """

    def __init__(self, counts: Mapping[int, int], image_size: int, *, pin_memory: bool = False) -> None:
        size = sum(counts.values())
        self.missing = dict(counts)
        self._next_row, row = {}, 0
        for lane, count in counts.items():
            self._next_row[lane] = row
            row += count
        self._pin = pin_memory and torch.cuda.is_available()
        self._images = torch.empty((size, 3, image_size, image_size), dtype=torch.uint8, pin_memory=self._pin)
        self._lengths = torch.empty(size, dtype=torch.int64, pin_memory=self._pin)
        self._tokens: list[tuple[int, np.ndarray]] = []  # first row and content; the width is known at the end
        self._keys = [""] * size

    @property
    def complete(self) -> bool:
        """Whether no row is missing."""
        return not any(self.missing.values())

    def add(self, lane: int, part: DecodedChunk, begin: int) -> int:
        """Take what the lane still lacks, or what there is, of a chunk's samples from `begin` on; how many that was."""
        count = min(self.missing[lane], len(part.keys) - begin)
        row, end = self._next_row[lane], begin + count
        self._images[row : row + count] = part.images[begin:end]
        self._lengths[row : row + count] = torch.from_numpy(part.lengths[begin:end])
        self._keys[row : row + count] = part.keys[begin:end]
        self._tokens.append((row, part.tokens[begin:end]))
        self._next_row[lane] += count
        self.missing[lane] -= count
        return count

    def finish(self) -> Batch:
        """The batch; tokens are padded to the longest caption in it."""
        width = int(self._lengths.max()) if len(self._keys) else 0
        tokens = torch.zeros((len(self._keys), width), dtype=torch.int32, pin_memory=self._pin)
        for row, rows in self._tokens:
            part = rows[:, :width]  # chunks are as wide as their own longest caption
            tokens[row : row + len(part), : part.shape[1]] = torch.from_numpy(part)
        return Batch(images=self._images, tokens=tokens, lengths=self._lengths, keys=tuple(self._keys))
