"""A batch under construction: rows are written into the tensors that the finished batch returns."""

from collections.abc import Mapping

import torch

from diptych.data.workers import DecodedChunk
from diptych.records import Batch


class Assembly:
    """A batch under construction. It consists of one block of rows per lane; the lanes may deliver in any order.

    Pixels are copied once, from a worker's memory to their final place, so that a batch of gigabytes exists only once.

    Args:
        counts: number of rows of each lane, in batch order.
        image_size: R.
        num_views: images of each pair: 1, or 2 for an image and its copy.
        pin_memory: allocate the tensors in pinned memory; has no effect without CUDA.
    Attributes:
        missing: number of rows of each lane that are still to come.
    """

    def __init__(
        self, counts: Mapping[int, int], image_size: int, *, num_views: int = 1, pin_memory: bool = False
    ) -> None:
        size = sum(counts.values())
        self.missing = dict(counts)
        self._next_row, row = {}, 0
        for lane, count in counts.items():
            self._next_row[lane] = row
            row += count
        self._pin = pin_memory and torch.cuda.is_available()
        self._images = torch.empty(
            (size, 3 * num_views, image_size, image_size), dtype=torch.uint8, pin_memory=self._pin
        )
        self._lengths = torch.empty(size, dtype=torch.int64, pin_memory=self._pin)
        # One tensor that grows with the captions. Separate tensors per chunk would fragment the memory that pixel
        # chunks leave free, and the allocator could not reuse it.
        self._tokens = torch.zeros((size, 0), dtype=torch.int32)
        self._keys = [""] * size

    @property
    def complete(self) -> bool:
        """Whether no row is missing."""
        return not any(self.missing.values())

    def add(self, lane: int, part: DecodedChunk, begin: int) -> int:
        """Copy a chunk's samples from `begin` on, at most as many as the lane is missing; return their number."""
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
        images, copies = self._images[:, :3], self._images[:, 3:] if self._images.shape[1] > 3 else None
        return Batch(images=images, tokens=tokens, lengths=self._lengths, keys=tuple(self._keys), copies=copies)

    def _widen(self, width: int) -> None:
        """Make room for captions of this width, with some room to spare."""
        if width > self._tokens.shape[1]:
            self._tokens = torch.nn.functional.pad(self._tokens, (0, width + 8 - self._tokens.shape[1]))
