"""Parts of a search on disk: the best rows of some shards of a store, written whole, each found again by later runs.

    FOLDER/search.json                     what is searched: see SearchManifest
    FOLDER/part-0123456789abcdef/part.json the shards of the part with their digests, and the digests of the columns
                                 rows.npy    uint32 (Q, K), counted across the part's shards
                                 scores.npy  float32 (Q, K)

A part names its shards by their content. So a shard that is added to the store is searched by itself, one that changed
is searched again, and the parts of all others stay.
"""

import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.embed.neighbours import Neighbours
from diptych.embed.npy_column import ColumnWriter, column_digest, map_column
from diptych.embed.store import Shard, Store, read_json, write_json
from diptych.errors import ConfigError, DataError
from diptych.files import new_file, new_folder, remove, remove_unfinished, writing

_log = logging.getLogger(__name__)
_NAME = re.compile(r"part-[0-9a-f]{16}")
_TYPES = {"rows": np.uint32, "scores": np.float32}
_AGAIN = "search again"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchManifest:
    """What a search depends on. A resumed run must have the same.

    Attributes:
        queries: digest of the vectors of all variants. num_queries, num_variants: their shape.
        k: neighbours per query.
        train: fingerprint of the store's manifest. model, model_fingerprint: the store's encoder.
    """

    queries: str
    num_queries: int
    num_variants: int
    k: int
    train: str
    model: str
    model_fingerprint: str


@dataclasses.dataclass(frozen=True)
class Part:
    """A finished part; its columns are mapped on access.

    Attributes:
        folder: folder of the part. shards: positions of its shards in the store.
        shape: (Q, K) of both columns.
    """

    folder: Path
    shards: tuple[int, ...]
    shape: tuple[int, int]

    def neighbours(self, store: Store) -> Neighbours:
        """The part's best rows, numbered as in the store.

        Raises:
            DataError: a column was cut short.
        """
        rows, scores = (map_column(self.folder / f"{name}.npy", kind, self.shape) for name, kind in _TYPES.items())
        sizes = [store.shards[shard].num_rows for shard in self.shards]
        starts = np.cumsum([0, *sizes])
        owner = np.searchsorted(starts, rows, side="right") - 1
        shifts = store.starts[list(self.shards)] - starts[:-1]
        return Neighbours(rows + shifts[owner] if self.shards else rows.astype(np.int64), np.array(scores))


def open_search(folder: Path, manifest: SearchManifest) -> None:
    """Create the folder of a search, or check that the one of an earlier run has the same manifest.

    Raises:
        ConfigError: it has another; the message names each difference.
        DataError: the folder holds something else, is damaged, or cannot be written.
    """
    path, ours = folder / "search.json", dataclasses.asdict(manifest)
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.glob("[!.]*"))):
            raise DataError(f"{folder} holds something else; choose a new folder for the search")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with new_file(path) as unfinished:
                write_json(unfinished, ours)
        return
    theirs = read_json(path, "no search is there", _AGAIN)
    if differences := [
        f"{name} is {theirs.get(name)!r:.40} there and {ours[name]!r:.40} now"
        for name in ours
        if theirs.get(name) != ours[name]
    ]:
        raise ConfigError(
            f"{folder} holds a search with other settings: {'; '.join(differences)}. Repeat it with the settings of "
            "then, or choose another folder"
        )
    remove_unfinished(folder)


def shard_mark(shard: Shard) -> list[Any]:
    """Name, length and digest of a shard's vectors, by which a part refers to it."""
    return [shard.folder.name, shard.num_rows, shard.digests["vectors"]]


def part_folder(folder: Path, shards: Sequence[Shard]) -> Path:
    """The folder of the part with these shards."""
    marks = json.dumps([shard_mark(shard) for shard in shards])
    return folder / f"part-{hashlib.sha256(marks.encode()).hexdigest()[:16]}"


def write_part(folder: Path, shards: Sequence[Shard], neighbours: Neighbours) -> None:
    """Write a part whole; `neighbours.rows` count across its shards.

    Raises:
        DataError: the disk is full.
    """
    path = part_folder(folder, shards)
    with writing(folder), new_folder(path, stays=(path / "part.json").exists) as unfinished:
        digests = {}
        for name, column in (("rows", neighbours.rows), ("scores", neighbours.scores)):
            writer = ColumnWriter(unfinished / f"{name}.npy", _TYPES[name], column.shape[1])
            writer.append(column)
            digests[name] = writer.finish()
        marks = [shard_mark(shard) for shard in shards]
        content = {"shards": marks, "shape": list(neighbours.rows.shape), "digests": digests}
        write_json(unfinished / "part.json", content)


def finished_parts(folder: Path, store: Store, num_queries: int) -> Iterator[Part]:
    """The parts of earlier runs whose shards are all in the store; no shard occurs in two of them.

    A damaged part is deleted, with a warning, and searched again.
    """
    positions = {json.dumps(shard_mark(shard)): number for number, shard in enumerate(store.shards)}
    covered: set[int] = set()
    for path in sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name)):
        try:
            part = _read_part(path, positions, num_queries)
        except DataError as error:
            _log.warning("%s: %s is deleted and searched again", error, path)
            with writing(folder):
                remove(path)
            continue
        if part is not None and covered.isdisjoint(part.shards):
            covered.update(part.shards)
            yield part


def _read_part(path: Path, positions: dict[str, int], num_queries: int) -> Part | None:
    """The part, checked with its digests; None if the store has other shards."""
    content = read_json(path / "part.json", "the part is damaged", _AGAIN)
    marks, shape, digests = (content.get(name) for name in ("shards", "shape", "digests"))
    if not isinstance(marks, list) or not isinstance(digests, dict):
        raise DataError(f"{path}/part.json is damaged")
    if not isinstance(shape, list) or [type(size) for size in shape] != [int, int] or shape[0] != num_queries:
        raise DataError(f"{path}/part.json is damaged: its shape is {shape!r:.40}")
    for name, kind in _TYPES.items():
        map_column(path / f"{name}.npy", kind, (shape[0], shape[1]))
        if column_digest(path / f"{name}.npy") != digests.get(name):
            raise DataError(f"{path / name}.npy was changed since it was written")
    shards = [positions.get(json.dumps(mark), -1) for mark in marks]
    return None if -1 in shards or shards != sorted(shards) else Part(path, tuple(shards), (shape[0], shape[1]))
