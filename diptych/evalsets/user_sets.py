"""Cards of user-defined sets, so that every task of the suite can evaluate any folder that `open_benchmark` reads."""

import dataclasses
import logging
from pathlib import Path

from diptych.data.image_files import is_hidden_folder
from diptych.data.open_source import open_source
from diptych.errors import DataError
from diptych.evalsets.benchmark import CLASS_NAMES_FILE, Benchmark, open_benchmark
from diptych.evalsets.card import Card
from diptych.evalsets.cards import CARDS
from diptych.evalsets.opening import failure, find_folder, list_folders, open_card
from diptych.evalsets.parquet_sets import is_parquet_set, parquet_splits
from diptych.evalsets.splits import SPLITS, split_folder
from diptych.files import expanded, looking_for
from diptych.records import Sample

_log = logging.getLogger(__name__)
_logged: set[str] = set()


def own_cards(root: str | Path) -> list[Card]:
    """A card for each folder below root that holds an evaluation set which is not the paper's."""
    return own_sets(root)[0]


def own_sets(root: str | Path) -> tuple[list[Card], dict[str, str]]:
    """The cards of `own_cards`; and for each other folder, by name, the reason why it is no evaluation set.

    Raises:
        DataError: the folder root does not exist.
    """
    known = {folder for card in CARDS.values() if (folder := find_folder(card, root)) is not None}
    cards: list[Card] = []
    rejected: dict[str, str] = {}
    for folder in list_folders(root):
        if folder.name.startswith(".") or folder in known:
            continue
        try:
            cards.append(own_card(folder))
        except DataError as error:
            rejected[folder.name] = str(error)
        except Exception as error:  # one unreadable folder must not prevent the evaluation of the others
            rejected[folder.name] = failure(error)
    return cards, rejected


def own_card(folder: str | Path) -> Card:
    """The card of a set in the clip-benchmark/wds layout, in parquet files or with a folder per class; or of pairs.

    The metric is accuracy, class names and templates come from the set's files, and the sizes of the splits are unknown
    (0). A folder without classes is a set for retrieval if its folder test holds images with captions, in any form that
    training accepts. Splits have the names of `splits.py` in every layout. Other folders and files next to them, and
    splits that cannot be opened, are named in the log.

    Raises:
        DataError: the folder holds no readable test split.
    """
    folder = expanded(folder)
    if _holds_pairs(folder):
        return _card(folder, "retrieval", 0, {"test": 0}, "recall_at_1")
    num_classes = len(open_benchmark(folder, "test").class_names)
    present, others = _present_splits(folder)
    splits = {split: 0 for split in SPLITS if split == "test" or (split in present and _opens(folder, split))}
    if others:
        _warn_once(f"{folder}: ignored, not a split in the same form: {', '.join(others)[:300]}")
    return _card(folder, "classification", num_classes, splits, "accuracy")


def card_of_folder(folder: str | Path) -> tuple[Path, Card]:
    """The parent folder of a set, and its card: the paper's card if the folder has the name of one of its sets.

    Raises:
        DataError: the folder does not exist, or holds no evaluation set.
    """
    path = _folder(folder)
    card = _paper_card(path)
    return path.parent, own_card(path) if card is None else card


def open_set(folder: str | Path, split: str = "test") -> Benchmark:
    """A split of the set in a folder, with the name and prompts of its card, as in the suite.

    Raises:
        DataError: there is no such folder or split.
    """
    path = _folder(folder)
    card = _paper_card(path)
    if card is None:
        return open_benchmark(folder, split)
    try:
        return dataclasses.replace(open_card(card, path.parent, split), folder=path)
    except DataError as error:
        own = open_benchmark(folder, split)
        _warn_once(
            f"{path} has the name of {card.title}, but is not that set ({error}): it is measured as your own set"
        )
        return own


def split_task(argument: str) -> tuple[str, str | None]:
    """The folder and the task of SET:TASK. Without ":TASK", or if the whole argument is a folder, the task is None."""
    folder, separator, task = argument.rpartition(":")
    return (argument, None) if not separator or expanded(argument).is_dir() else (folder, task)


def _folder(folder: str | Path) -> Path:
    path = expanded(folder)
    with looking_for(path):
        is_folder = path.is_dir()
    if str(folder) == "" or not is_folder:
        raise DataError(f"there is no folder {str(folder) or repr('')} to evaluate on")
    return path.resolve()


def _paper_card(path: Path) -> Card | None:
    """The card of the paper's set that has the folder's name; None if there is none."""
    return next((card for card in CARDS.values() if find_folder(card, path.parent) == path), None)


def _present_splits(folder: Path) -> tuple[set[str], list[str]]:
    """The splits of a set with classes, and the names of everything else next to them."""
    if is_parquet_set(folder, "test"):
        by_split = parquet_splits(folder)
        others = [name for name in by_split if name not in SPLITS]
        other_form = [folder / split for split in SPLITS if split not in by_split]  # such as class folders
        return set(by_split).intersection(SPLITS), others + [path.name for path in other_form if path.is_dir()]
    if split_folder(folder, "test") is None:
        return {"test"}, []  # class folders without splits are the test split
    folders = {}
    for split in SPLITS:
        try:
            folders[split] = split_folder(folder, split)
        except DataError as error:
            _warn_once(f"{error}; until then it is ignored")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and path not in folders.values())
    present = {split for split, path in folders.items() if path is not None}
    return present, [name for name in names if not is_hidden_folder(name)]


def _opens(folder: Path, split: str) -> bool:
    try:
        open_benchmark(folder, split)
    except DataError as error:
        _warn_once(f"{folder}: its split {split} is ignored: {error}")
        return False
    return True


def _warn_once(line: str) -> None:
    """Log a warning once per process: cards are made again for each page that shows sets."""
    if line not in _logged:
        _logged.add(line)
        _log.warning("%s", line)


def _holds_pairs(folder: Path) -> bool:
    """Whether its test split has captions and no labels."""
    if (folder / CLASS_NAMES_FILE).exists() or not (folder / "test").is_dir():
        return False
    try:
        first = next((item for item in open_source(str(folder / "test")).read(0) if isinstance(item, Sample)), None)
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
