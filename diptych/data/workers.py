"""Decodes chunks of raw samples, in worker processes or inline, with the same result.

Workers are forked on Linux: they start in milliseconds, need no `if __name__ == "__main__"` in the caller's script, and
start before the loader's own thread. They only decode and tokenize on one thread, so they do not touch locks or thread
pools that are unusable after a fork. processes.py runs them.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator
from typing import Protocol, TypeVar

import numpy as np
import torch

from diptych.data.copies import CopyAugmentation, copy_image
from diptych.data.preprocessing import evaluation_array
from diptych.data.processes import NO_ITEM, Pool
from diptych.data.stream import Chunk
from diptych.data.transforms import Augmentation, Preprocessing, decode_image, evaluation_pixels, training_pixels
from diptych.errors import ConfigError, DataError, ImageError
from diptych.records import Broken, Sample

T = TypeVar("T")
FAST_DECODING_SCALE = 4
"""Fast decoding keeps this many pixels for each one of the network's input; tests state the cosine that it costs."""


class Tokenize(Protocol):
    """The part of diptych.data.tokenizer.Tokenizer that the loader needs."""

    def __call__(self, texts: list[str], *, truncate: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Texts -> (tokens int32 (N, L), lengths int64 (N,))."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class DecodedChunk:
    """A decoded chunk.

    Attributes:
        images: uint8 (n, 3 V, R, R), the V views of each good sample, one after another: 1, or 2 for an image and its
            copy.
        keys: n sample keys.
        broken: the broken samples.
        tokens: int32 (n, L), zero-padded; empty in evaluation. An array, because it is sent in the message and not in
            shared memory.
        lengths: int64 (n,); empty in evaluation.
        rows: int64 (n,), indices of the good samples in the chunk.
    """

    images: torch.Tensor
    keys: tuple[str, ...]
    broken: tuple[Broken, ...]
    tokens: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 0), dtype=np.int32))
    lengths: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    rows: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=np.int64))


class Decoder(Protocol):
    """Turns a chunk into pixels."""

    @property
    def preprocessing(self) -> Preprocessing:
        """The model's preprocessing."""

    @property
    def num_views(self) -> int:
        """Images of each sample: 1, or 2 for an image and its copy."""

    def __call__(self, chunk: Chunk, begin: Callable[[int], None] = ...) -> DecodedChunk:
        """Decode a chunk; `begin(index)` is called before each of its items, and with NO_ITEM at the end."""


def _nothing(_: int) -> None:
    pass


class TrainingDecoder:
    """Chunk -> augmented pixels and the tokens of one caption per image.

    A sample's random draws depend only on seed, epoch, lane and its index in the lane's epoch.
    """

    num_views = 1

    def __init__(
        self, tokenizer: Tokenize, preprocessing: Preprocessing, augmentation: Augmentation, seed: int
    ) -> None:
        self.tokenizer, self.preprocessing, self.augmentation = tokenizer, preprocessing, augmentation
        self.seed = seed
        self.target = augmentation.decoding_target(preprocessing.image_size)

    def __call__(self, chunk: Chunk, begin: Callable[[int], None] = _nothing) -> DecodedChunk:
        def decode(place: int, sample: Sample) -> tuple[torch.Tensor, str]:
            rng = _generator(self.seed, chunk, place)
            caption = _draw_caption(sample, rng)
            image = decode_image(sample.image, target=self.target)
            return training_pixels(image, self.preprocessing, self.augmentation, rng), caption

        images, keys, captions, broken = _decode_each(chunk, self, decode, begin)
        if not keys:
            return DecodedChunk(images, keys, broken)
        tokens, lengths = self.tokenizer(captions, truncate=True)
        return DecodedChunk(images, keys, broken, tokens.numpy(), lengths.numpy())


def _draw_caption(sample: Sample, rng: np.random.Generator) -> str:
    captions = [text for text in sample.texts if text.strip()]
    if not captions:
        raise DataError("the caption is empty" if sample.texts else "there is no caption")
    return captions[0] if len(captions) == 1 else captions[int(rng.random() * len(captions))]


def _generator(seed: int, chunk: Chunk, place: int) -> np.random.Generator:
    """A sample's own random numbers; `place` is its index in the lane's epoch."""
    # Philox is counter-based: each sample gets its own section of one stream, cheaper than seeding a generator.
    return np.random.Generator(np.random.Philox(key=[seed, chunk.epoch], counter=[0, place, chunk.lane, 0]))


class CopyDecoder:
    """Chunk -> each image as in evaluation, and a randomly changed copy of it. Captions are not read.

    A sample's random draws depend on the same as in TrainingDecoder.
    """

    num_views = 2

    def __init__(self, preprocessing: Preprocessing, augmentation: CopyAugmentation, seed: int) -> None:
        self.preprocessing, self.augmentation, self.seed = preprocessing, augmentation, seed
        self.target = augmentation.decoding_target(preprocessing.image_size)

    def __call__(self, chunk: Chunk, begin: Callable[[int], None] = _nothing) -> DecodedChunk:
        def decode(place: int, sample: Sample) -> tuple[torch.Tensor, None]:
            image = decode_image(sample.image, target=self.target)
            copy = copy_image(image, self.augmentation, _generator(self.seed, chunk, place))
            return torch.cat([evaluation_pixels(view, self.preprocessing) for view in (image, copy)]), None

        images, keys, _, broken = _decode_each(chunk, self, decode, begin)
        tokens, lengths = np.zeros((len(keys), 0), np.int32), np.zeros(len(keys), np.int64)
        return DecodedChunk(images, keys, broken, tokens, lengths)


def training_decoder(
    tokenizer: Tokenize | None,
    preprocessing: Preprocessing,
    augmentation: Augmentation | CopyAugmentation,
    seed: int,
) -> TrainingDecoder | CopyDecoder:
    """The decoder of images with captions, or of images with their copies.

    Raises:
        ConfigError: captions are needed and there is no tokenizer.
    """
    if isinstance(augmentation, CopyAugmentation):
        return CopyDecoder(preprocessing, augmentation, seed)
    if tokenizer is None:
        raise ConfigError("pairs of images and captions need a tokenizer")
    return TrainingDecoder(tokenizer, preprocessing, augmentation, seed)


class EvaluationDecoder:
    """Chunk -> pixels with the evaluation's preprocessing.

    Args:
        fast: decode a JPEG at 1/2, 1/4 or 1/8 of its size where its short side keeps four times the network's input.
            The pixels then differ slightly from those of the full size.
    """

    num_views = 1

    def __init__(self, preprocessing: Preprocessing, *, fast: bool = False) -> None:
        self.preprocessing = preprocessing
        self.target = FAST_DECODING_SCALE * preprocessing.image_size if fast else None

    def decode(self, shard: str, sample: Sample) -> np.ndarray | Broken:
        """The pixels of one sample, uint8 (3, R, R), or why there are none; may be called from several threads."""
        try:
            return evaluation_array(decode_image(sample.image, target=self.target), self.preprocessing)
        except ImageError as error:
            return Broken(sample.key, shard, str(error))

    def __call__(self, chunk: Chunk, begin: Callable[[int], None] = _nothing) -> DecodedChunk:
        def decode(place: int, sample: Sample) -> tuple[torch.Tensor, int]:
            image = decode_image(sample.image, target=self.target)
            return evaluation_pixels(image, self.preprocessing), place - chunk.start

        images, keys, rows, broken = _decode_each(chunk, self, decode, begin)
        return DecodedChunk(images, keys, broken, rows=np.array(rows, dtype=np.int64))


def _decode_each(
    chunk: Chunk,
    decoder: Decoder,
    decode: Callable[[int, Sample], tuple[torch.Tensor, T]],
    begin: Callable[[int], None],
) -> tuple[torch.Tensor, tuple[str, ...], list[T], tuple[Broken, ...]]:
    """Images, keys and the second results of `decode` for the good samples; and the broken samples."""
    size = decoder.preprocessing.image_size
    images = torch.empty((len(chunk.items), 3 * decoder.num_views, size, size), dtype=torch.uint8)
    keys: list[str] = []
    others: list[T] = []
    broken: list[Broken] = []
    for index, (shard, sample) in enumerate(chunk.items):
        if isinstance(sample, Broken):
            broken.append(sample)
            continue
        begin(index)
        try:
            images[len(keys)], other = decode(chunk.start + index, sample)
        except (ImageError, DataError) as error:
            broken.append(Broken(sample.key, shard, str(error)))
            continue
        keys.append(sample.key)
        others.append(other)
    begin(NO_ITEM)
    return images[: len(keys)], tuple(keys), others, tuple(broken)


def decode_chunks(
    chunks: Generator[Chunk], decoder: Decoder, num_workers: int, ahead: int, chunk_size: int
) -> Generator[DecodedChunk]:
    """Decode chunks in order, `ahead` of them in the workers at a time; inline with num_workers=0.

    With workers, a sample whose decoder crashes or never returns is broken like others. Closing the generator ends the
    workers and closes `chunks`.

    Args:
        chunks: chunks of at most chunk_size items.
        decoder: decodes one chunk.
        num_workers: number of processes.
        ahead: number of chunks that the workers have at a time.
        chunk_size: maximum number of items in a chunk.
    Raises:
        WorkerError: a worker died for another reason than a sample.
    """
    with contextlib.closing(chunks):
        if num_workers == 0:
            for chunk in chunks:
                yield decoder(chunk)
            return
        failures: list[Exception] = []
        pixels = decoder.num_views * decoder.preprocessing.image_size**2
        each, slot_bytes = max(2, -(-ahead // num_workers)), chunk_size * 3 * pixels
        pool = Pool(_Work(decoder), num_workers, each, slot_bytes, _without)
        with contextlib.closing(pool.map(_until_failure(chunks, failures))) as results:
            for content, images in results:
                yield dataclasses.replace(content, images=images)
        if failures:
            raise failures[0]


def _until_failure(chunks: Iterator[Chunk], failures: list[Exception]) -> Iterator[Chunk]:
    """Yield chunks until the source fails; the error is kept until they are decoded, as without workers."""
    try:
        yield from chunks
    except Exception as error:
        failures.append(error)


def _without(chunk: Chunk, index: int, reason: str) -> Chunk:
    """The chunk with one sample marked as broken."""
    items = list(chunk.items)
    shard, sample = items[index]
    items[index] = shard, Broken(sample.key, shard, reason)
    return dataclasses.replace(chunk, items=items)


@dataclasses.dataclass(frozen=True)
class _Work:
    """A decoder in the form that processes.py needs: pixels are returned separately from the rest."""

    decoder: Decoder

    def __call__(self, chunk: Chunk, begin: Callable[[int], None]) -> tuple[DecodedChunk, torch.Tensor]:
        content = self.decoder(chunk, begin)
        return dataclasses.replace(content, images=_NO_IMAGES), content.images


_NO_IMAGES = torch.empty((0, 3, 0, 0), dtype=torch.uint8)
