"""Which words name a split: one rule for the folders and the files of every layout.

A split is train, val or test. Copies call them by other words, too, in any case: training; validation, valid or dev;
testing.
"""

from pathlib import Path

from diptych.data.image_files import is_hidden_folder
from diptych.errors import DataError

SPLITS = ("train", "val", "test")
SHARD_COUNT_FILE = "nshards.txt"

_WORDS = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}


def split_of(word: str) -> str | None:
    """The split that a word names; None where it names none."""
    word = word.lower()
    return word if word in SPLITS else _WORDS.get(word)


def split_folder(folder: Path, split: str) -> Path | None:
    """The folder of a split in a set's folder; None where there is none.

    It has the split's name. Or it has another word for it, and holds folders or counted shards: a class may be called
    "testing", and holds pictures.

    Raises:
        DataError: none has the very name, and several have other words for it.
    """
    if (folder / split).is_dir():
        return folder / split
    if (wanted := split_of(split)) is None or not folder.is_dir():
        return None
    named = sorted(path for path in folder.iterdir() if split_of(path.name) == wanted and _holds_split(path))
    if len(named) > 1:
        listed = ", ".join(path.name for path in named)
        raise DataError(
            f"{folder} has several folders for its split {split} ({listed}): call the one that counts {split}"
        )
    return named[0] if named else None


def _holds_split(path: Path) -> bool:
    if not path.is_dir():
        return False
    if (path / SHARD_COUNT_FILE).exists():
        return True
    return any(entry.is_dir() and not is_hidden_folder(entry.name) for entry in path.iterdir())
