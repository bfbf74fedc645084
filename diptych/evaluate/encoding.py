"""From a labelled set to embeddings, batch by batch."""

import logging
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

from diptych.data.benchmarks import Benchmark
from diptych.data.decoding import decode_image
from diptych.embed.encoder import Encoder
from diptych.errors import DataError, ImageError
from diptych.records import Broken, Sample

MAX_BROKEN = 0.01
"""Largest share of broken samples with which a number still stands for its set."""

_log = logging.getLogger(__name__)
_NAMED_BROKEN = 10

_Batch = tuple[tuple[str, ...], torch.Tensor, np.ndarray]


def encode_benchmark(encoder: Encoder, benchmark: Benchmark, batch_size: int) -> Iterator[_Batch]:
    """Encode the pictures of a set, each once and in its order.

    Broken samples are left out, named in the log, and counted.

    Args:
        encoder: gives the pictures' embeddings.
        benchmark: the set.
        batch_size: pictures per batch.
    Yields:
        keys (N,), embeddings float32 (N, E), labels int64 (N,).
    Raises:
        DataError: the set is empty, more than MAX_BROKEN of it is broken, or a label is none of its classes.
    """
    broken: list[Broken] = []
    num_samples = 0
    batch: list[tuple[Sample, Image.Image]] = []
    for sample, picture in _pictures(benchmark, broken):
        batch.append((sample, picture))
        num_samples += 1
        if len(batch) == batch_size:
            yield _encode(encoder, batch)
            batch = []
    if batch:
        yield _encode(encoder, batch)
    _report(benchmark, num_samples, broken)


def _pictures(benchmark: Benchmark, broken: list[Broken]) -> Iterator[tuple[Sample, Image.Image]]:
    for index, shard in enumerate(benchmark.source.shards):
        for sample in benchmark.source.read(index):
            if isinstance(sample, Broken):
                broken.append(sample)
                continue
            _check_label(benchmark, sample)
            try:
                yield sample, decode_image(sample.image)
            except ImageError as error:
                broken.append(Broken(sample.key, shard, str(error)))


def _encode(encoder: Encoder, batch: list[tuple[Sample, Image.Image]]) -> _Batch:
    embeddings = encoder.encode_images([picture for _, picture in batch])
    return tuple(sample.key for sample, _ in batch), embeddings, np.array([sample.label for sample, _ in batch])


def _check_label(benchmark: Benchmark, sample: Sample) -> None:
    num_classes = len(benchmark.class_names)
    if sample.label is None or not 0 <= sample.label < num_classes:
        raise DataError(
            f"{benchmark.name}/{benchmark.split}: sample {sample.key!r} has the label {sample.label}, "
            f"but the set names {num_classes} classes, 0 to {num_classes - 1}"
        )


def _report(benchmark: Benchmark, num_samples: int, broken: list[Broken]) -> None:
    where = f"{benchmark.name}/{benchmark.split}"
    for item in broken[:_NAMED_BROKEN]:
        _log.warning("%s: %s in %s is broken: %s", where, item.key, item.shard, item.reason)
    total = num_samples + len(broken)
    if not total:
        raise DataError(f"{where} has no samples")
    if len(broken) > MAX_BROKEN * total:
        raise DataError(
            f"{where}: {len(broken)} of {total} samples are broken, more than {MAX_BROKEN:.0%}; "
            f"the first is {broken[0].key!r} in {broken[0].shard}: {broken[0].reason}"
        )
    if broken:
        _log.warning("%s: %d of %d samples are broken and left out of n", where, len(broken), total)
