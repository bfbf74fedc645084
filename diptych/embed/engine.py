"""From a source of images to their vectors: batch by batch, in bounded memory, with any number of workers and ranks."""

import dataclasses
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image

from diptych import distributed
from diptych.data.decoding import decode_image
from diptych.data.evaluation_batches import evaluation_batches, without_image
from diptych.data.source import Source
from diptych.data.tally import Tally
from diptych.data.transforms import Preprocessing
from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.embed.pictures import encode_apart, in_short
from diptych.errors import ConfigError, DataError, ImageError
from diptych.records import Broken, Sample

KINDS = ("embeddings", "features")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class EncodedBatch:
    """Some samples of a source, with their vectors.

    Attributes:
        places: int64 (N,), of the samples among all that the source has.
        samples: N, with captions, labels and metadata, and without their encoded images (b"").
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
        """int64 (N,), the samples' labels; NO_LABEL for those without one."""
        return np.array([NO_LABEL if one.label is None else one.label for one in self.samples], dtype=np.int64)


NO_LABEL = -1


@runtime_checkable
class PixelEncoder(Protocol):
    """An encoder that says how images become its input, so that worker processes can prepare them."""

    @property
    def preprocessing(self) -> Preprocessing:
        """The evaluation's resize, crop and normalisation."""

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
) -> Generator[EncodedBatch, None, tuple[int, int]]:
    """Encode the images of a source, each once and in its order.

    Broken samples are left out, named in the log, and counted. Of several ranks each encodes its share, every
    world_size-th sample; all must iterate to the end.

    Args:
        encoder: gives the images' vectors; where it has `encode_pixels`, workers decode and resize for it.
        source: the images, with labels and captions or without.
        batch_size: the most images per batch.
        num_workers: processes that decode; it changes nothing in the result.
        kind: "embeddings" of unit norm, or "features", what the image tower gives before its projection.
        where: what messages call the source.
    Yields:
        The samples, N >= 1 at a time.
    Returns:
        How many samples were broken, of how many, in all ranks together.
    Raises:
        DataError: the source is empty, a shard breaks off, or its layout loses a sample.
        ConfigError: features are asked for, and the encoder has none.
    """
    share = _Share(source, where)
    function = image_function(encoder, kind)
    if isinstance(encoder, PixelEncoder):
        batches = _from_pixels(encoder, function, share, batch_size, num_workers)
    else:
        batches = _from_images(function, share, batch_size)
    num_good = 0
    for batch in _unless_empty(batches, share, where):
        num_good += len(batch.samples)
        yield dataclasses.replace(batch, places=share.place(batch.places))
    num_good = int(distributed.sum_over_ranks(torch.tensor(num_good)))
    num_items = sum(share.num_items.values())
    return num_items - num_good, num_items


def image_function(encoder: Encoder, kind: str) -> Callable[..., torch.Tensor]:
    """What turns images (or pixels, for a PixelEncoder) into vectors of a kind.

    Raises:
        ConfigError: the encoder gives none of that kind.
    """
    if kind == "features" and not about(encoder).has_features:
        raise ConfigError(f"{encoder.name} gives no features of images")
    given: Any = encoder
    if isinstance(encoder, PixelEncoder):
        return given.encode_pixels if kind == "embeddings" else given.pixel_features
    return given.encode_images if kind == "embeddings" else given.image_features


def _unless_empty(batches: Iterator[EncodedBatch], share: "_Share", where: str) -> Iterator[EncodedBatch]:
    """The batches; none where the source has fewer samples than there are ranks and this one has none of them."""
    try:
        yield from batches
    except DataError as error:
        if share.has_given or not sum(share.num_items.values()):
            raise DataError(str(error).replace("epoch 0 had", f"{where} has", 1)) from error


class _Share(Source):
    """This rank's share of a source; counts the items of each shard, since the loader reads ahead into the next pass.

    It refuses a shard of which the rest is lost: no count can tell how much is missing.

    Attributes:
        num_items: of each shard, all ranks' together.
        has_given: whether this rank was given any item.
    """

    def __init__(self, source: Source, where: str) -> None:
        self._source, self._where = source, where
        self.num_items: dict[int, int] = {}
        self.has_given = False

    @property
    def shards(self) -> Sequence[str]:
        return self._source.shards

    @property
    def fingerprint(self) -> str:
        return self._source.fingerprint

    def place(self, places: np.ndarray) -> np.ndarray:
        """From places in this share to places in the whole source."""
        return places * distributed.world_size() + distributed.rank()

    def read(self, index: int) -> Iterator[Sample | Broken]:
        before, count = sum(self.num_items[shard] for shard in range(index)), 0
        for item in self._source.read(index):
            if isinstance(item, Broken) and item.by_layout:
                raise DataError(
                    f"{self._where}: {item.key} is lost: {item.reason} ({item.shard}); "
                    "a number would not stand for the set"
                )
            if isinstance(item, Broken) and item.rest_lost:
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
    encoder: PixelEncoder,
    function: Callable[[torch.Tensor], torch.Tensor],
    source: Source,
    batch_size: int,
    num_workers: int,
) -> Iterator[EncodedBatch]:
    for batch in evaluation_batches(source, encoder.preprocessing, batch_size, num_workers):
        yield EncodedBatch(batch.places, batch.samples, function(batch.images))


def _from_images(
    function: Callable[[list[Image.Image]], torch.Tensor], source: Source, batch_size: int
) -> Iterator[EncodedBatch]:
    tally = Tally(max_broken=1.0, num_shards=len(source.shards))
    items = enumerate((shard, item) for index, shard in enumerate(source.shards) for item in source.read(index))
    any_good = False
    while chunk := list(itertools.islice(items, batch_size)):
        good: list[tuple[int, str, Sample, Image.Image]] = []
        broken: list[Broken] = []
        for place, (shard, item) in chunk:
            opened = _open(item, shard)
            if isinstance(opened, Broken):
                broken.append(opened)
            else:
                good.append((place, shard, *opened))
        vectors, failed = encode_apart(function, [image for *_, image in good]) if good else (None, {})
        if failed and vectors is None and not any_good:
            raise failed[0]  # it is the model: the others would fail, too
        broken += [Broken(good[row][2].key, good[row][1], in_short(error)) for row, error in failed.items()]
        encoded = [(place, sample) for row, (place, _, sample, _) in enumerate(good) if row not in failed]
        tally.add(len(encoded), broken, epoch=0, epoch_ends=False)
        if vectors is not None:
            any_good = True
            places = np.array([place for place, _ in encoded], dtype=np.int64)
            yield EncodedBatch(places, tuple(sample for _, sample in encoded), vectors)
    tally.add(0, (), epoch=0, epoch_ends=True)


def _open(item: Sample | Broken, shard: str) -> tuple[Sample, Image.Image] | Broken:
    if isinstance(item, Broken):
        return item
    try:
        return without_image(item), decode_image(item.image)
    except ImageError as error:
        return Broken(item.key, shard, str(error))
