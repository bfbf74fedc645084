"""Leave samples out of a source: the training images that a table of duplicates lists.

source = excluding(open_source("shards/"), "overlap/duplicates.parquet")
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from diptych.data.parquet_process import read_small_table
from diptych.data.source import Source
from diptych.errors import DataError
from diptych.files import expanded
from diptych.records import Broken, Sample

TRAINING_DATA = b"diptych_training_data"
"""Name of the fingerprint of the training source in a table's metadata."""


@dataclasses.dataclass(frozen=True)
class ExcludingSource(Source):
    """A source without some of its samples.

    Attributes:
        source: all samples.
        keys: keys of the samples that are left out.
    """

    source: Source
    keys: frozenset[str]

    @property
    def shards(self) -> Sequence[str]:
        """The source's shards."""
        return self.source.shards

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the source and with the keys."""
        digest = hashlib.sha256(self.source.fingerprint.encode())
        for key in sorted(self.keys):
            digest.update(b"\0" + key.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def files(self, limit: int | None = None) -> Iterator[Path]:
        """The source's files."""
        return self.source.files(limit)

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The samples of shard `index` whose keys are not excluded."""
        return (item for item in self.source.read(index) if item.key not in self.keys)


def excluding(source: Source, path: str | Path) -> ExcludingSource:
    """The source without the samples that a table lists.

    Args:
        path: duplicates.parquet or removed.parquet of `diptych overlap`, or any Parquet file with a column train_key,
            or with nearest_key and verdict.
    Raises:
        DataError: the file is no such table, or was made for other training data.
    """
    keys, training_data = read_exclusions(path)
    if training_data and training_data != source.fingerprint:
        raise DataError(
            f"{path} was made for other training data: its keys may name other images here. Give the data that it was "
            "made for, in the same order, or make the table anew (diptych overlap)"
        )
    return ExcludingSource(source, keys)


def read_exclusions(path: str | Path) -> tuple[frozenset[str], str]:
    """The keys of the training samples that a table lists, and the fingerprint of the source that it was made for.

    Raises:
        DataError: the file is missing, or is no such table.
    """
    path = expanded(path)
    try:
        table = read_small_table(path, ("train_key", "nearest_key", "verdict"))
        training_data = (table.schema.metadata or {}).get(TRAINING_DATA, b"").decode()
        if "train_key" in table.column_names:
            keys = table.column("train_key").to_pylist()
        else:
            rows = zip(table.column("nearest_key").to_pylist(), table.column("verdict").to_pylist(), strict=True)
            keys = [key for key, verdict in rows if verdict == "overlap"]
        if not all(isinstance(key, str) for key in keys):
            raise ValueError("a key is no text")
    except Exception as error:  # a broken file can raise any error
        raise DataError(
            f"{path} lists no samples to exclude (a Parquet file with train_key, or nearest_key and verdict): {error}"
        ) from error
    return frozenset(keys), training_data
