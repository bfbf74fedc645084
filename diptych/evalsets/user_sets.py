"""Cards of one's own sets: whatever folder `open_benchmark` reads can be measured by every task of the suite."""

import logging
from pathlib import Path

from diptych.data.image_files import is_hidden_folder
from diptych.data.open_source import open_source
from diptych.errors import DataError
from diptych.evalsets.benchmark import CLASS_NAMES_FILE, open_benchmark
from diptych.evalsets.card import Card
from diptych.evalsets.cards import CARDS
from diptych.evalsets.opening import failure, find_folder, list_folders
from diptych.evalsets.parquet_sets import is_parquet_set, parquet_splits
from diptych.evalsets.splits import SPLITS, split_folder
from diptych.files import expanded
from diptych.records import Sample

_log = logging.getLogger(__name__)
_noticed: set[str] = set()


def own_cards(root: str | Path) -> list[Card]:
    """A card for each folder below root that holds an evaluation set and belongs to no card of the paper."""
    return own_sets(root)[0]


def own_sets(root: str | Path) -> tuple[list[Card], dict[str, str]]:
    """The cards of `own_cards`, and why each of the other folders is none, by its name.

    Raises:
        DataError: there is no such folder.
    """
    known = {folder for card in CARDS.values() if (folder := find_folder(card, root)) is not None}
    found: list[Card] = []
    refused: dict[str, str] = {}
    for folder in list_folders(root):
        if folder.name.startswith(".") or folder in known:
            continue
        try:
            found.append(own_card(folder))
        except DataError as error:
            refused[folder.name] = str(error)
        except Exception as error:  # whatever lies there, the other sets can be measured
            refused[folder.name] = failure(error)
    return found, refused


def own_card(folder: str | Path) -> Card:
    """The card of a set in the clip-benchmark/wds layout, in parquet files or with a folder per class; or of pairs.

    Its metric is accuracy, its words are those that lie beside it; sizes of splits are not known (0). A folder without
    classes whose folder test holds pictures with captions (in any form that training takes) is a set for retrieval.
    The words for its splits are those of `splits.py` in every layout; what else lies beside them, and a split that
    cannot be opened, is named in the log.

    Raises:
        DataError: it holds no test split that can be read.
    """
    folder = expanded(folder)
    if _holds_pairs(folder):
        return _card(folder, "retrieval", 0, {"test": 0}, "recall_at_1")
    num_classes = len(open_benchmark(folder, "test").class_names)
    there, others = _splits_there(folder)
    splits = {split: 0 for split in SPLITS if split == "test" or (split in there and _opens(folder, split))}
    if others:
        _notice(f"{folder}: passed over, because it is no split of the same form: {', '.join(others)[:300]}")
    return _card(folder, "classification", num_classes, splits, "accuracy")


def _splits_there(folder: Path) -> tuple[set[str], list[str]]:
    """The splits of a set that has classes, and the names of what else lies beside them."""
    if is_parquet_set(folder, "test"):
        found = parquet_splits(folder)
        others = [name for name in found if name not in SPLITS]
        elsewhere = [folder / split for split in SPLITS if split not in found]  # as class folders, say
        return set(found).intersection(SPLITS), others + [path.name for path in elsewhere if path.is_dir()]
    if split_folder(folder, "test") is None:
        return {"test"}, []  # class folders without splits open under any name: they are what is tested on
    folders = {}
    for split in SPLITS:
        try:
            folders[split] = split_folder(folder, split)
        except DataError as error:
            _notice(f"{error}; until then it is passed over")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and path not in folders.values())
    there = {split for split, path in folders.items() if path is not None}
    return there, [name for name in names if not is_hidden_folder(name)]


def _opens(folder: Path, split: str) -> bool:
    try:
        open_benchmark(folder, split)
    except DataError as error:
        _notice(f"{folder}: its split {split} is passed over: {error}")
        return False
    return True


def _notice(line: str) -> None:
    """Once per process: cards are made for each page that shows sets."""
    if line not in _noticed:
        _noticed.add(line)
        _log.warning("%s", line)


def _holds_pairs(folder: Path) -> bool:
    """Whether its test split has captions and no labels."""
    if (folder / CLASS_NAMES_FILE).exists() or not (folder / "test").is_dir():
        return False
    try:
        first = next((one for one in open_source(str(folder / "test")).read(0) if isinstance(one, Sample)), None)
    except DataError:
        return False
    return first is not None and bool(first.texts) and first.label is None


def _card(folder: Path, task: str, num_classes: int, splits: dict[str, int], metric: str) -> Card:
    return Card(
        name=folder.name,
        title=folder.name,
        task=task,
        num_classes=num_classes,
        splits=splits,
        metric=metric,
        homepage=str(folder),
        split_rule="as its folder has them",
    )
