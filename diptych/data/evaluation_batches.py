"""One pass over a source in its own order, for evaluation."""

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator

import numpy as np
import torch

from diptych.data.source import Source
from diptych.data.stream import Chunk, ChunkStream, read_ahead
from diptych.data.tally import Tally
from diptych.data.transforms import Preprocessing
from diptych.data.workers import EvaluationDecoder, decode_chunks
from diptych.records import Broken, Sample


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EvaluationBatch:
    """A batch of decoded samples.

    Attributes:
        places: int64 (N,), index of each sample in the source; broken samples are counted.
        samples: N samples with captions, labels and metadata, but without their encoded images (b"").
        images: uint8 (N, 3, R, R).
    """

    places: np.ndarray
    samples: tuple[Sample, ...]
    images: torch.Tensor


def evaluation_batches(
    source: Source,
    preprocessing: Preprocessing,
    batch_size: int = 256,
    num_workers: int = 0,
    on_broken: Callable[[Broken], None] = lambda sample: None,
) -> Iterator[EvaluationBatch]:
    """Decode the samples of a source with the evaluation's preprocessing.

    Broken samples are left out. The log names each of them, and gives their number at the end.

    Args:
        source: samples with or without labels.
        preprocessing: the model's preprocessing.
        batch_size: maximum number of samples per batch; batches with broken samples are smaller, none is empty.
        num_workers: processes that decode; 0 decodes in this process. The result does not depend on it.
        on_broken: called with each broken sample.
    Raises:
        DataError: no sample can be used.
    """
    tally = Tally(max_broken=1.0, num_shards=len(source.shards))
    sent: collections.deque[Chunk] = collections.deque()

    def send() -> Generator[Chunk]:
        stream = ChunkStream(
            source, seed=0, shuffle_buffer=0, shuffle_buffer_bytes=1, chunk_size=batch_size, keep_metadata=True
        )
        with contextlib.closing(read_ahead(stream, depth=2)) as chunks:
            for _, chunk in chunks:
                # Workers receive only the images; captions, labels and metadata stay in this process.
                sent.append(_changed(chunk, without_image))
                yield _changed(chunk, lambda sample: Sample(sample.key, sample.image))
                if chunk.last:
                    return

    decoder = EvaluationDecoder(preprocessing)
    with contextlib.closing(
        decode_chunks(send(), decoder, num_workers, ahead=2 * max(1, num_workers), chunk_size=batch_size)
    ) as parts:
        for part in parts:
            chunk = sent.popleft()
            for sample in part.broken:
                on_broken(sample)
            tally.add(len(part.keys), part.broken, epoch=0, epoch_ends=chunk.last)
            if part.keys:
                items = [chunk.items[row][1] for row in part.rows]
                samples = tuple(item for item in items if isinstance(item, Sample))
                yield EvaluationBatch(chunk.start + part.rows, samples, part.images)


def without_image(sample: Sample) -> Sample:
    """The sample without its encoded image."""
    return dataclasses.replace(sample, image=b"")


def _changed(chunk: Chunk, change: Callable[[Sample], Sample]) -> Chunk:
    """The chunk with its samples changed; broken items are kept."""
    items = [(shard, change(item) if isinstance(item, Sample) else item) for shard, item in chunk.items]
    return dataclasses.replace(chunk, items=items)
