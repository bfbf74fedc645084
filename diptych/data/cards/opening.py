"""From a card and a folder of evaluation sets to a Benchmark, whatever form the set has there."""

import dataclasses
import functools
import logging
import os
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from diptych.data.benchmarks import CLASS_NAMES_FILE, Benchmark, check_benchmark, open_benchmark
from diptych.data.cards.archives import LAYOUTS
from diptych.data.cards.card import Card
from diptych.data.cards.layouts import Layout
from diptych.data.cards.parquet import distinct_labels, is_parquet_set, open_parquet, parquet_splits, split_files
from diptych.data.cards.prompts import DEFAULT_TEMPLATES, Prompts, get_prompts, plain_name
from diptych.data.cards.sources import PairsSource, RelabelledSource
from diptych.data.parquet import ParquetSource
from diptych.data.sources import Source, open_source
from diptych.errors import DataError
from diptych.files import expanded

logger = logging.getLogger(__name__)

_SETTLED = 2_000_000_000  # nanoseconds; no file system in use keeps times more coarsely


def open_card(card: Card, root: str | Path, split: str = "test", *, fold: int | None = None) -> Benchmark:
    """Open a split of a paper's set below a folder of sets.

    The form is found out: the clip-benchmark/wds layout, parquet files with an image and a label column, the original
    archive, or a folder per class. Class names and templates are the card's; where the set's own class names are the
    same ones in another order its labels are exchanged, and where they are others the set's own stay, with a notice.

    Args:
        card: which set.
        root: the folder that holds the sets, each in a folder called like its card or one of `card.folders`.
        split: "train", "val" or "test".
        fold: of a set whose authors publish several divisions, which one, from 1; None for the usual one.
    Raises:
        DataError: the set is not there (with where to get it), it has no such split or fold, or it is none of the
            forms.
    """
    folder = find_folder(card, root)
    if folder is None:
        raise DataError(missing(card, root))
    if card.task == "retrieval" and card.name not in LAYOUTS:  # one's own pairs
        return from_source(card, PairsSource(open_source(str(folder / split))), split)
    if fold is None and (folder / CLASS_NAMES_FILE).exists():
        return with_card(open_benchmark(folder, split), card)
    if fold is None and is_parquet_set(folder, split):
        there = _split_there(card, folder, split, parquet_splits(folder))
        return dataclasses.replace(from_parquet(card, folder, there), split=split)
    layouts = LAYOUTS.get(card.name, ())
    if (layout := find_layout(card, folder)) is not None:
        words = layout.words(folder) if layout.words else None
        return from_source(card, read_layout(card, layout, folder, split, fold), split, words)
    if fold is not None:
        raise DataError(f"{card.title} has folds in its original archive alone, which {folder} is not")
    try:
        if split != "test" and not (folder / split).is_dir():  # class folders alone: these open under any name
            raise DataError(f"it has no split {split}; a folder per class stands for the test split alone")
        return with_card(open_benchmark(folder, split), card)
    except DataError as error:
        wanted = " or ".join(", ".join(layout.needs) for layout in layouts)
        raise DataError(
            f"{folder} is not {card.title} as published ({wanted or card.homepage}), and {error}"
        ) from error


def find_folder(card: Card, root: str | Path) -> Path | None:
    """The set's folder below root: named like the card or one of its `folders`, in any case (small letters first)."""
    root = expanded(root)
    if not root.is_dir():
        raise DataError(f"there is no folder {root} of evaluation sets")
    found = _folders(root)
    several = (found.get(name.lower(), ()) for name in (card.name, *card.folders))
    return next((folder for folders in several for folder in reversed(folders) if folder.is_dir()), None)


def list_folders(root: str | Path) -> list[Path]:
    """The folders in a folder of sets and the links to folders, sorted; DataError where there is no such folder."""
    root = expanded(root)
    if not root.is_dir():
        raise DataError(f"there is no folder {root} of evaluation sets")
    return sorted(folder for folders in _folders(root).values() for folder in folders if folder.is_dir())


def _folders(root: Path) -> Mapping[str, Sequence[Path]]:
    """The folders in root and all links, sorted, by their names in small letters; what a link leads to may change.

    Every card asks for them several times, and a root may hold a great many files beside them: they are listed anew
    only when the root has changed. A change right after another may leave no trace in its time, so that what was
    written to within the last seconds is listed each time.
    """
    state = root.stat()
    if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) < _SETTLED:
        return _scan(root)
    return _scanned(root, (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_ctime_ns))


@functools.lru_cache(maxsize=4)
def _scanned(root: Path, state: tuple[int, ...]) -> Mapping[str, Sequence[Path]]:
    return _scan(root)


def _scan(root: Path) -> Mapping[str, Sequence[Path]]:
    with os.scandir(root) as entries:
        # Neither question asks the disk about a plain file.
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) or entry.is_symlink()]
    found: dict[str, list[Path]] = {}
    for name in sorted(names):
        found.setdefault(name.lower(), []).append(root / name)
    return found


def find_layout(card: Card, folder: Path) -> Layout | None:
    """The set's original archive that the folder is; None where it is none, or in the clip-benchmark/wds layout."""
    if (folder / CLASS_NAMES_FILE).exists():
        return None
    return next((layout for layout in LAYOUTS.get(card.name, ()) if layout.fits(folder)), None)


def read_layout(card: Card, layout: Layout, folder: Path, split: str, fold: int | None = None) -> Source:
    """A split of an original archive, or of one fold of it."""
    if fold is None:
        return layout.read(folder, split)
    if layout.read_fold is None:
        raise DataError(f"{card.title} has no folds; leave fold {fold} out")
    return layout.read_fold(folder, split, fold)


def missing(card: Card, root: str | Path) -> str:
    """Words for a set that is not there: what it should be called, and where to get it."""
    names = " or ".join(dict.fromkeys((card.name, *card.folders)))
    hub = f", or the hub's {card.hub}" if card.hub else ""
    return f"{card.title} is not in {root}: put it into a folder {names} there; get it from {card.homepage}{hub}"


def failure(error: Exception) -> str:
    """Words for a reader that failed other than by a DataError: what it met, and where in our code, whose fault it is.

    A file that cannot be read at all is no fault of ours.
    """
    if isinstance(error, OSError):
        return f"it cannot be read: {error}"
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in place)
    return f"its reader failed: {type(error).__name__}: {str(error)[:200]}{where}; please report it"


def from_source(card: Card, source: Source, split: str, words: Prompts | None = None) -> Benchmark:
    """A Benchmark of samples whose labels count the classes in the order of the words: the card's, unless given."""
    if words is None:
        words = get_prompts(card.prompts) if card.prompts else Prompts((), (), "")
    first = [names[0] for names in words.class_names]
    single = None if words.single in words.templates[:1] else words.single
    return check_benchmark(card.name, split, first, words.templates, source, words.class_names, single, card)


def from_parquet(card: Card, folder: Path, split: str) -> Benchmark:
    """A Benchmark of parquet files: with their own class names, or the card's where theirs are not in the files.

    Raises:
        DataError: the set has several classes per picture, or labels without names that are not those of the card.
    """
    if not card.num_classes:
        return from_source(card, ParquetSource.open(split_files(folder, split)), split)
    if card.task == "multi_label":
        raise DataError(f"{card.title}'s pictures have several classes each, which is read from the archive alone")
    names, source = open_parquet(folder, split)
    if names is not None:
        named = check_benchmark(card.name, split, [name.replace("_", " ") for name in names], DEFAULT_TEMPLATES, source)
        return with_card(named, card)
    labels = distinct_labels(split_files(folder, split))
    if labels != set(range(card.num_classes)):
        missing_names = f"the {split} labels of {folder} have no names"
        raise DataError(
            f"{missing_names}, and they are {len(labels)} different ones where {card.title} has {card.num_classes} "
            f"classes (0 to {card.num_classes - 1}): is it another set? Else write the names into {CLASS_NAMES_FILE}"
        )
    return from_source(card, source, split)


def _split_there(card: Card, folder: Path, split: str, found: Iterable[str]) -> str:
    """The split, or "val" for the test of a set whose authors keep the test labels back: many copies call it so."""
    if split == "test" and "test" not in found and "val" in found and "val" not in card.splits:
        logger.warning("%s: %s has no test split; its validation split is taken", card.title, folder)
        return "val"
    return split


def with_card(found: Benchmark, card: Card) -> Benchmark:
    """A Benchmark in another layout under its card's name, with the card's words where the classes are the card's."""
    if not card.prompts:
        return dataclasses.replace(found, name=card.name, card=card)
    words = get_prompts(card.prompts)
    ours = [plain_name(names[0]) for names in words.class_names]
    theirs = [plain_name(name) for name in found.class_names]
    source = found.source
    if ours != theirs:
        if len(set(ours)) == len(ours) == len(theirs) and set(ours) == set(theirs):
            source = RelabelledSource(source, tuple(ours.index(name) for name in theirs))
        else:
            if len(ours) != len(theirs):
                raise DataError(
                    f"{card.title} has {len(ours)} classes, but {found.name} has {len(theirs)}: is it another set?"
                )
            different = next(place for place, name in enumerate(ours) if name != theirs[place])
            logger.warning(
                "%s: the set has class names and an order of its own, which are used: class %d is %r, the paper has %r",
                card.title,
                different,
                found.class_names[different],
                words.class_names[different][0],
            )
            return dataclasses.replace(found, name=card.name, card=card, templates=words.templates)
    return from_source(card, source, found.split)
