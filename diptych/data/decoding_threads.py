"""Decodes chunks in threads of this process, ahead of the caller, which computes on the chunk before.

Pillow releases Python's lock while it decodes and resizes. Threads cost no memory and no copies between processes. They
do not survive an image that crashes its decoder; worker processes do (workers.py).
"""

import concurrent.futures
import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Generator, Sequence

import numpy as np
import torch

from diptych.data.stream import Chunk
from diptych.data.workers import DecodedChunk, EvaluationDecoder
from diptych.records import Broken, Sample

_AHEAD = 2  # chunks that are decoded or waiting
_Item = concurrent.futures.Future[np.ndarray | Broken] | Broken


@dataclasses.dataclass
class Waits:
    """Seconds that the consumer of decoded batches has waited for.

    Attributes:
        reading: no raw chunk was there yet. decoding: the chunk was read and not decoded yet.
    """

    reading: float = 0.0
    decoding: float = 0.0


def decode_in_threads(
    chunks: Generator[Chunk], decoder: EvaluationDecoder, num_threads: int, waits: Waits | None = None
) -> Generator[DecodedChunk]:
    """Decode chunks in order, with the same result as `decode_chunks`. Closing the generator ends the threads.

    Args:
        chunks: raw samples; iterated in another thread, which is at most 2 chunks ahead.
        decoder: decodes one sample.
        num_threads: decoding threads, at least 1.
        waits: the seconds that the caller waits are added to it.
    """
    waits = Waits() if waits is None else waits
    decoding: queue.Queue[tuple[Chunk, list[_Item]] | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def put(entry: tuple[Chunk, list[_Item]] | BaseException | None) -> bool:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                decoding.put(entry, timeout=0.2)
                return True
        return False

    def feed() -> None:
        end: BaseException | None = None
        try:
            for chunk in chunks:
                if not put((chunk, [_submit(pool, decoder, shard, item) for shard, item in chunk.items])):
                    return
        except BaseException as error:  # the caller must get every error
            end = error
        put(end)

    with concurrent.futures.ThreadPoolExecutor(num_threads, "diptych-decoder") as pool:
        feeder = threading.Thread(target=feed, name="diptych-feeder", daemon=True)
        feeder.start()
        try:
            while True:
                start = time.perf_counter()
                entry = decoding.get()
                waits.reading += time.perf_counter() - start
                if entry is None:
                    return
                if isinstance(entry, BaseException):
                    raise entry
                start = time.perf_counter()
                decoded = _gather(*entry, decoder)
                waits.decoding += time.perf_counter() - start
                yield decoded
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            feeder.join()
            chunks.close()


def timed_chunks(chunks: Generator[Chunk], waits: Waits) -> Generator[Chunk]:
    """The chunks; the seconds that the caller waits for them count as reading."""
    with contextlib.closing(chunks):
        while True:
            start = time.perf_counter()
            chunk = next(chunks, None)
            waits.reading += time.perf_counter() - start
            if chunk is None:
                return
            yield chunk


def _submit(
    pool: concurrent.futures.ThreadPoolExecutor, decoder: EvaluationDecoder, shard: str, item: Sample | Broken
) -> _Item:
    return item if isinstance(item, Broken) else pool.submit(decoder.decode, shard, item)


def _gather(chunk: Chunk, items: Sequence[_Item], decoder: EvaluationDecoder) -> DecodedChunk:
    size = decoder.preprocessing.image_size
    images = torch.empty((len(items), 3, size, size), dtype=torch.uint8)
    target, rows, broken = images.numpy(), list[int](), list[Broken]()
    for row, item in enumerate(items):
        result = item if isinstance(item, Broken) else item.result()
        if isinstance(result, Broken):
            broken.append(result)
        else:
            target[len(rows)] = result
            rows.append(row)
    keys = tuple(chunk.items[row][1].key for row in rows)
    return DecodedChunk(images[: len(rows)], keys, tuple(broken), rows=np.array(rows, dtype=np.int64))
