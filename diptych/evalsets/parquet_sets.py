"""Evaluation sets as parquet files, the form of MTEB/MIEB and most sets on the Hugging Face hub.

    data/test-00000-of-00002.parquet    test/0000.parquet    plain_text/test-00000-of-00001.parquet    test.parquet

Each row has an image (a struct of bytes and path, or the bytes) and a class index. The class names, if present, are in
the file's metadata under "huggingface".
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

_MAX_DEPTH, _MAX_FOLDERS = 2, 20  # set/configuration/split; a folder with more subfolders has one per class
_NUMBERED = re.compile(r"(.+?)-(\d+)-of-(\d+)(?:-[0-9a-f]+)?", re.IGNORECASE)


def open_parquet(folder: Path, split: str) -> tuple[tuple[str, ...] | None, Source]:
    """Open one split. It is read one row group at a time, so memory does not grow with the set.

    Args:
        folder: the set's folder.
        split: "train", "val" or "test", or a synonym; see `splits.py`.
    Returns:
        The class names by index, or None if the files have none; and the samples.
    Raises:
        DataError: there is no such split, a file is missing or broken or has no label column, or the files have
            different classes.
    """
    files = split_files(folder, split)
    columns = [label_column(path) for path in files]
    names = [class_names_of(path, column) for path, column in zip(files, columns, strict=True)]
    if different := next((index for index, of_file in enumerate(names) if of_file != names[0]), None):
        raise DataError(f"{files[0]} and {files[different]} name different classes: are they of one set?")
    return names[0], ParquetSource.open(files, with_texts=False)


def parquet_splits(folder: Path) -> dict[str, list[Path]]:
    """The parquet files below a folder by split, sorted. A file of no known split is under its own name."""
    by_split: dict[str, list[Path]] = {}
    for parent, folders, names in os.walk(folder):
        depth = len(Path(parent).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not is_hidden_folder(name))
        if depth == _MAX_DEPTH or len(folders) > _MAX_FOLDERS:
            folders.clear()
        for name in names:
            if name.endswith(".parquet") and not name.startswith("."):
                path = Path(parent) / name
                by_split.setdefault(_split_of(path, folder), []).append(path)
    return {split: sorted(by_split[split], key=natural_order) for split in sorted(by_split)}


def is_parquet_set(folder: Path, split: str) -> bool:
    """Whether a folder's parquet files are an evaluation set: at least one belongs to this split or a standard one.

    Other parquet files, such as the tables that img2dataset writes next to its shards, do not count.
    """
    return not {*SPLITS, split}.isdisjoint(parquet_splits(folder))


def split_files(folder: Path, split: str) -> list[Path]:
    """All files of a split.

    Raises:
        DataError: there is no such split, its files lie in several folders, or a numbered file ("-of-00005") is
            missing.
    """
    by_split = parquet_splits(folder)
    files = by_split.get(split_of(split) or split, [])
    if not files:
        raise DataError(f"{folder} has no split {split}; its parquet files are of: {', '.join(by_split) or 'none'}")
    parents = sorted({path.parent for path in files})
    if len(parents) > 1:
        listed = ", ".join(str(parent.relative_to(folder)) for parent in parents)
        raise DataError(f"{folder} has its split {split} in several folders ({listed}): keep one of them")
    numbered = [_NUMBERED.fullmatch(path.stem) for path in files]
    counts = {int(match[3]) for match in numbered if match}
    if len(counts) > 1 or (counts and not all(numbered)):
        raise DataError(f"{parents[0]} mixes parquet files of several versions of the split {split}; keep those of one")
    if counts:
        present = {int(match[2]) for match in numbered if match}
        lost = [number for number in range(counts.pop()) if number not in present]
        if lost:
            raise DataError(
                f"{parents[0]} has {len(present)} of {len(present) + len(lost)} parquet files of the split {split}: "
                f"number {lost[0]} is missing (counted from 0); download the set again, existing files are kept"
            )
    return files


def class_names_of(path: Path, column: str | None) -> tuple[str, ...] | None:
    """The class names of a label column, as the datasets library writes them into the file; None if there are none."""
    with naming(path):
        stored = (describe(path).schema.metadata or {}).get(b"huggingface")
    if stored is None or column is None:
        return None
    try:
        names = json.loads(stored)["info"]["features"][column]["names"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None  # a column without names, or metadata of another writer
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _split_of(path: Path, folder: Path) -> str:
    """The split in a file's name, or else in its folder's name."""
    numbered = _NUMBERED.fullmatch(path.stem)
    word = (numbered[1] if numbered else path.stem).lower()
    parent = path.parent.name.lower() if path.parent != folder else ""
    return split_of(word) or split_of(parent) or word
