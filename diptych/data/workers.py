"""Decoding chunks of raw samples, in worker processes or inline, with the same result.

Workers are forked on Linux: they start in milliseconds, need no `if __name__ == "__main__"` in the caller's script, and
are started before the loader's own thread. All they do is decode and tokenise on one thread, so no lock or thread pool
that the fork left behind is touched. torch's DataLoader keeps the order, moves pixels through shared memory, notices a
worker that died, and its workers end by themselves when the parent is gone.
"""

import contextlib
import dataclasses
import multiprocessing.connection
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from diptych.data.stream import Chunk
from diptych.data.transforms import Augmentation, Preprocessing, decode_image, evaluation_pixels, training_pixels
from diptych.errors import DataError, DiptychError, ImageError
from diptych.records import Broken, Sample

T = TypeVar("T")


class Tokenize(Protocol):
    """diptych.data.tokenizer.Tokenizer, as far as the loader needs it."""

    def __call__(self, texts: list[str], *, truncate: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Texts -> (tokens int32 (N, L), lengths int64 (N,))."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class DecodedChunk:
    """What a worker made of a chunk.

    Attributes:
        images: uint8 (n, 3, R, R), of the samples that could be used.
        keys: n sample keys.
        broken: the samples that could not be used.
        tokens: int32 (n, L), zero-padded; empty in evaluation. An array travels in the message, not in shared memory.
        lengths: int64 (n,); empty in evaluation.
        labels: int64 (n,); empty in training.
    """

    images: torch.Tensor
    keys: tuple[str, ...]
    broken: tuple[Broken, ...]
    tokens: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0), dtype=np.int32))
    lengths: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    labels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class TrainingDecoder(Dataset[DecodedChunk]):
    """Chunk -> augmented pixels and the tokens of one caption per picture.

    The draws of a sample depend on seed, epoch, lane and its place in the lane's epoch alone.
    """

    def __init__(
        self, tokenizer: Tokenize, preprocessing: Preprocessing, augmentation: Augmentation, seed: int
    ) -> None:
        self.tokenizer, self.preprocessing, self.augmentation = tokenizer, preprocessing, augmentation
        self.seed = seed
        self.target = augmentation.decoding_target(preprocessing.image_size)

    def __getitem__(self, chunk: Chunk) -> DecodedChunk:
        def decode(place: int, sample: Sample) -> tuple[torch.Tensor, str]:
            # Philox is counter-based: each sample has its own stretch of one stream, cheaper than a seeding of its own.
            rng = np.random.Generator(np.random.Philox(key=[self.seed, chunk.epoch], counter=[0, place, chunk.lane, 0]))
            caption = _draw_caption(sample, rng)
            picture = decode_image(sample.image, target=self.target)
            return training_pixels(picture, self.preprocessing, self.augmentation, rng), caption

        images, keys, captions, broken = _decode_each(chunk, self.preprocessing.image_size, decode)
        if not keys:
            return DecodedChunk(images, keys, broken)
        tokens, lengths = self.tokenizer(captions, truncate=True)
        return DecodedChunk(images, keys, broken, tokens.numpy(), lengths.numpy())


def _draw_caption(sample: Sample, rng: np.random.Generator) -> str:
    captions = [text for text in sample.texts if text.strip()]
    if not captions:
        raise DataError("the caption is empty" if sample.texts else "there is no caption")
    return captions[0] if len(captions) == 1 else captions[int(rng.random() * len(captions))]


class EvaluationDecoder(Dataset[DecodedChunk]):
    """Chunk -> the evaluation's pixels, with labels."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing

    def __getitem__(self, chunk: Chunk) -> DecodedChunk:
        def decode(_: int, sample: Sample) -> tuple[torch.Tensor, int]:
            if sample.label is None:
                raise DataError("there is no label")
            return evaluation_pixels(decode_image(sample.image), self.preprocessing), sample.label

        images, keys, labels, broken = _decode_each(chunk, self.preprocessing.image_size, decode)
        return DecodedChunk(images, keys, broken, labels=np.array(labels, dtype=np.int64))


def _decode_each(
    chunk: Chunk, size: int, decode: Callable[[int, Sample], tuple[torch.Tensor, T]]
) -> tuple[torch.Tensor, tuple[str, ...], list[T], tuple[Broken, ...]]:
    """Images, keys and what else `decode` gives of the good samples; the broken ones."""
    images = torch.empty((len(chunk.items), 3, size, size), dtype=torch.uint8)
    keys: list[str] = []
    others: list[T] = []
    broken: list[Broken] = []
    for place, (shard, sample) in enumerate(chunk.items, chunk.start):
        if isinstance(sample, Broken):
            broken.append(sample)
            continue
        try:
            images[len(keys)], other = decode(place, sample)
        except (ImageError, DataError) as error:
            broken.append(Broken(sample.key, shard, str(error)))
            continue
        keys.append(sample.key)
        others.append(other)
    return images[: len(keys)], tuple(keys), others, tuple(broken)


def decode_chunks(
    chunks: Generator[Chunk], decoder: Dataset[DecodedChunk], num_workers: int, ahead: int
) -> Generator[DecodedChunk]:
    """Decode chunks in order, `ahead` of them in the workers at a time; inline with num_workers=0.

    Closing it ends the workers and closes `chunks`.
    """
    with contextlib.closing(chunks):
        if num_workers == 0:
            for chunk in chunks:
                yield decoder[chunk]
            return
        failures: list[Exception] = []
        loader = DataLoader(
            decoder,
            sampler=_until_failure(chunks, failures),  # the "indices" that workers receive are the chunks themselves
            batch_size=None,
            num_workers=num_workers,
            prefetch_factor=max(2, -(-ahead // num_workers)),
            collate_fn=_same,
            worker_init_fn=_prepare_worker,
            generator=torch.Generator(),  # else torch draws the workers' seed from the model's random numbers
            multiprocessing_context="fork" if sys.platform == "linux" else None,
        )
        with _started(loader) as decoded:
            try:
                yield from decoded
            except (RuntimeError, OSError, EOFError) as error:
                # torch's own report, or the broken connection to a worker whose chunk was on its way. Where the workers
                # live, it is something else.
                sentinels = [worker.sentinel for worker in decoded._workers]  # type: ignore[attr-defined]
                if not multiprocessing.connection.wait(sentinels, timeout=1):
                    raise
                raise DiptychError(
                    f"a process that decodes pictures died: {error}. If memory ran out (also /dev/shm, in containers "
                    "often 64 MiB), use fewer workers"
                ) from error
        if failures:
            raise failures[0]


def _until_failure(chunks: Iterator[Chunk], failures: list[Exception]) -> Iterator[Chunk]:
    """The chunks before the source fails; the error waits until they are decoded, as it does without workers.

    Inside torch's DataLoader, which asks for chunks while it starts, it would leave a half-made one behind.
    """
    try:
        yield from chunks
    except Exception as error:
        failures.append(error)


@contextlib.contextmanager
def _started(loader: DataLoader[DecodedChunk]) -> Generator[Iterator[DecodedChunk]]:
    """The loader's workers, ended on the way out whoever still holds a reference."""
    main, handler = threading.current_thread() is threading.main_thread(), signal.getsignal(signal.SIGCHLD)
    decoded = iter(loader)
    if main and handler is not None:
        # torch's handler raises in whatever line the main thread is at when a worker dies. Without it the death is
        # noticed where a chunk is awaited, and can be reported.
        signal.signal(signal.SIGCHLD, handler)
    try:
        yield decoded
    finally:
        decoded._shutdown_workers()  # type: ignore[attr-defined]  # torch leaves it to the garbage collector


def _same(decoded: Any) -> Any:
    return decoded


def _prepare_worker(_: int) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="PIL")  # remarks on damaged metadata, once per worker
    # Ctrl-C reaches the whole process group; the parent decides what it means and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
