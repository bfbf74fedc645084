"""From a card and a folder of evaluation sets to a Benchmark, whatever form the set has there."""

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

_SETTLED = 2_000_000_000  # nanoseconds; no file system in use keeps times more coarsely


def open_card(card: Card, root: str | Path, split: str = "test", *, fold: int | None = None) -> Benchmark:
    """Open a split of a paper's set below a folder of sets.

    The form is found out: the clip-benchmark/wds layout, parquet files with an image and a label column, the original
    archive, or a folder per class. Class names and templates are the card's; `with_card` says what happens where a copy
    has other class names, or another order.

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
    if card.task == "retrieval" and _holds_pairs(card, folder, split):
        return from_source(card, PairsSource(_pairs(folder, split), card.max_captions), split)
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
        if split != "test" and split_folder(folder, split) is None:  # class folders alone: these open under any name
            raise DataError(f"it has no split {split}; a folder per class stands for the test split alone")
        return with_card(open_benchmark(folder, split), card)
    except DataError as error:
        wanted = " or ".join(", ".join(layout.needs) for layout in layouts)
        raise DataError(
            f"{folder} is not {card.title} as published ({wanted or card.homepage}), and {error}"
        ) from error


def open_frames(
    card: Card, root: str | Path, split: str = "test", num_frames: int = 8, *, fold: int | None = None
) -> Benchmark:
    """Open a video set with several frames of each clip; `open_card` gives the middle frame of each.

    Args:
        card: which set.
        root: the folder that holds the sets, as for `open_card`.
        split: "train" or "test".
        num_frames: of each clip, spread evenly; a clip with fewer gives all that it has.
        fold: which of the set's divisions, from 1; None for the usual one.
    Returns:
        A Benchmark whose samples have {"clip": the video's key} in their metadata. A damaged clip is one Broken.
    Raises:
        DataError: the set is not there, has no such split, or is not there as videos.
    Source: CLIP paper, appendix E.3 (table 15): zero-shot predictions averaged over frames.
    """
    if num_frames < 1:
        raise DataError(f"{num_frames} frames of each clip were asked for; ask for one or more")
    folder = find_folder(card, root)
    if folder is None:
        raise DataError(missing(card, root))
    layout = find_layout(card, folder)
    source = read_layout(card, layout, folder, split, fold) if layout else None
    if layout is None or not isinstance(source, VideoSource):
        raise DataError(f"{card.title} in {folder} is not there as videos, so that it has no more than one frame each")
    words = layout.words(folder) if layout.words else None
    return from_source(card, dataclasses.replace(source, num_frames=num_frames), split, words)


def _holds_pairs(card: Card, folder: Path, split: str) -> bool:
    """Whether a set for retrieval is one's own, or a copy with a folder for each split: shards, files side by side."""
    if not LAYOUTS.get(card.name):
        return True
    return (folder / split).is_dir() and find_layout(card, folder) is None and not is_parquet_set(folder, split)


def _pairs(folder: Path, split: str) -> Source:
    """Pictures with captions: all the shards that nshards.txt counts, as on the hub, or whatever training takes."""
    if (folder / split / SHARD_COUNT_FILE).exists():
        return open_shards(folder, split)
    return open_source(str(folder / split))


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
    return check_benchmark(card.name, split, first, words.templates, source, words.class_names, _single(words), card)


def _single(words: Prompts) -> str | None:
    """The template to use alone; None where it is the first."""
    return None if words.single in words.templates[:1] else words.single


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
        spoken = spoken_names(names, folder)
        named = check_benchmark(card.name, split, spoken, DEFAULT_TEMPLATES, source)
        return with_card(dataclasses.replace(named, written=names), card)
    labels = distinct_labels(split_files(folder, split))
    if labels != set(range(card.num_classes)):
        missing_names = f"the {split} labels of {folder} have no names"
        raise DataError(
            f"{missing_names}, and they are {len(labels)} different ones where {card.title} has {card.num_classes} "
            f"classes (0 to {card.num_classes - 1}): is it another set? Else write the names into {CLASS_NAMES_FILE}"
        )
    if card.prompts and not labels_are_the_cards(card.prompts):
        raise DataError(
            f"the {split} labels of {folder} have no names, and {card.title}'s classes are numbered in several ways; "
            f"write the names, in the order of the labels, into {CLASS_NAMES_FILE}"
        )
    return from_source(card, _as_in_archive(card, source), split)


def _split_there(card: Card, folder: Path, split: str, found: Iterable[str]) -> str:
    """The split, or "val" for the test of a set whose authors keep the test labels back: many copies call it so."""
    if split == "test" and "test" not in found and "val" in found and "val" not in card.splits:
        logger.warning("%s: %s has no test split; its validation split is taken", card.title, folder)
        return "val"
    return split


def with_card(found: Benchmark, card: Card) -> Benchmark:
    """A Benchmark in another form than the archive's, under its card's name.

    Where each of its classes is one of the card's it has the card's classes, in the card's order and words; a class of
    the card that it lacks has no pictures. Otherwise its own names and order stay, `differs` says how they differ, and
    what rests on the card's classes refuses it.

    Raises:
        DataError: its classes are more than the card's, or fewer with others among them; or they differ and the card's
            metric rests on which class is which.
    """
    if not card.prompts:
        return dataclasses.replace(found, name=card.name, card=card)
    if card.task == "multi_label":
        raise DataError(f"{card.title}'s pictures have several classes each, which is read from the archive alone")
    words, written = get_prompts(card.prompts), found.written or found.class_names
    places, unsure = match_alike(card.prompts, written, match_classes(card.prompts, written))
    source = _as_in_archive(card, found.source)
    lacking = [words.class_names[place][0] for place in sorted({*range(len(words.class_names))}.difference(places))]
    if None not in places:
        if lacking:
            logger.warning("%s lacks %d of its classes: %s", card.title, len(lacking), ", ".join(lacking)[:200])
        if places != tuple(range(len(words.class_names))):
            source = RelabelledSource(source, tuple(place for place in places if place is not None))
        return dataclasses.replace(from_source(card, source, found.split), absent=tuple(lacking), unsure=unsure)
    others = [written[place] for place, one in enumerate(places) if one is None]
    differs = f"its class {places.index(None)} is {others[0]!r}, which {_said_of(card.prompts, others[0])}"
    differs += f"; of those {lacking[0]!r} is missing" if lacking else ""
    if len(written) != len(words.class_names):
        counts = f"{card.title} has {len(words.class_names)} classes, but {found.name} has {len(written)}"
        raise DataError(f"{counts}: is it another set? ({differs})")
    if card.metric == "roc_auc" or are_codes(others):
        raise DataError(f"{card.title}: {differs}; write the paper's class names, in the order of the labels")
    logger.warning("%s: the set has class names and an order of its own, which are used: %s", card.title, differs)
    own = check_benchmark(card.name, found.split, found.class_names, words.templates, source, (), _single(words), card)
    return dataclasses.replace(own, differs=differs)


def _said_of(row: str, name: str) -> str:
    """What is wrong with a name that could not be matched."""
    called, classes = get_prompts(row).class_names, sorted(meant(row, name))
    if len(classes) > 1:
        return (
            f"may be any of {', '.join(f'{called[one][0]!r} ({one})' for one in classes)} of the {len(called)} classes"
        )
    if classes:
        return f"is not the only one that names {called[classes[0]][0]!r} of the {len(called)} classes"
    return f"names none of the {len(called)} classes"


def _as_in_archive(card: Card, source: Source) -> Source:
    """With what the reader of the archive does to pictures."""
    if not card.has_border or isinstance(getattr(source, "source", source), BorderlessSource):
        return source
    return BorderlessSource(source)
