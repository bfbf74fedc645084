"""A batch that fills up row by row, in the memory that it is handed over in."""

from collections.abc import Mapping

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
        # Grows with the captions. Kept chunk by chunk, tokens would lie scattered where chunks of pixels were, and the
        # allocator could not use that memory again.
        self._tokens = torch.zeros((size, 0), dtype=torch.int32)
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
        self._widen(part.tokens.shape[1])
        self._tokens[row : row + count, : part.tokens.shape[1]] = torch.from_numpy(part.tokens[begin:end])
        self._next_row[lane] += count
        self.missing[lane] -= count
        return count

    def finish(self) -> Batch:
        """The batch; tokens are padded to the longest caption in it."""
        width = int(self._lengths.max()) if self._keys else 0
        tokens = torch.empty((len(self._keys), width), dtype=torch.int32, pin_memory=self._pin)
        tokens.copy_(self._tokens[:, :width])
        return Batch(images=self._images, tokens=tokens, lengths=self._lengths, keys=tuple(self._keys))

    def _widen(self, width: int) -> None:
        """Make room for longer captions, and for somewhat longer ones than these."""
        if width > self._tokens.shape[1]:
            self._tokens = torch.nn.functional.pad(self._tokens, (0, width + 8 - self._tokens.shape[1]))
