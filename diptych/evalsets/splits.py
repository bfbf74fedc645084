"""Names of splits: one rule for the folders and files of every layout.

A split is train, val or test. Copies also use synonyms: training; validation, valid or dev; testing. Case is ignored.
"""

from pathlib import Path

from diptych.data.image_files import is_hidden_folder
from diptych.errors import DataError

SPLITS = ("train", "val", "test")
SHARD_COUNT_FILE = "nshards.txt"

_WORDS = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}


def split_of(word: str) -> str | None:
    """The split that a word names; None if it names none."""
    word = word.lower()
    return word if word in SPLITS else _WORDS.get(word)


def split_folder(folder: Path, split: str) -> Path | None:
    """The folder of a split in a set's folder; None if there is none.

    It has the split's name, or a synonym of it. A folder with a synonym must hold folders or counted shards, since it
    could also be the folder of a class called "testing", which holds images.

    Raises:
        DataError: no folder has the exact name, and several have synonyms of it.
    """
    if (folder / split).is_dir():
        return folder / split
    if (canonical := split_of(split)) is None or not folder.is_dir():
        return None
    candidates = sorted(path for path in folder.iterdir() if split_of(path.name) == canonical and _holds_split(path))
    if len(candidates) > 1:
        listed = ", ".join(path.name for path in candidates)
        raise DataError(f"{folder} has several folders for its split {split} ({listed}): rename one of them to {split}")
    return candidates[0] if candidates else None


def _holds_split(path: Path) -> bool:
    if not path.is_dir():
        return False
    if (path / SHARD_COUNT_FILE).exists():
        return True
    return any(entry.is_dir() and not is_hidden_folder(entry.name) for entry in path.iterdir())
