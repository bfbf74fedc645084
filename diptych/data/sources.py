"""Every training format is the same thing: a list of shards, each read from its start in one fixed order."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from diptych.data.shards import TAR_SUFFIXES, TarSource
from diptych.errors import DataError
from diptych.records import Broken, Sample


class Source(Protocol):
    """Pairs to train on, or a set to measure on; see docs/data.md for the formats behind it."""

    @property
    def shards(self) -> Sequence[str]:
        """Names, in a fixed order."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the shards' names and sizes."""
        ...

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The samples of shard `index`: the same ones in the same order each time."""
        ...


def open_source(paths: str | Path | Sequence[str | Path]) -> Source:
    """Open training pairs."""
    folder = Path(str(paths))
    if folder.is_dir():
        files = [path for path in folder.iterdir() if path.name.lower().endswith(TAR_SUFFIXES)]
        return TarSource(tuple(sorted(files, key=natural_order)))
    if folder.name.endswith(TAR_SUFFIXES):
        return TarSource((folder,))
    raise DataError(f"nothing found at {paths}")


def natural_order(path: Path) -> tuple[tuple[str | int, ...], str]:
    """Sorting key under which 2.tar comes before 10.tar."""
    parts = re.split(r"(\d+)", str(path))
    return tuple(int(part) if number % 2 else part for number, part in enumerate(parts)), str(path)
