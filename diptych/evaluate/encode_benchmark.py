"""Encode an evaluation set; its labels must be valid classes, and at most one percent of its samples broken."""

from collections.abc import Generator

import numpy as np
import torch

from diptych import distributed
from diptych.embed.encoder import Encoder
from diptych.embed.engine import EncodedBatch, encode_source
from diptych.errors import DataError
from diptych.evalsets.benchmark import Benchmark

MAX_BROKEN = 0.01
"""The largest allowed share of broken samples; above it, a number would not represent its set."""


def encode_benchmark(
    encoder: Encoder,
    benchmark: Benchmark,
    batch_size: int,
    num_workers: int = 0,
    kind: str = "embeddings",
    *,
    gather: bool = True,
) -> Generator[EncodedBatch, None, int]:
    """Encode the images of a set, each once and in order; see `encode_source`.

    Args:
        encoder, batch_size, num_workers, kind: as for `encode_source`.
        benchmark: the set.
        gather: with several ranks, each encodes its share; True gives every rank all samples, False only its share.
    Yields:
        The samples, N >= 1 at a time.
    Returns:
        How many samples were broken.
    Raises:
        DataError: the set is empty, a shard is truncated, its layout loses a sample, more than MAX_BROKEN of the
            samples are broken, or a label is not one of the classes.
        ConfigError: features are requested, but the encoder has none.
    """
    where, num_classes = f"{benchmark.name}/{benchmark.split}", len(benchmark.class_names)
    batches = encode_source(encoder, benchmark.source, batch_size, num_workers, kind, where=where)
    num_broken, num_items = yield from _from_all_ranks(_checked(batches, num_classes, where), gather)
    if num_broken > MAX_BROKEN * num_items:
        raise DataError(
            f"{where}: {num_broken} of {num_items} samples are broken, more than {MAX_BROKEN:.0%}; "
            "the log names them; repair the set, otherwise the result would not represent it"
        )
    return num_broken


def _checked(
    batches: Generator[EncodedBatch, None, tuple[int, int]], num_classes: int, where: str
) -> Generator[EncodedBatch, None, tuple[int, int]]:
    """The batches unchanged; raises DataError for a label that is not one of the classes."""
    while True:
        try:
            batch = next(batches)
        except StopIteration as end:
            counts: tuple[int, int] = end.value
            return counts
        wrong = (row for row in batch.samples if row.label is None or not 0 <= row.label < num_classes)
        if num_classes and (sample := next(wrong, None)) is not None:
            label = "no label" if sample.label is None else f"the label {sample.label}"
            raise DataError(f"{where}: sample {sample.key!r} has {label}, but there are {num_classes} classes")
        yield batch


def _from_all_ranks(
    batches: Generator[EncodedBatch, None, tuple[int, int]], gather: bool
) -> Generator[EncodedBatch, None, tuple[int, int]]:
    """The batches unchanged on a single rank; otherwise the samples of all ranks as one batch, in the set's order."""
    if distributed.world_size() == 1 or not gather:
        return (yield from batches)
    mine, counts = _collect(batches)
    shares = [batch for share in distributed.gather_objects(mine) for batch in share]
    places = np.concatenate([share.places for share in shares])
    samples = [sample for share in shares for sample in share.samples]
    order = places.argsort(kind="stable")
    vectors = torch.cat([share.vectors for share in shares])[torch.from_numpy(order)]
    yield EncodedBatch(places[order], tuple(samples[place] for place in order), vectors)
    return counts


def _collect(batches: Generator[EncodedBatch, None, tuple[int, int]]) -> tuple[list[EncodedBatch], tuple[int, int]]:
    """All batches of a generator, and its return value."""
    collected = []
    while True:
        try:
            collected.append(next(batches))
        except StopIteration as end:
            return collected, end.value
