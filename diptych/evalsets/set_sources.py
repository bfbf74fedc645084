"""Sources that a layout's reader hands over: files with labels, or pixels out of an array."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.samples import read_file
from diptych.data.source import Source, Survey, WrappedSource, file_problems, spaced
from diptych.errors import DataError
from diptych.files import size_of, utf8
from diptych.records import Broken, Sample

_PER_SHARD = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A picture file of a set and what is known about it.

    Attributes:
        file: relative to the set's folder, with "/"; it is the sample's key too, unless `key` is given.
        label: class index; None in sets without classes.
        texts: captions.
        metadata: what the measurement needs beside: {"labels": (2, 5), "ignored": (7,)} of a multi_label set,
            {"latitude", "longitude"} of geolocation, {"clip": name} of frames.
    """

    file: str
    label: int | None = None
    texts: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    key: str | None = None


def entries_fingerprint(root: Path, entries: Sequence[Entry], options: str = "") -> str:
    """SHA-256 over entries, the sizes of their files below root, and how they are read."""
    digest = hashlib.sha256(options.encode())
    for entry in entries:
        digest.update(
            json.dumps([_numbered(entry), size_of(root / entry.file)], default=str).encode("utf-8", "surrogatepass")
        )
    return digest.hexdigest()


def _numbered(entry: Entry) -> tuple[Any, ...]:
    """The fields; 0 for no label, so that fingerprints of earlier versions stay what they were."""
    return dataclasses.astuple(dataclasses.replace(entry, label=entry.label or 0))


@dataclasses.dataclass(frozen=True)
class EntriesSource(Source):
    """An abstract source of files that a list names, in the order of the list.

    Attributes:
        root: the set's folder.
        entries: one per file. A file that is missing becomes Broken.
    """

    root: Path
    entries: Sequence[Entry]

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """Those that the entries name."""
        return (self.root / entry.file for entry in spaced(self.entries, limit))

    def survey(self) -> Survey:
        """Files that are missing or empty are problems."""
        return Survey(len(self.entries), file_problems(self.files()))

    def distinct_labels(self) -> set[int | None] | None:
        """Those of the entries."""
        return {entry.label for entry in self.entries}


@dataclasses.dataclass(frozen=True)
class ListedSource(EntriesSource):
    """Image files that a list names.

    Attributes:
        load: from a path to the sample's image; by default the file's bytes. It raises DataError for a broken file.
    """

    load: Callable[[Path], bytes | np.ndarray] = read_file

    @functools.cached_property
    def shards(self) -> tuple[str, ...]:
        """<root>:<number of its first picture>."""
        return tuple(f"{self.root}:{first}" for first in range(0, len(self.entries), _PER_SHARD))

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the entries and the files' sizes."""
        return entries_fingerprint(self.root, self.entries)

    @functools.cached_property
    def num_samples(self) -> int | None:
        """The number of entries."""
        return len(self.entries)

    def get_all(self, keys: Collection[str]) -> Iterator[Sample]:
        """Read from these entries' files alone."""
        entries = [entry for entry in self.entries if utf8(entry.key or entry.file) in keys]
        yield from super(ListedSource, dataclasses.replace(self, entries=entries)).get_all(keys)

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """Up to 1000 samples."""
        for entry in self.entries[index * _PER_SHARD : (index + 1) * _PER_SHARD]:
            key = utf8(entry.key or entry.file)
            try:
                image = self.load(self.root / entry.file)
            except DataError as error:
                yield Broken(key, self.shards[index], str(error))
            else:
                yield Sample(key, image, entry.texts, entry.label, entry.metadata)


@dataclasses.dataclass(frozen=True)
class ArraySource(Source):
    """Pixels that lie in one file, which is read slice by slice.

    Attributes:
        name: of the file, for keys and messages.
        pixels: from the first and last number (exclusive) to uint8 (n, height, width, 3).
        labels: int64 (N,).
        digest: changes with the content: file names and sizes are enough.
        paths: of the files that pixels and labels come from; kept vectors hold as long as none is written anew.
    """

    name: str
    pixels: Callable[[int, int], np.ndarray]
    labels: np.ndarray
    digest: str
    paths: tuple[Path, ...]

    @functools.cached_property
    def shards(self) -> tuple[str, ...]:
        """<name>:<number of its first picture>."""
        return tuple(f"{self.name}:{first}" for first in range(0, len(self.labels), _PER_SHARD))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the digest and the labels."""
        return hashlib.sha256(self.digest.encode() + np.asarray(self.labels, np.int64).tobytes()).hexdigest()

    @functools.cached_property
    def num_samples(self) -> int | None:
        """The number of labels."""
        return len(self.labels)

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """Those that pixels and labels come from."""
        yield from spaced(self.paths, limit)

    def distinct_labels(self) -> set[int | None] | None:
        """Those that occur."""
        return set(np.unique(self.labels).tolist())

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """Up to 1000 samples; their keys are <name>:<number>."""
        first, last = index * _PER_SHARD, min((index + 1) * _PER_SHARD, len(self.labels))
        for number, picture in enumerate(self.pixels(first, last), first):
            yield Sample(f"{self.name}:{number}", picture, (), int(self.labels[number]))


@dataclasses.dataclass(frozen=True)
class RelabelledSource(WrappedSource):
    """Another source with its labels exchanged, where a set counts its classes in another order than its card.

    Attributes:
        source: the other one.
        new: the new label of each old one.
    """

    source: Source
    new: tuple[int, ...]

    @property
    def fingerprint(self) -> str:
        """The source's own, and the exchange."""
        return hashlib.sha256(f"{self.source.fingerprint} {self.new}".encode()).hexdigest()

    def _exchanged(self, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        """With "labels", all valid classes of a frame, exchanged too."""
        several = metadata.get("labels")
        if not isinstance(several, list | tuple) or not all(one in range(len(self.new)) for one in several):
            return metadata
        return {**metadata, "labels": tuple(self.new[one] for one in several)}

    def change(self, item: Sample | Broken, shard: str) -> Sample | Broken:
        """The item with its new label; a label that is out of range stays as it is, and is found out later."""
        if not isinstance(item, Sample) or item.label is None or not 0 <= item.label < len(self.new):
            return item
        return dataclasses.replace(item, label=self.new[item.label], metadata=self._exchanged(item.metadata))

    def distinct_labels(self) -> set[int | None] | None:
        """The source's, exchanged."""
        labels = self.source.distinct_labels()
        if labels is None:
            return None
        return {label if label is None or not 0 <= label < len(self.new) else self.new[label] for label in labels}


@dataclasses.dataclass(frozen=True)
class PairsSource(WrappedSource):
    """Pairs of which the first captions count.

    Attributes:
        source: the pairs.
        most: captions of a picture that count, the first ones; None for all.
    """

    source: Source
    most: int | None = None

    @property
    def fingerprint(self) -> str:
        """The source's own, and how many captions count."""
        return self.source.fingerprint if self.most is None else f"{self.source.fingerprint} {self.most}"

    def change(self, item: Sample | Broken, shard: str) -> Sample | Broken:
        """The item with the captions that count."""
        return dataclasses.replace(item, texts=item.texts[: self.most]) if isinstance(item, Sample) else item
