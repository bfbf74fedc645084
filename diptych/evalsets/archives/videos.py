"""Video sets: UCF101, Kinetics-700 and RareAct, with the middle frame of each clip by default."""

import logging
from pathlib import Path

from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import register
from diptych.evalsets.archives.reading import (
    ClassIndex,
    below,
    choose_split,
    field,
    find_file,
    find_folder,
    inside,
    label_folders,
    lines,
    table,
    walk_files,
)
from diptych.evalsets.prompts import Prompts
from diptych.evalsets.set_sources import Entry
from diptych.evalsets.video_frames import VIDEO_SUFFIXES, VideoSource

logger = logging.getLogger(__name__)

_UCF_FOLDS = (1, 2, 3)


def read_ucf101(folder: Path, split: str, fold: int = 1) -> Source:
    """UCF101 with the lists of one of its three folds; the paper reports the mean over them."""
    part = choose_split("UCF101", split, {"train": "trainlist", "test": "testlist"})
    if fold not in _UCF_FOLDS:
        raise DataError(f"UCF101 has the folds 1, 2 and 3, not {fold}")
    lists = f"{part}{fold:02d}.txt"
    path = find_file(folder, f"ucfTrainTestlist/{lists}", lists)
    videos = find_folder(folder, "UCF-101").relative_to(folder).as_posix()
    classes = ClassIndex("UCF101")
    entries = []
    for where, line in lines(path):
        name = inside(line.split()[0], where)
        entries.append(Entry(f"{videos}/{name}", classes.label(name.split("/")[0], where), key=name))
    return VideoSource(folder, tuple(entries))


def _kinetics(folder: Path, split: str) -> Source:
    """A folder of clips per class; the authors' validation clips are the paper's test set."""
    base = folder / choose_split("Kinetics-700", split, {"train": "train", "test": "val"})
    labels = label_folders(base, ClassIndex("Kinetics700").get, 700)
    files = [f"{name}/{file}" for name in labels for file in walk_files(base / name, VIDEO_SUFFIXES)]
    if not files:
        raise DataError(f"{base} has no videos ({', '.join(VIDEO_SUFFIXES)}) in its {len(labels)} class folders")
    return VideoSource(base, tuple(Entry(file, labels[file.split("/")[0]]) for file in sorted(files)))


def _rareact(folder: Path, split: str) -> Source:
    """The annotated segments, in the order of the table.

    The authors publish URLs only, and some videos no longer exist. Segments of a missing video are skipped, and the log
    states how many. A segment of an unreadable video is Broken.

    Metadata: "video", "start", "end" (seconds), "verb", "noun" and "annotation" (0 negative, 1 positive, 2 to 4 hard
    negatives), from which the weighted average precision is computed.
    """
    choose_split("RareAct", split, {"test": "all"})
    files = {Path(file).stem: file for file in walk_files(folder, VIDEO_SUFFIXES)}
    entries, missing, num_listed = [], set(), 0
    for where, row in table(folder / "rareact.csv"):
        num_listed += 1
        video = inside(field(row, "video_id", str, where), where)
        metadata = {
            "video": video,
            "start": float(field(row, "start", float, where)),
            "end": float(field(row, "end", float, where)),
            "verb": field(row, "verb", str, where),
            "noun": field(row, "noun", str, where),
            "annotation": field(row, "annotation", int, where),
        }
        if metadata["annotation"] not in range(5):
            raise DataError(f"{where}: the annotation is {metadata['annotation']}; it must be from 0 to 4")
        label, key = field(row, "class_id", int, where), field(row, "id", str, where)
        if video in files:
            entries.append(Entry(files[video], label, metadata=metadata, key=key))
        else:
            missing.add(video)
    if not entries:
        raise DataError(f"{folder} has none of the {len(missing)} videos that rareact.csv lists, named <video_id>.mp4")
    if missing:
        text = "RareAct: %d of %d listed segments are there; missing videos: %d"
        logger.warning(text, len(entries), num_listed, len(missing))
    return VideoSource(folder, tuple(entries))


def _rareact_words(folder: Path) -> Prompts:
    """Verb and noun of each class, with templates of this package, since the paper does not state its prompts."""
    path = folder / "rareact.csv"
    names: dict[int, str] = {}
    for where, row in table(path, ("class_id", "verb", "noun")):
        label, name = field(row, "class_id", int, where), f"{row['verb']} {row['noun']}"
        if names.setdefault(label, name) != name:
            raise DataError(f"{where}: class {label} is {name!r} here, but {names[label]!r} in an earlier line")
    if sorted(names) != list(range(len(names))):
        raise DataError(f"{path}: the {len(names)} classes do not count from 0 to {len(names) - 1}")
    templates = ("a photo of a person trying to {c}.", "a video of a person trying to {c}.")
    return Prompts(tuple((names[label],) for label in range(len(names))), templates, templates[0])


register(
    {
        "UCF101": below(read_ucf101, ["UCF-101"], ["ucf101", "UCF101"], None, read_ucf101),
        "Kinetics700": below(_kinetics, ["val/*/*"], ["kinetics*", "k700*"])
        + below(_kinetics, ["train/*/*"], ["kinetics*", "k700*"]),
        "RareAct": below(_rareact, ["rareact.csv"], ["RareAct*", "rareact*"], _rareact_words),
    }
)
