"""One pass over a source in its own order, for evaluation."""

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterator

import numpy as np
import torch

from diptych.data.decoding_threads import Waits, decode_in_threads, timed_chunks
from diptych.data.source import Source
from diptych.data.stream import Chunk, ChunkStream, read_ahead
from diptych.data.tally import Tally
from diptych.data.transforms import Preprocessing
from diptych.data.workers import DecodedChunk, EvaluationDecoder, decode_chunks
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


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How one pass decodes.

    Attributes:
        num_threads: decoding threads in this process, used without worker processes; 0 decodes in the caller's thread.
            The result does not depend on it.
        fast: see EvaluationDecoder; the pixels differ slightly.
        part_size: no batch crosses a multiple of this number of samples.
    """

    num_threads: int = 0
    fast: bool = False
    part_size: int | None = None


def evaluation_batches(
    source: Source,
    preprocessing: Preprocessing,
    batch_size: int = 256,
    num_workers: int = 0,
    on_broken: Callable[[Broken, int], None] = lambda sample, place: None,
    *,
    decoding: Decoding = Decoding(),
    waits: Waits | None = None,
) -> Iterator[EvaluationBatch]:
    """Decode the samples of a source with the evaluation's preprocessing.

    Broken samples are left out. The log names each of them, and gives their number at the end.

    Args:
        source: samples with or without labels.
        preprocessing: the model's preprocessing.
        batch_size: maximum number of samples per batch; batches with broken samples are smaller, none is empty.
        num_workers: processes that decode; 0 decodes in this process. The result does not depend on it.
        on_broken: called with each broken sample, and the index of the first sample of its batch in the source.
        decoding: threads, and where batches end.
        waits: the seconds that the caller waits for batches are added to it.
    Raises:
        DataError: no sample can be used.
    """
    waits = Waits() if waits is None else waits
    tally = Tally(max_broken=1.0, num_shards=len(source.shards))
    sent: collections.deque[Chunk] = collections.deque()

    def send() -> Generator[Chunk]:
        stream = ChunkStream(
            source,
            seed=0,
            shuffle_buffer=0,
            shuffle_buffer_bytes=1,
            chunk_size=batch_size,
            keep_metadata=True,
            part_size=decoding.part_size,
        )
        with contextlib.closing(read_ahead(stream, depth=2)) as chunks:
            for _, chunk in chunks:
                # Workers receive only the images; captions, labels and metadata stay in this process.
                sent.append(_changed(chunk, without_image))
                yield _changed(chunk, lambda sample: Sample(sample.key, sample.image))
                if chunk.last:
                    return

    with contextlib.closing(_decoded(send(), preprocessing, batch_size, num_workers, decoding, waits)) as parts:
        for part in parts:
            chunk = sent.popleft()
            for sample in part.broken:
                on_broken(sample, chunk.start)
            tally.add(len(part.keys), part.broken, epoch=0, epoch_ends=chunk.last)
            if part.keys:
                items = [chunk.items[row][1] for row in part.rows]
                samples = tuple(item for item in items if isinstance(item, Sample))
                yield EvaluationBatch(chunk.start + part.rows, samples, part.images)


def _decoded(
    chunks: Generator[Chunk],
    preprocessing: Preprocessing,
    batch_size: int,
    num_workers: int,
    decoding: Decoding,
    waits: Waits,
) -> Generator[DecodedChunk]:
    """The decoded chunks, from threads, worker processes, or this thread."""
    decoder = EvaluationDecoder(preprocessing, fast=decoding.fast)
    if num_workers == 0 and decoding.num_threads:
        yield from decode_in_threads(chunks, decoder, decoding.num_threads, waits)
        return
    ahead = 2 * max(1, num_workers)
    parts = decode_chunks(timed_chunks(chunks, waits), decoder, num_workers, ahead=ahead, chunk_size=batch_size)
    with contextlib.closing(parts):
        while True:
            start, read_before = time.perf_counter(), waits.reading
            part = next(parts, None)
            waits.decoding += time.perf_counter() - start - (waits.reading - read_before)
            if part is None:
                return
            yield part


def without_image(sample: Sample) -> Sample:
    """The sample without its encoded image."""
    return dataclasses.replace(sample, image=b"")


def _changed(chunk: Chunk, change: Callable[[Sample], Sample]) -> Chunk:
    """The chunk with its samples changed; broken items are kept."""
    items = [(shard, change(item) if isinstance(item, Sample) else item) for shard, item in chunk.items]
    return dataclasses.replace(chunk, items=items)
