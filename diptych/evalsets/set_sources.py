"""The sources that archive readers return: listed files with labels, or pixels of an array."""

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
    """An image file of a set with its label, captions and metadata.

    Attributes:
        file: path relative to the set's folder, with "/". It is also the sample's key, unless `key` is set.
        label: class index; None in sets without classes.
        texts: captions.
        metadata: further data for the evaluation: {"labels": (2, 5), "ignored": (7,)} in a multi_label set,
            {"latitude", "longitude"} for geolocation, {"clip": name} for frames.
        key: the sample's key; None for `file`.
    """

    file: str
    label: int | None = None
    texts: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    key: str | None = None


def entries_fingerprint(root: Path, entries: Sequence[Entry], options: str = "") -> str:
    """SHA-256 over the entries, the sizes of their files below root, and the reading options."""
    digest = hashlib.sha256(options.encode())
    for entry in entries:
        digest.update(
            json.dumps([_numbered(entry), size_of(root / entry.file)], default=str).encode("utf-8", "surrogatepass")
        )
    return digest.hexdigest()


def _numbered(entry: Entry) -> tuple[Any, ...]:
    """The fields of an entry. No label counts as 0, which keeps the fingerprints of earlier versions."""
    return dataclasses.astuple(dataclasses.replace(entry, label=entry.label or 0))


@dataclasses.dataclass(frozen=True)
class EntriesSource(Source):
    """An abstract source of listed files, in the order of the list.

    Attributes:
        root: the set's folder.
        entries: one per file. A missing file becomes Broken.
    """

    root: Path
    entries: Sequence[Entry]

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """The files of the entries."""
        return (self.root / entry.file for entry in spaced(self.entries, limit))

    def survey(self) -> Survey:
        """The number of entries; missing or empty files are problems."""
        return Survey(len(self.entries), file_problems(self.files()))

    def distinct_labels(self) -> set[int | None] | None:
        """The labels of the entries."""
        return {entry.label for entry in self.entries}


@dataclasses.dataclass(frozen=True)
class ListedSource(EntriesSource):
    """Listed image files.

    Attributes:
        load: maps a path to the sample's image, by default the file's bytes. Raises DataError for a broken file.
    """

    load: Callable[[Path], bytes | np.ndarray] = read_file

    @functools.cached_property
    def shards(self) -> tuple[str, ...]:
        """<root>:<number of its first image>."""
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
        """Read only the files of these samples."""
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
    """Pixels in one file, which is read slice by slice.

    Attributes:
        name: the file's name, for keys and messages.
        pixels: maps (first, last), last exclusive, to uint8 (n, height, width, 3).
        labels: int64 (N,).
        digest: changes with the content; file names and sizes are enough.
        paths: the files with the pixels and labels. Cached vectors stay valid until one of them is rewritten.
    """

    name: str
    pixels: Callable[[int, int], np.ndarray]
    labels: np.ndarray
    digest: str
    paths: tuple[Path, ...]

    @functools.cached_property
    def shards(self) -> tuple[str, ...]:
        """<name>:<number of its first image>."""
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
        """The files with the pixels and labels."""
        yield from spaced(self.paths, limit)

    def distinct_labels(self) -> set[int | None] | None:
        """The labels that occur."""
        return set(np.unique(self.labels).tolist())

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """Up to 1000 samples; their keys are <name>:<number>."""
        first, last = index * _PER_SHARD, min((index + 1) * _PER_SHARD, len(self.labels))
        for number, image in enumerate(self.pixels(first, last), first):
            yield Sample(f"{self.name}:{number}", image, (), int(self.labels[number]))


@dataclasses.dataclass(frozen=True)
class RelabelledSource(WrappedSource):
    """A source with mapped labels, for a set whose class order differs from its card's.

    Attributes:
        source: the source with the set's own labels.
        new: the new label of each old label.
    """

    source: Source
    new: tuple[int, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the source's fingerprint and the mapping."""
        return hashlib.sha256(f"{self.source.fingerprint} {self.new}".encode()).hexdigest()

    def _mapped(self, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        """The metadata with mapped "labels", all valid classes of a frame."""
        labels = metadata.get("labels")
        if not isinstance(labels, list | tuple) or not all(label in range(len(self.new)) for label in labels):
            return metadata
        return {**metadata, "labels": tuple(self.new[label] for label in labels)}

    def change(self, item: Sample | Broken, shard: str) -> Sample | Broken:
        """The item with its new label. A label that is out of range is left unchanged; LabelledSource reports it."""
        if not isinstance(item, Sample) or item.label is None or not 0 <= item.label < len(self.new):
            return item
        return dataclasses.replace(item, label=self.new[item.label], metadata=self._mapped(item.metadata))

    def distinct_labels(self) -> set[int | None] | None:
        """The source's labels, mapped."""
        labels = self.source.distinct_labels()
        if labels is None:
            return None
        return {label if label is None or not 0 <= label < len(self.new) else self.new[label] for label in labels}


@dataclasses.dataclass(frozen=True)
class PairsSource(WrappedSource):
    """Pairs with a limited number of captions per image.

    Attributes:
        source: the pairs.
        most: maximum number of captions per image, the first ones; None for all.
    """

    source: Source
    most: int | None = None

    @property
    def fingerprint(self) -> str:
        """The source's fingerprint and the maximum number of captions."""
        return self.source.fingerprint if self.most is None else f"{self.source.fingerprint} {self.most}"

    def change(self, item: Sample | Broken, shard: str) -> Sample | Broken:
        """The item with at most `most` captions."""
        return dataclasses.replace(item, texts=item.texts[: self.most]) if isinstance(item, Sample) else item
