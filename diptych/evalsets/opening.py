"""Opens the set of a card in a folder of evaluation sets as a Benchmark, in any of the supported forms."""

import dataclasses
import functools
import logging
import os
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from diptych.data.open_source import open_source
from diptych.data.parquet import ParquetSource
from diptych.data.parquet_columns import distinct_labels
from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import Layout
from diptych.evalsets.archives import LAYOUTS
from diptych.evalsets.benchmark import (
    CLASS_NAMES_FILE,
    Benchmark,
    check_benchmark,
    open_benchmark,
    open_shards,
)
from diptych.evalsets.borders import BorderlessSource
from diptych.evalsets.card import Card
from diptych.evalsets.classes import labels_are_the_cards, match_alike, match_classes, meant
from diptych.evalsets.codes import are_codes, spoken_names
from diptych.evalsets.parquet_sets import is_parquet_set, open_parquet, parquet_splits, split_files
from diptych.evalsets.prompts import DEFAULT_TEMPLATES, Prompts, get_prompts
from diptych.evalsets.set_sources import PairsSource, RelabelledSource
from diptych.evalsets.splits import SHARD_COUNT_FILE, split_folder
from diptych.evalsets.video_frames import VideoSource
from diptych.files import expanded

logger = logging.getLogger(__name__)

_SETTLED = 2_000_000_000  # nanoseconds: the coarsest time resolution of a file system in use


def open_card(card: Card, root: str | Path, split: str = "test", *, fold: int | None = None) -> Benchmark:
    """Open a split of a paper's set below a folder of sets.

    The form is detected: the clip-benchmark/wds layout, parquet files with an image and a label column, the original
    archive, or a folder per class. Class names and templates are the card's. For copies with other class names or
    another order see `with_card`.

    Args:
        card: the card of the set.
        root: the folder that holds the sets. Each set has a folder named like its card or one of `card.folders`.
        split: "train", "val" or "test".
        fold: the number (from 1) of one of the published divisions; None for the usual one.
    Raises:
        DataError: the set is missing (the message says where to get it), it has no such split or fold, or it has none
            of the forms.
    """
    folder = find_folder(card, root)
    if folder is None:
        raise DataError(missing(card, root))
    if card.task == "retrieval" and _holds_pairs(card, folder, split):
        return from_source(card, PairsSource(_pairs(folder, split), card.max_captions), split)
    if fold is None and (folder / CLASS_NAMES_FILE).exists():
        return with_card(open_benchmark(folder, split), card)
    if fold is None and is_parquet_set(folder, split):
        split_to_read = _existing_split(card, folder, split, parquet_splits(folder))
        return dataclasses.replace(from_parquet(card, folder, split_to_read), split=split)
    layouts = LAYOUTS.get(card.name, ())
    if (layout := find_layout(card, folder)) is not None:
        words = layout.words(folder) if layout.words else None
        return from_source(card, read_layout(card, layout, folder, split, fold), split, words)
    if fold is not None:
        raise DataError(f"only the original archive of {card.title} has folds, and {folder} is another form of it")
    try:
        # open_benchmark would read class folders without splits under any name of a split.
        if split != "test" and split_folder(folder, split) is None:
            raise DataError(f"it has no split {split}; class folders without splits are the test split")
        return with_card(open_benchmark(folder, split), card)
    except DataError as error:
        expected = " or ".join(", ".join(layout.needs) for layout in layouts)
        raise DataError(
            f"{folder} is not {card.title} as published ({expected or card.homepage}), and {error}"
        ) from error


def open_frames(
    card: Card, root: str | Path, split: str = "test", num_frames: int = 8, *, fold: int | None = None
) -> Benchmark:
    """Open a video set with several frames per clip; `open_card` gives only the middle frame.

    Args:
        card: the card of the set.
        root: the folder that holds the sets, as for `open_card`.
        split: "train" or "test".
        num_frames: frames per clip, evenly spaced; a shorter clip gives all its frames.
        fold: the number (from 1) of one of the published divisions; None for the usual one.
    Returns:
        A Benchmark whose samples have {"clip": the video's key} in their metadata. A damaged clip is one Broken.
    Raises:
        DataError: the set is missing, has no such split, or does not consist of videos.
    Source: CLIP paper, appendix E.3 (table 15): zero-shot predictions averaged over frames.
    """
    if num_frames < 1:
        raise DataError(f"num_frames is {num_frames}; it must be at least 1")
    folder = find_folder(card, root)
    if folder is None:
        raise DataError(missing(card, root))
    layout = find_layout(card, folder)
    source = read_layout(card, layout, folder, split, fold) if layout else None
    if layout is None or not isinstance(source, VideoSource):
        raise DataError(f"{card.title} in {folder} is not stored as videos, so only one frame per clip is available")
    words = layout.words(folder) if layout.words else None
    return from_source(card, dataclasses.replace(source, num_frames=num_frames), split, words)


def _holds_pairs(card: Card, folder: Path, split: str) -> bool:
    """Whether a retrieval set is user-defined, or a copy with a folder per split (shards, or images and texts)."""
    if not LAYOUTS.get(card.name):
        return True
    return (folder / split).is_dir() and find_layout(card, folder) is None and not is_parquet_set(folder, split)


def _pairs(folder: Path, split: str) -> Source:
    """Images with captions: the shards that nshards.txt counts, as on the hub, or any form that training accepts."""
    if (folder / split / SHARD_COUNT_FILE).exists():
        return open_shards(folder, split)
    return open_source(str(folder / split))


def find_folder(card: Card, root: str | Path) -> Path | None:
    """The set's folder below root, named like the card or one of its `folders`; None if there is none.

    Case is ignored; among names that differ only in case, lower case wins.
    """
    root = expanded(root)
    if not root.is_dir():
        raise DataError(f"there is no folder {root} of evaluation sets")
    by_name = _folders(root)
    candidates = (by_name.get(name.lower(), ()) for name in (card.name, *card.folders))
    return next((folder for folders in candidates for folder in reversed(folders) if folder.is_dir()), None)


def list_folders(root: str | Path) -> list[Path]:
    """The folders and links to folders in a folder of sets, sorted. DataError if that folder does not exist."""
    root = expanded(root)
    if not root.is_dir():
        raise DataError(f"there is no folder {root} of evaluation sets")
    return sorted(folder for folders in _folders(root).values() for folder in folders if folder.is_dir())


def _folders(root: Path) -> Mapping[str, Sequence[Path]]:
    """The folders and all links in root, sorted, by lower-case name. A link's target may change, so it is not checked.

    Every card needs this list several times, and root may hold many other files. So root is listed again only after it
    has changed. Two changes in quick succession may have the same time stamp, so a root that was modified within the
    last seconds is listed each time.
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
        # Neither call needs a system call for a plain file.
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) or entry.is_symlink()]
    folders: dict[str, list[Path]] = {}
    for name in sorted(names):
        folders.setdefault(name.lower(), []).append(root / name)
    return folders


def find_layout(card: Card, folder: Path) -> Layout | None:
    """The layout of the original archive in the folder; None if it is no archive, or in the wds layout."""
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
    """The message for a missing set: how its folder must be named, and where to get it."""
    names = " or ".join(dict.fromkeys((card.name, *card.folders)))
    hub = f", or the hub's {card.hub}" if card.hub else ""
    return f"{card.title} is not in {root}: put it into a folder {names} there; get it from {card.homepage}{hub}"


def failure(error: Exception) -> str:
    """The message for a reader that raised something other than DataError: the error and its location in the code.

    Such an error is a bug in the reader, except for an OSError: the file is unreadable.
    """
    if isinstance(error, OSError):
        return f"it cannot be read: {error}"
    last_frame = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in last_frame)
    return f"its reader failed: {type(error).__name__}: {str(error)[:200]}{where}; please report it"


def from_source(card: Card, source: Source, split: str, words: Prompts | None = None) -> Benchmark:
    """A Benchmark of samples whose labels follow the order of `words`, by default the card's prompts."""
    if words is None:
        words = get_prompts(card.prompts) if card.prompts else Prompts((), (), "")
    first = [names[0] for names in words.class_names]
    return check_benchmark(card.name, split, first, words.templates, source, words.class_names, _single(words), card)


def _single(words: Prompts) -> str | None:
    """The template for use without an ensemble; None if it is the first."""
    return None if words.single in words.templates[:1] else words.single


def from_parquet(card: Card, folder: Path, split: str) -> Benchmark:
    """A Benchmark of parquet files, with the class names in the files, or the card's if the files have none.

    Raises:
        DataError: the set has several classes per image, or its labels have no names and do not fit the card.
    """
    if not card.num_classes:
        return from_source(card, ParquetSource.open(split_files(folder, split)), split)
    if card.task == "multi_label":
        raise DataError(f"{card.title}'s images have several classes each; only the original archive has them all")
    names, source = open_parquet(folder, split)
    if names is not None:
        spoken = spoken_names(names, folder)
        named = check_benchmark(card.name, split, spoken, DEFAULT_TEMPLATES, source)
        return with_card(dataclasses.replace(named, names_in_files=names), card)
    labels = distinct_labels(split_files(folder, split))
    if labels != set(range(card.num_classes)):
        raise DataError(
            f"the {split} labels of {folder} have no names, and they are {len(labels)} different ones where "
            f"{card.title} has {card.num_classes} classes (0 to {card.num_classes - 1}): is it another set? If not, "
            f"write the names into {CLASS_NAMES_FILE}"
        )
    if card.prompts and not labels_are_the_cards(card.prompts):
        raise DataError(
            f"the {split} labels of {folder} have no names, and {card.title}'s classes are numbered in several ways; "
            f"write the names, in the order of the labels, into {CLASS_NAMES_FILE}"
        )
    return from_source(card, _as_in_archive(card, source), split)


def _existing_split(card: Card, folder: Path, split: str, splits: Iterable[str]) -> str:
    """The split; or "val" for "test", if the authors withhold the test labels: many copies name that split "val"."""
    if split == "test" and "test" not in splits and "val" in splits and "val" not in card.splits:
        logger.warning("%s: %s has no test split; its validation split is used", card.title, folder)
        return "val"
    return split


def with_card(opened: Benchmark, card: Card) -> Benchmark:
    """Give a Benchmark that was not read from the original archive the name and the classes of its card.

    If each of its classes matches a class of the card, the result has the card's class names and order; a class of the
    card that the set lacks has no images. Otherwise the set keeps its own names and order, `differs` describes the
    difference, and tasks that depend on the card's classes reject the set.

    Raises:
        DataError: the set has another number of classes than the card, and not all of them match; or the classes
            differ and the card's metric depends on the identity of each class.
    """
    if not card.prompts:
        return dataclasses.replace(opened, name=card.name, card=card)
    if card.task == "multi_label":
        raise DataError(f"{card.title}'s images have several classes each; only the original archive has them all")
    words, written = get_prompts(card.prompts), opened.names_in_files or opened.class_names
    matched, ambiguous = match_alike(card.prompts, written, match_classes(card.prompts, written))
    source = _as_in_archive(card, opened.source)
    lacking = [words.class_names[label][0] for label in sorted({*range(len(words.class_names))}.difference(matched))]
    if None not in matched:
        if lacking:
            logger.warning("%s lacks %d of its classes: %s", card.title, len(lacking), ", ".join(lacking)[:200])
        if matched != tuple(range(len(words.class_names))):
            source = RelabelledSource(source, tuple(label for label in matched if label is not None))
        return dataclasses.replace(from_source(card, source, opened.split), absent=tuple(lacking), ambiguous=ambiguous)
    unmatched = [name for name, label in zip(written, matched, strict=True) if label is None]
    differs = f"its class {matched.index(None)} is {unmatched[0]!r}, which {_mismatch(card.prompts, unmatched[0])}"
    differs += f"; of those {lacking[0]!r} is missing" if lacking else ""
    if len(written) != len(words.class_names):
        counts = f"{card.title} has {len(words.class_names)} classes, but {opened.name} has {len(written)}"
        raise DataError(f"{counts}: is it another set? ({differs})")
    if card.metric == "roc_auc" or are_codes(unmatched):
        raise DataError(f"{card.title}: {differs}; write the paper's class names, in the order of the labels")
    logger.warning("%s: the class names and their order are the set's, not the card's: %s", card.title, differs)
    single = _single(words)
    own = check_benchmark(card.name, opened.split, opened.class_names, words.templates, source, (), single, card)
    return dataclasses.replace(own, differs=differs)


def _mismatch(row: str, name: str) -> str:
    """Why a class name matches no class of a row."""
    class_names, labels = get_prompts(row).class_names, sorted(meant(row, name))
    if len(labels) > 1:
        listed = ", ".join(f"{class_names[label][0]!r} ({label})" for label in labels)
        return f"may be any of {listed} of the {len(class_names)} classes"
    if labels:
        return f"is not the only one that names {class_names[labels[0]][0]!r} of the {len(class_names)} classes"
    return f"names none of the {len(class_names)} classes"


def _as_in_archive(card: Card, source: Source) -> Source:
    """The source with the image processing of the archive's reader: ObjectNet's border is cut off."""
    if not card.has_border or isinstance(getattr(source, "source", source), BorderlessSource):
        return source
    return BorderlessSource(source)
