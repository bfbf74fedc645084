"""Evaluation sets as parquet files, the form in which MTEB/MIEB and most sets lie on the Hugging Face hub.

    data/test-00000-of-00002.parquet    test/0000.parquet    plain_text/test-00000-of-00001.parquet    test.parquet

Each row has a picture (a struct of bytes and path, or the bytes) and the index of its class; the names of the classes
are in the file's own metadata, under "huggingface", or nowhere.
"""

import json
import os
import re
from pathlib import Path

from diptych.data.image_files import is_hidden_folder
from diptych.data.open_source import natural_order
from diptych.data.parquet import ParquetSource
from diptych.data.parquet_columns import label_column, naming
from diptych.data.parquet_process import describe
from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.splits import SPLITS, split_of

_MAX_DEPTH, _MAX_FOLDERS = 2, 20  # set/configuration/split; more folders than that are one per class
_NUMBERED = re.compile(r"(.+?)-(\d+)-of-(\d+)(?:-[0-9a-f]+)?", re.IGNORECASE)


def open_parquet(folder: Path, split: str) -> tuple[tuple[str, ...] | None, Source]:
    """Open one split; it is read row group by row group, so that memory does not grow with the set.

    Args:
        folder: the set's.
        split: "train", "val" or "test", or another word for one of them; see `splits.py`.
    Returns:
        The names of its classes, by index, or None where the files do not say; and its samples.
    Raises:
        DataError: there is no such split, one of its files is missing or broken, has no column of labels, or the files
            disagree over the classes.
    """
    files = split_files(folder, split)
    columns = [label_column(path) for path in files]
    names = [class_names_of(path, column) for path, column in zip(files, columns, strict=True)]
    if different := next((place for place, found in enumerate(names) if found != names[0]), None):
        raise DataError(f"{files[0]} and {files[different]} name different classes: are they of one set?")
    return names[0], ParquetSource.open(files, with_texts=False)


def parquet_splits(folder: Path) -> dict[str, list[Path]]:
    """The parquet files below a folder by split, sorted; those that belong to none are under their own names."""
    found: dict[str, list[Path]] = {}
    for parent, folders, names in os.walk(folder):
        depth = len(Path(parent).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not is_hidden_folder(name))
        if depth == _MAX_DEPTH or len(folders) > _MAX_FOLDERS:
            folders.clear()
        for name in names:
            if name.endswith(".parquet") and not name.startswith("."):
                path = Path(parent) / name
                found.setdefault(_split_of(path, folder), []).append(path)
    return {split: sorted(found[split], key=natural_order) for split in sorted(found)}


def is_parquet_set(folder: Path, split: str) -> bool:
    """Whether a folder's parquet files are an evaluation set: one of them is of this split, or of a usual one.

    Others, such as the tables that img2dataset lays beside its shards, do not make one.
    """
    return not {*SPLITS, split}.isdisjoint(parquet_splits(folder))


def split_files(folder: Path, split: str) -> list[Path]:
    """A split's files, all of them.

    Raises:
        DataError: there is no such split, files lie in several folders, or one of the "-of-00005" is missing.
    """
    found = parquet_splits(folder)
    files = found.get(split_of(split) or split, [])
    if not files:
        raise DataError(f"{folder} has no split {split}; its parquet files are of: {', '.join(found) or 'none'}")
    parents = sorted({path.parent for path in files})
    if len(parents) > 1:
        listed = ", ".join(str(parent.relative_to(folder)) for parent in parents)
        raise DataError(f"{folder} has its split {split} in several folders ({listed}): name the one that counts")
    numbered = [_NUMBERED.fullmatch(path.stem) for path in files]
    counts = {int(match[3]) for match in numbered if match}
    if len(counts) > 1 or (counts and not all(numbered)):
        raise DataError(f"{parents[0]} mixes parquet files of several versions of the split {split}; keep those of one")
    if counts:
        there = {int(match[2]) for match in numbered if match}
        lost = [number for number in range(counts.pop()) if number not in there]
        if lost:
            raise DataError(
                f"{parents[0]} has {len(there)} of {len(there) + len(lost)} parquet files of the split {split}: number "
                f"{lost[0]} is missing (they count from 0); fetch the set again, what is there is kept"
            )
    return files


def class_names_of(path: Path, column: str | None) -> tuple[str, ...] | None:
    """The names of a label column's classes, as Hugging Face's datasets writes them into the file."""
    with naming(path):
        stored = (describe(path).schema.metadata or {}).get(b"huggingface")
    if stored is None or column is None:
        return None
    try:
        names = json.loads(stored)["info"]["features"][column]["names"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None  # a column without names, or another writer's words
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _split_of(path: Path, folder: Path) -> str:
    """The split that a file's name, or else the folder that it lies in, speaks of."""
    numbered = _NUMBERED.fullmatch(path.stem)
    word = (numbered[1] if numbered else path.stem).lower()
    parent = path.parent.name.lower() if path.parent != folder else ""
    return split_of(word) or split_of(parent) or word
