"""The index of the training images: their embeddings, in generations. New shards are added; old ones stay as they are.

FOLDER/000/         a store of embeddings (diptych.embed.store)
FOLDER/000.json     the shards in it, with a mark of each one's content
FOLDER/001/ ...     the shards that a later call found to be new
"""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.content import file_mark
from diptych.data.source import Source
from diptych.embed.about import about
from diptych.embed.embed_source import embed_source
from diptych.embed.encoder import Encoder
from diptych.embed.store import Shard, Store, open_store
from diptych.errors import ConfigError, DataError
from diptych.files import new_file, read_object, writing
from diptych.records import Broken, Sample

_FORMAT = 1


@dataclasses.dataclass(frozen=True)
class TrainingIndex:
    """The embeddings of all training images; rows are numbered across the generations.

    Attributes:
        source: the training data.
        stores: one per generation.
        shards: for each generation, the shards of the source that its units are.
    """

    source: Source
    stores: tuple[Store, ...]
    shards: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return sum(map(len, self.stores))

    @property
    def num_broken(self) -> int:
        """Samples that could not be embedded."""
        return sum(store.num_broken for store in self.stores)

    @property
    def starts(self) -> np.ndarray:
        """int64 (G + 1,): generation g has the rows starts[g] to starts[g + 1] (exclusive)."""
        return np.cumsum([0, *map(len, self.stores)], dtype=np.int64)

    def source_shards(self, rows: np.ndarray) -> np.ndarray:
        """int64 (n,), the shards of the source that hold the images of some rows (n,)."""
        generations = zip(self.stores, self.shards, strict=True)
        of_store = [shards[part.unit] for store, shards in generations for part in store.shards]
        return np.array(of_store, np.int64)[np.searchsorted(self.store.starts, rows, side="right") - 1]

    def keys_in(self, shard: int) -> set[str]:
        """The keys of the images that could be embedded, of one shard of the source."""
        return {key for part in self._parts.get(shard, ()) for key in part.keys}

    @functools.cached_property
    def _parts(self) -> dict[int, list[Shard]]:
        """The store's shards by the shard of the source that they are of."""
        parts: dict[int, list[Shard]] = {}
        for store, shards in zip(self.stores, self.shards, strict=True):
            for part in store.shards:
                parts.setdefault(shards[part.unit], []).append(part)
        return parts

    @functools.cached_property
    def store(self) -> Store:
        """All generations as one store, whose rows are those of the index."""
        first = self.stores[0]
        return Store(first.folder.parent, first.manifest, [shard for store in self.stores for shard in store.shards])

    def texts(self, rows: np.ndarray) -> list[tuple[str, ...]]:
        """The texts of the samples of the given rows, int64 (n,), in that order; no image is read.

        Raises:
            DataError: a file of the index is damaged.
        """
        found: list[tuple[str, ...]] = [()] * len(rows)
        owner = np.searchsorted(self.store.starts, rows, side="right") - 1
        for number in np.unique(owner).tolist():
            table, start = self.store.shards[number].samples(), int(self.store.starts[number])
            for place in np.flatnonzero(owner == number).tolist() if table is not None else ():
                found[place] = tuple(table["texts"][int(rows[place]) - start].as_py())
        return found


@dataclasses.dataclass(frozen=True)
class ShardsOf(Source):
    """Some shards of a source, with the keys that the samples have in the whole source."""

    source: Source
    places: tuple[int, ...]

    @property
    def shards(self) -> Sequence[str]:
        """The chosen shards."""
        return [self.source.shards[place] for place in self.places]

    @property
    def fingerprint(self) -> str:
        """Changes with the chosen shards' names and contents."""
        return hashlib.sha256(json.dumps([[shard, mark(shard)] for shard in self.shards]).encode()).hexdigest()

    def read(self, index: int) -> Iterator[Sample | Broken]:
        """The samples of the shard `places[index]`."""
        return self.source.read(self.places[index])


def mark(shard: str) -> str:
    """A mark of the content of a shard's file; of a shard that is a part of a file, of the whole file."""
    return file_mark(_path(shard))


def update_index(
    source: Source, encoder: Encoder, folder: Path, *, num_workers: int = 0, num_processes: int = 1
) -> TrainingIndex:
    """Embed the shards of a source that the index does not hold yet. Call it again to resume an interrupted run.

    Args:
        source: the training data. Shards may be added between calls; those that were embedded must stay unchanged.
        encoder: the detector.
        folder: folder of the index; created if it is missing.
        num_workers, num_processes: as in embed_source; they do not change the index.
    Returns:
        The complete index.
    Raises:
        DataError: a shard that was embedded has changed or is gone, another detector made the index, or a file cannot
            be written.
        ConfigError: the settings contradict each other.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    marks = {shard: mark(shard) for shard in source.shards}
    places = {shard: place for place, shard in enumerate(source.shards)}
    done: set[str] = set()
    generations: list[tuple[Path, tuple[int, ...]]] = []
    for path in _generations(folder):
        shards = _read(path)
        _check_unchanged(source, shards, marks, places, path)
        done.update(shards)
        generations.append((path.with_suffix(""), tuple(places[shard] for shard in shards)))
    if fresh := [shard for shard in source.shards if shard not in done]:
        path = folder / f"{len(generations):03d}.json"
        content = {"format": _FORMAT, "shards": {shard: marks[shard] for shard in fresh}}
        part = ShardsOf(source, tuple(places[shard] for shard in fresh))
        content["first_key"] = _first_key(part)
        with writing(path), new_file(path) as unfinished:
            unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        generations.append((path.with_suffix(""), part.places))
    stores = []
    for store_folder, shard_places in generations:
        check_detector(store_folder, encoder)
        part = ShardsOf(source, shard_places)
        options: dict[str, Any] = {"num_workers": num_workers, "num_processes": num_processes}
        stores.append(embed_source(part, encoder, store_folder, **options))
    return TrainingIndex(source, tuple(stores), tuple(places for _, places in generations))


def check_detector(folder: Path, encoder: Encoder) -> None:
    """Check that the store in a folder, if there is one, was made by this encoder.

    Raises:
        DataError: another detector or another version made it; both are named.
    """
    if not (folder / "manifest.json").exists():
        return
    manifest, record = open_store(folder).manifest, about(encoder)
    ours = record.image_fingerprint or ""
    if (manifest.model, manifest.model_fingerprint) != (encoder.name, ours):
        raise DataError(
            f"{folder} was made by the detector {manifest.model} ({manifest.model_fingerprint[:12]}), not by "
            f"{encoder.name} ({ours[:12]}), and their scores cannot be compared: choose another folder (--out)"
        )


def _check_unchanged(
    source: Source, shards: dict[str, str], marks: dict[str, str], places: dict[str, int], path: Path
) -> None:
    for shard, before in shards.items():
        if shard not in marks:
            raise DataError(f"{path.parent} holds {shard}, which the training data lacks now: choose another --out")
        if marks[shard] != before:
            raise DataError(f"{shard} was changed since it was embedded: choose another --out")
    first_key = read_object(path).get("first_key")
    if _first_key(ShardsOf(source, tuple(places[shard] for shard in shards))) != first_key:
        raise ConfigError(
            f"the keys of the training samples changed: {first_key!r} was the first of {next(iter(shards))}. Keys "
            "begin below the shards' common folder, which is another one now: choose another --out"
        )


def _first_key(source: Source) -> str:
    items = (item for index in range(len(source.shards)) for item in source.read(index))
    return next((item.key for item in items), "")


def _generations(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if re.fullmatch(r"\d{3}", path.stem))


def _read(path: Path) -> dict[str, str]:
    """The shards of a generation, with their marks.

    Raises:
        DataError: the file is damaged.
    """
    content = read_object(path)
    shards = content.get("shards")
    if content.get("format") != _FORMAT or not isinstance(shards, dict) or not shards:
        raise DataError(f"{path} is damaged: it lists no shards; delete {path.parent} to embed the training data again")
    return shards


def _path(shard: str) -> str:
    """The file of a shard: PATH, or PATH:NUMBER for a part of it."""
    return re.sub(r":\d+$", "", shard)
