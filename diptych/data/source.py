"""What readers of pairs and of evaluation sets have in common: shards, each read from its start in one fixed order."""

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
    """What shows of a source without decoding an image.

    Attributes:
        num_samples: None where only reading everything would tell.
            problems: what is wrong with its files, one sentence each.
    """

    num_samples: int | None = None
    problems: Sequence[str] = ()


class Source(abc.ABC):
    """Pairs to train on, or a set to measure on; see docs/data.md for the formats behind it."""

    @property
    @abc.abstractmethod
    def shards(self) -> Sequence[str]:
        """Names, in a fixed order."""

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 over the shards' names and sizes."""

    @abc.abstractmethod
    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The samples of shard `index`: the same ones in the same order each time."""

    @functools.cached_property
    def num_samples(self) -> int | None:
        """How many samples there are, broken ones among them; None where only reading everything would tell."""
        return None

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """The files that `read` opens; of more than about `limit` samples, those of evenly spaced ones.

        A file that is missing counts, too. A source without files (generated samples) has none.
        """
        return iter(())

    def survey(self) -> Survey:
        """Count samples and look at files without decoding an image, however long that takes."""
        return Survey(self.num_samples)

    def distinct_labels(self) -> set[int | None] | None:
        """The labels that occur, None for a sample without one; None where only reading everything would tell."""
        return None

    def get(self, key: str) -> Sample | None:
        """The sample of a key, the first of several; None where there is none that can be read."""
        return next(self.get_all({key}), None)

    def get_all(self, keys: Collection[str]) -> Iterator[Sample]:
        """The samples of some keys, in the source's order; a key that comes twice gives both."""
        for item in itertools.chain.from_iterable(map(self.read, range(len(self.shards)))):
            if isinstance(item, Sample) and item.key in keys:
                yield item


class WrappedSource(Source):
    """A source made of another one, item by item. What inherits from it has the other one as `source`."""

    source: Source

    @abc.abstractmethod
    def change(self, item: Sample | Broken, shard: str) -> Sample | Broken:
        """What becomes of an item of a shard."""

    @property
    def shards(self) -> Sequence[str]:
        """The other source's."""
        return self.source.shards

    @property
    def fingerprint(self) -> str:
        """The other source's."""
        return self.source.fingerprint

    @functools.cached_property
    def num_samples(self) -> int | None:
        """The other source's."""
        return self.source.num_samples

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The other source's items, changed."""
        shard = self.shards[index]
        return (self.change(item, shard) for item in self.source.read(index))

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """The other source's."""
        return self.source.files(limit)

    def survey(self) -> Survey:
        """The other source's: what is changed in reading is not looked at."""
        return self.source.survey()

    def distinct_labels(self) -> set[int | None] | None:
        """The other source's."""
        return self.source.distinct_labels()

    def get_all(self, keys: Collection[str]) -> Iterator[Sample]:
        """The other source's samples of these keys, changed."""
        changed = (self.change(item, "") for item in self.source.get_all(keys))
        return (item for item in changed if isinstance(item, Sample))


def spaced(items: Sequence[T], limit: int | None) -> Sequence[T]:
    """All items, or `limit` evenly spaced ones where there are more."""
    if limit is None or len(items) <= limit:
        return items
    return [items[index * len(items) // limit] for index in range(limit)]


def file_problems(paths: Iterator[Path]) -> list[str]:
    """Sentences about files that are missing or empty."""
    lost: list[Path] = []
    empty: list[Path] = []
    for path in paths:
        if not (size := size_of(path)):
            (lost if size is None else empty).append(path)
    problems = [f"{len(lost):,} files are missing, such as {lost[0]}"] if lost else []
    return problems + ([f"{len(empty):,} files are empty, such as {empty[0]}"] if empty else [])
