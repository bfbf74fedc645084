"""From a set of pictures to embeddings or features, batch by batch."""

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image

from diptych import distributed
from diptych.data.decoding import decode_image
from diptych.data.loader import evaluation_batches
from diptych.data.open_source import Source
from diptych.data.tally import Tally
from diptych.data.transforms import Preprocessing
from diptych.embed.encoder import Encoder
from diptych.embed.pictures import encode_apart, in_short
from diptych.errors import ConfigError, DataError, ImageError
from diptych.evalsets.benchmark import Benchmark
from diptych.records import Broken, Sample

MAX_BROKEN = 0.01
"""Largest share of broken samples with which a number still stands for its set."""


_Batch = tuple[tuple[str, ...], torch.Tensor, np.ndarray]
"""Keys, vectors, labels."""


class EncodedBatch(NamedTuple):
    """Some samples of a set.

    Attributes:
        places: int64 (N,), among the samples of the whole set.
        keys: N sample keys.
        vectors: float32 (N, D), embeddings or features.
        labels: int64 (N,).
        texts: of each sample, its captions.
        metadata: of each sample, what its reader knows beside.
    """

    places: np.ndarray
    keys: tuple[str, ...]
    vectors: torch.Tensor
    labels: np.ndarray
    texts: tuple[tuple[str, ...], ...]
    metadata: tuple[Mapping[str, Any], ...]


@runtime_checkable
class PixelEncoder(Protocol):
    """An encoder that says how pictures become its input, so that worker processes can prepare them."""

    @property
    def preprocessing(self) -> Preprocessing:
        """The evaluation's resize, crop and normalisation."""

    def encode_pixels(self, images: torch.Tensor, /) -> torch.Tensor:
        """uint8 (N, 3, R, R) -> (N, E) float32, unit norm."""


def encode_benchmark(
    encoder: Encoder, benchmark: Benchmark, batch_size: int, num_workers: int = 0, kind: str = "embeddings"
) -> Generator[EncodedBatch, None, int]:
    """Encode the pictures of a set, each once and in its order.

    Broken samples are left out, named in the log, and counted. Of several ranks each encodes its share, every
    world_size-th sample; all must iterate to the end.

    Args:
        encoder: gives the pictures' vectors; where it has `encode_pixels`, workers decode and resize for it.
        benchmark: the set.
        batch_size: the most pictures per batch.
        num_workers: processes that decode; it changes nothing in the result.
        kind: "embeddings" of unit norm, or "features", what the image tower says before its projection.
    Yields:
        the samples, N >= 1 at a time.
    Returns:
        how many samples were broken.
    Raises:
        DataError: the set is empty, a shard breaks off, its layout loses a sample, more than MAX_BROKEN of the samples
            are broken, or a label is none of its classes.
        ConfigError: features are asked for, and the encoder has none.
    """
    where, num_classes = f"{benchmark.name}/{benchmark.split}", len(benchmark.class_names)
    source = _CountedSource(benchmark.source, where)
    function = picture_function(encoder, kind)
    if isinstance(encoder, PixelEncoder):
        batches = _from_pixels(encoder, function, source, batch_size, num_workers)
    else:
        batches = _from_pictures(function, source, batch_size)
    num_good = 0
    for keys, vectors, labels in _unless_empty(batches, source, where):
        if num_classes and (labels.min() < 0 or labels.max() >= num_classes):
            index = int(np.argmax((labels < 0) | (labels >= num_classes)))
            raise DataError(
                f"{where}: sample {keys[index]!r} has the label {labels[index]}, but there are {num_classes} classes"
            )
        num_good += len(keys)
        yield source.batch(keys, vectors, labels)
    num_good = int(distributed.sum_over_ranks(torch.tensor(num_good)))
    num_items = sum(source.num_items.values())
    if num_items - num_good > MAX_BROKEN * num_items:
        raise DataError(
            f"{where}: {num_items - num_good} of {num_items} samples are broken, more than {MAX_BROKEN:.0%}; "
            "the log names them; repair the set, or a number would not stand for it"
        )
    return num_items - num_good


def picture_function(encoder: Encoder, kind: str) -> Callable[..., torch.Tensor]:
    """What turns pictures (or pixels, for a PixelEncoder) into vectors of a kind.

    Raises:
        ConfigError: the encoder gives none of that kind.
    """
    pixels = isinstance(encoder, PixelEncoder)
    names = {"embeddings": "encode_pixels" if pixels else "encode_images"}
    names["features"] = "pixel_features" if pixels else "image_features"
    found = getattr(encoder, names[kind], None)
    if found is None:
        raise ConfigError(f"{encoder.name} gives no {kind} of pictures: it lacks {names[kind]}")
    return found


def _unless_empty(batches: Iterator[_Batch], source: "_CountedSource", where: str) -> Iterator[_Batch]:
    """The batches; none where the set is smaller than the number of ranks and this one has no sample of it."""
    try:
        yield from batches
    except DataError as error:
        if source.has_given or not sum(source.num_items.values()):
            raise DataError(str(error).replace("epoch 0 had", f"{where} has", 1)) from error


_NOTHING: Mapping[str, Any] = MappingProxyType({})  # one for all samples


_Known = tuple[int, tuple[str, ...], Mapping[str, Any]]


class _CountedSource:
    """A source that remembers how many items each shard holds; the loader reads ahead, into the next pass too.

    It refuses a shard of which the rest is lost: how much is missing, no count can tell. Of several ranks each sees
    its own share of the items alone.

    Attributes:
        num_items: of each shard, all ranks' together.
        under_way: of this rank's keys that are not encoded yet: place in the whole set, texts and metadata of each.
        has_given: whether this rank was given any item.
    """

    def __init__(self, source: Source, where: str) -> None:
        self._source, self._where = source, where
        self.shards, self.fingerprint = source.shards, source.fingerprint
        self.num_items: dict[int, int] = {}
        self.under_way: dict[str, list[_Known]] = {}
        self.has_given = False

    def batch(self, keys: tuple[str, ...], vectors: torch.Tensor, labels: np.ndarray) -> EncodedBatch:
        """What is known about encoded samples, which is forgotten here."""
        known = [self._take(key) for key in keys]
        places = np.array([place for place, *_ in known], dtype=np.int64)
        texts, metadata = tuple(one[1] for one in known), tuple(one[2] for one in known)
        return EncodedBatch(places, keys, vectors, labels, texts, metadata)

    def _take(self, key: str) -> _Known:
        several = self.under_way[key]
        known = several.pop(0)
        if not several:
            del self.under_way[key]
        return known

    def read(self, index: int) -> Iterator[Sample | Broken]:
        count = 0
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
            place = sum(self.num_items[shard] for shard in range(index)) + count
            count += 1
            if place % distributed.world_size() == distributed.rank():
                self.has_given = True
                if isinstance(item, Sample):
                    known = (place, item.texts, item.metadata or _NOTHING)
                    self.under_way.setdefault(item.key, []).append(known)  # a key may come twice
                yield item
        self.num_items[index] = count


def _from_pixels(
    encoder: PixelEncoder,
    function: Callable[[torch.Tensor], torch.Tensor],
    source: Source,
    batch_size: int,
    num_workers: int,
) -> Iterator[_Batch]:
    for keys, images, labels in evaluation_batches(source, encoder.preprocessing, batch_size, num_workers):
        yield keys, function(images), labels.numpy()


def _from_pictures(
    function: Callable[[list[Image.Image]], torch.Tensor], source: Source, batch_size: int
) -> Iterator[_Batch]:
    tally = Tally(max_broken=1.0, num_shards=len(source.shards))
    items = ((shard, item) for index, shard in enumerate(source.shards) for item in source.read(index))
    any_good = False
    while chunk := list(itertools.islice(items, batch_size)):
        good: list[tuple[Sample, Image.Image, str]] = []
        broken: list[Broken] = []
        for shard, item in chunk:
            opened = _open(item, shard)
            if isinstance(opened, Broken):
                broken.append(opened)
            else:
                good.append((*opened, shard))
        vectors, failed = encode_apart(function, [picture for _, picture, _ in good]) if good else (None, {})
        if failed and vectors is None and not any_good:
            raise failed[0]  # it is the model: the others would fail, too
        broken += [Broken(good[place][0].key, good[place][2], in_short(error)) for place, error in failed.items()]
        samples = [sample for place, (sample, *_) in enumerate(good) if place not in failed]
        tally.add(len(samples), broken, epoch=0, epoch_ends=False)
        if vectors is not None:
            any_good = True
            yield tuple(one.key for one in samples), vectors, np.array([one.label for one in samples])
    tally.add(0, (), epoch=0, epoch_ends=True)


def _open(item: Sample | Broken, shard: str) -> tuple[Sample, Image.Image] | Broken:
    if isinstance(item, Broken):
        return item
    if item.label is None:
        return Broken(item.key, shard, "there is no label")
    try:
        return item, decode_image(item.image)
    except ImageError as error:
        return Broken(item.key, shard, str(error))
