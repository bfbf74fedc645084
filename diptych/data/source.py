"""The common interface of training pairs and evaluation sets: shards, each read from its start in a fixed order."""

import abc
import dataclasses
import functools
import itertools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from diptych.files import size_of
from diptych.records import Broken, Sample

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Survey:
    """What can be learned about a source without decoding images.

    Attributes:
        num_samples: number of samples; None if it is known only after reading everything.
        problems: what is wrong with the files, one sentence each.
    """

    num_samples: int | None = None
    problems: Sequence[str] = ()


class Source(abc.ABC):
    """Training pairs or an evaluation set; docs/data.md lists the formats."""

    @property
    @abc.abstractmethod
    def shards(self) -> Sequence[str]:
        """Names of the shards, in a fixed order."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over the shards' names and sizes."""

    @abc.abstractmethod
    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The samples of shard `index`: the same ones in the same order each time."""

    @functools.cached_property
    def num_samples(self) -> int | None:
        """The number of samples, including broken ones; None if it is known only after reading everything."""
        return None

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """The files that `read` opens; with a limit, those of about `limit` evenly spaced samples.

        Missing files are included. A source of generated samples has no files.
        """
        return iter(())

    def survey(self) -> Survey:
        """Count samples and check files without decoding images; may take long."""
        return Survey(self.num_samples)

    def distinct_labels(self) -> set[int | None] | None:
        """The labels that occur, with None for a sample without one; None if known only after reading everything."""
        return None

    def get(self, key: str) -> Sample | None:
        """The first readable sample with this key; None if there is none."""
        return next(self.get_all({key}), None)

    def get_all(self, keys: Collection[str]) -> Iterator[Sample]:
        """The samples with these keys, in the source's order; a key that occurs twice gives both samples."""
        for item in itertools.chain.from_iterable(map(self.read, range(len(self.shards)))):
            if isinstance(item, Sample) and item.key in keys:
                yield item


class WrappedSource(Source):
    """A source that changes another source item by item. Subclasses have the wrapped source as `source`."""

    source: Source

    @abc.abstractmethod
    def change(self, item: Sample | Broken, shard: str) -> Sample | Broken:
        """The changed item of a shard."""

    @property
    def shards(self) -> Sequence[str]:
        """The wrapped source's shards."""
        return self.source.shards

    @property
    def fingerprint(self) -> str:
        """The wrapped source's fingerprint."""
        return self.source.fingerprint

    @functools.cached_property
    def num_samples(self) -> int | None:
        """The wrapped source's number of samples."""
        return self.source.num_samples

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The wrapped source's items, changed."""
        shard = self.shards[index]
        return (self.change(item, shard) for item in self.source.read(index))

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """The wrapped source's files."""
        return self.source.files(limit)

    def survey(self) -> Survey:
        """The wrapped source's survey; it does not consider the changes."""
        return self.source.survey()

    def distinct_labels(self) -> set[int | None] | None:
        """The wrapped source's labels."""
        return self.source.distinct_labels()

    def get_all(self, keys: Collection[str]) -> Iterator[Sample]:
        """The wrapped source's samples with these keys, changed."""
        changed = (self.change(item, "") for item in self.source.get_all(keys))
        return (item for item in changed if isinstance(item, Sample))


def spaced(items: Sequence[T], limit: int | None) -> Sequence[T]:
    """All items, or `limit` evenly spaced ones if there are more."""
    if limit is None or len(items) <= limit:
        return items
    return [items[index * len(items) // limit] for index in range(limit)]


def file_problems(paths: Iterator[Path]) -> list[str]:
    """Sentences about files that are missing or empty."""
    missing: list[Path] = []
    empty: list[Path] = []
    for path in paths:
        if not (size := size_of(path)):
            (missing if size is None else empty).append(path)
    problems = [f"{len(missing):,} files are missing, such as {missing[0]}"] if missing else []
    return problems + ([f"{len(empty):,} files are empty, such as {empty[0]}"] if empty else [])
