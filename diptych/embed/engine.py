"""Encode the images of a source batch by batch, in bounded memory, with any number of workers and ranks."""

import dataclasses
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image

from diptych import distributed
from diptych.data.decoding import decode_image
from diptych.data.evaluation_batches import Decoding, EvaluationBatch, evaluation_batches, without_image
from diptych.data.source import Source
from diptych.data.stream import NoSampleError
from diptych.data.tally import Tally
from diptych.data.transforms import Preprocessing
from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.embed.image_batches import encode_apart, in_short
from diptych.embed.stage_times import StageTimes
from diptych.embed.text_batches import TextFunction
from diptych.errors import ConfigError, DataError, ImageError
from diptych.records import Broken, Sample

KINDS = ("embeddings", "features")
TEXT_EMBEDDINGS = "text embeddings"
"""The kind of vectors of texts; they have unit norm, as embeddings of images have."""
OnBroken = Callable[[Broken, int], None]
"""Called with a broken sample, and the place of the first sample of its batch in this rank's share of the source."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EncodedBatch:
    """A batch of samples with their vectors.

    Attributes:
        places: int64 (N,), positions of the samples in the whole source.
        samples: N samples with captions, labels and metadata; their encoded images are dropped (b"").
        vectors: float32 (N, D), embeddings or features.
    """

    places: np.ndarray
    samples: tuple[Sample, ...]
    vectors: torch.Tensor

    @property
    def keys(self) -> tuple[str, ...]:
        """The samples' keys."""
        return tuple(sample.key for sample in self.samples)

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,), the samples' labels; NO_LABEL for samples without a label."""
        return np.array([NO_LABEL if sample.label is None else sample.label for sample in self.samples], dtype=np.int64)


NO_LABEL = -1


@runtime_checkable
class PixelEncoder(Protocol):
    """An encoder with a declared preprocessing, so that worker processes can prepare its input."""

    @property
    def preprocessing(self) -> Preprocessing:
        """The evaluation's resize, crop and normalization."""

    def encode_pixels(self, images: torch.Tensor, /) -> torch.Tensor:
        """uint8 (N, 3, R, R) -> (N, E) float32, unit norm."""


def encode_source(
    encoder: Encoder,
    source: Source,
    batch_size: int,
    num_workers: int = 0,
    kind: str = "embeddings",
    *,
    where: str = "the data",
    strict: bool = True,
    on_broken: OnBroken = lambda sample, place: None,
    decoding: Decoding = Decoding(),  # noqa: B008  (frozen)
    times: StageTimes | None = None,
) -> Generator[EncodedBatch, None, tuple[int, int]]:
    """Encode each image of a source once, in the order of the source.

    Broken samples are left out, named in the log, and counted. Each rank encodes every world_size-th sample. All ranks
    must iterate to the end.

    Args:
        encoder: computes the vectors. If it has `encode_pixels`, workers decode and resize the images.
        source: images; labels and captions are optional.
        batch_size: maximum number of images per batch.
        num_workers: decoding processes; they do not change the result.
        kind: "embeddings" of unit norm, or "features", the output of the image tower before its projection; or
            "text embeddings" of each sample's first text.
        where: name of the source in messages.
        strict: a lost sample is an error, because a measurement must cover the whole source. If False, lost samples
            count as broken, and a source without a usable sample yields nothing.
        on_broken: called with each broken sample of this rank.
        decoding: threads that decode, and the samples after which batches end.
        times: the seconds of reading, decoding and computing are added to it.
    Yields:
        Batches of N >= 1 samples.
    Returns:
        The number of broken samples and the number of all samples, over all ranks.
    Raises:
        DataError: the source is empty; or, if `strict`, a shard is cut short or its layout loses a sample.
        ConfigError: kind is "features" and the encoder has none.
    """
    share = _Share(source, where, strict)
    times = StageTimes() if times is None else times
    if kind == TEXT_EMBEDDINGS:
        batches = _from_texts(TextFunction(encoder), share, batch_size, on_broken, times)
    elif isinstance(encoder, PixelEncoder):
        pixels = evaluation_batches(
            share, encoder.preprocessing, batch_size, num_workers, on_broken, decoding=decoding, waits=times
        )
        batches = _from_pixels(image_function(encoder, kind), pixels, times)
    else:
        batches = _from_images(image_function(encoder, kind), share, batch_size, on_broken, times)
    num_good = 0
    for batch in _unless_empty(batches, share, where):
        num_good += len(batch.samples)
        yield dataclasses.replace(batch, places=share.place(batch.places))
    num_good = int(distributed.sum_over_ranks(torch.tensor(num_good)))
    num_items = sum(share.num_items.values())
    return num_items - num_good, num_items


def image_function(encoder: Encoder, kind: str) -> Callable[..., torch.Tensor]:
    """The method of an encoder that turns images (pixels for a PixelEncoder) into vectors of a kind.

    Raises:
        ConfigError: the encoder has no vectors of that kind.
    """
    if kind == "features" and not about(encoder).has_features:
        raise ConfigError(f"{encoder.name} gives no features of images")
    any_encoder: Any = encoder  # the methods are optional
    if isinstance(encoder, PixelEncoder):
        return any_encoder.encode_pixels if kind == "embeddings" else any_encoder.pixel_features
    return any_encoder.encode_images if kind == "embeddings" else any_encoder.image_features


def _unless_empty(batches: Iterator[EncodedBatch], share: "_Share", where: str) -> Iterator[EncodedBatch]:
    """The batches; none if this rank has no sample because the source has fewer samples than there are ranks."""
    try:
        yield from batches
    except DataError as error:
        if isinstance(error, NoSampleError) and not share.strict:
            return
        if share.has_given or not sum(share.num_items.values()):
            raise DataError(str(error).replace("epoch 0 had", f"{where} has", 1)) from error


class _Share(Source):
    """This rank's share of a source. It counts the items per shard, because the loader reads ahead into the next pass.

    If `strict`, a shard whose rest is lost is an error: nothing tells how many samples are missing.

    Attributes:
        num_items: items per shard, over all ranks.
        has_given: whether this rank has received any item.
    """

    def __init__(self, source: Source, where: str, strict: bool) -> None:
        self._source, self._where, self.strict = source, where, strict
        self.num_items: dict[int, int] = {}
        self.has_given = False

    @property
    def shards(self) -> Sequence[str]:
        return self._source.shards

    @property
    def fingerprint(self) -> str:
        return self._source.fingerprint

    def place(self, places: np.ndarray) -> np.ndarray:
        """Convert positions in this share to positions in the whole source."""
        return places * distributed.world_size() + distributed.rank()

    def read(self, index: int) -> Iterator[Sample | Broken]:
        before, count = sum(self.num_items[shard] for shard in range(index)), 0
        for item in self._source.read(index):
            if self.strict and isinstance(item, Broken) and item.by_layout:
                raise DataError(
                    f"{self._where}: {item.key} is lost: {item.reason} ({item.shard}); "
                    "a number would not stand for the set"
                )
            if self.strict and isinstance(item, Broken) and item.rest_lost:
                raise DataError(
                    f"{self._where}: {item.reason} ({item.shard}); fetch the shard again, or a number would not stand "
                    "for the set"
                )
            if (before + count) % distributed.world_size() == distributed.rank():
                self.has_given = True
                yield item
            count += 1
        self.num_items[index] = count


def _from_pixels(
    function: Callable[[torch.Tensor], torch.Tensor], batches: Iterator[EvaluationBatch], times: StageTimes
) -> Iterator[EncodedBatch]:
    for batch in batches:
        with times.measure("computing"):
            vectors = function(batch.images)
        yield EncodedBatch(batch.places, batch.samples, vectors)


def _from_images(
    function: Callable[[list[Image.Image]], torch.Tensor],
    source: Source,
    batch_size: int,
    on_broken: OnBroken,
    times: StageTimes,
) -> Iterator[EncodedBatch]:
    tally = Tally(max_broken=1.0, num_shards=len(source.shards))
    any_good = False
    for chunk in _chunks(source, batch_size, times):
        good: list[tuple[int, str, Sample, Image.Image]] = []
        broken: list[Broken] = []
        with times.measure("decoding"):
            for place, (shard, item) in chunk:
                opened = _open(item, shard)
                if isinstance(opened, Broken):
                    broken.append(opened)
                else:
                    good.append((place, shard, *opened))
        with times.measure("computing"):
            vectors, failed = encode_apart(function, [image for *_, image in good]) if good else (None, {})
        if failed and vectors is None and not any_good:
            raise failed[0]  # the model is broken, and every other image would fail too
        broken += [Broken(good[row][2].key, good[row][1], in_short(error)) for row, error in failed.items()]
        encoded = [(place, sample) for row, (place, _, sample, _) in enumerate(good) if row not in failed]
        for lost in broken:
            on_broken(lost, chunk[0][0])
        tally.add(len(encoded), broken, epoch=0, epoch_ends=False)
        if vectors is not None:
            any_good = True
            places = np.array([place for place, _ in encoded], dtype=np.int64)
            yield EncodedBatch(places, tuple(sample for _, sample in encoded), vectors)
    tally.add(0, (), epoch=0, epoch_ends=True)


def _from_texts(
    function: TextFunction, source: Source, batch_size: int, on_broken: OnBroken, times: StageTimes
) -> Iterator[EncodedBatch]:
    tally = Tally(max_broken=1.0, num_shards=len(source.shards))
    for chunk in _chunks(source, batch_size, times):
        good = [(place, shard, item) for place, (shard, item) in chunk if isinstance(item, Sample)]
        broken = [item for _, (_, item) in chunk if isinstance(item, Broken)]
        with times.measure("computing"):
            vectors, failed = function([item.texts[0] for *_, item in good]) if good else (None, {})
        broken += [Broken(good[row][2].key, good[row][1], in_short(error)) for row, error in failed.items()]
        for lost in broken:
            on_broken(lost, chunk[0][0])
        encoded = [(place, item) for row, (place, _, item) in enumerate(good) if row not in failed]
        tally.add(len(encoded), broken, epoch=0, epoch_ends=False)
        if vectors is not None:
            places = np.array([place for place, _ in encoded], dtype=np.int64)
            yield EncodedBatch(places, tuple(item for _, item in encoded), vectors)
    function.report()
    tally.add(0, (), epoch=0, epoch_ends=True)


def _chunks(
    source: Source, batch_size: int, times: StageTimes
) -> Iterator[list[tuple[int, tuple[str, Sample | Broken]]]]:
    """The items of a source with their places and shards, `batch_size` at a time."""
    items = enumerate((shard, item) for index, shard in enumerate(source.shards) for item in source.read(index))
    while True:
        with times.measure("reading"):
            chunk = list(itertools.islice(items, batch_size))
        if not chunk:
            return
        yield chunk


def _open(item: Sample | Broken, shard: str) -> tuple[Sample, Image.Image] | Broken:
    if isinstance(item, Broken):
        return item
    try:
        return without_image(item), decode_image(item.image)
    except ImageError as error:
        return Broken(item.key, shard, str(error))
