"""ImageNet-Vid-Robust and YTBB-Robust: frames of videos and their neighbours, each with one valid label or more.

Every sample's metadata has {"anchor": key of the anchor's sample, "offset": frames from it, 0 for the anchor itself,
"labels": all valid classes}; its label is the first of them. An anchor counts under pm-k if it and all its neighbours
within k frames are predicted as one of their labels.
"""

import functools
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import Layout, register
from diptych.evalsets.archives.reading import below, choose_split, field, find_file, inside, read_json, table
from diptych.evalsets.imagenet_classes import shift_classes, youtube_ids
from diptych.evalsets.set_sources import Entry, ListedSource

logger = logging.getLogger(__name__)

_REACH = 10  # frames
_BAD_NEIGHBOUR = {
    *("dissimilar", "problematic", "incorrect", "dont know", "deformation", "background-change"),
    *("occlusion-increased", "blur-increase", "bad-anchor"),
}


def _listed(name: str, folder: Path, split: str) -> Source:
    """metadata/pmsets.json, from each anchor to its neighbours, and metadata/labels.json, from each frame to labels."""
    choose_split(name, split, {"test": "all"})
    sets, valid = read_json(folder / "metadata" / "pmsets.json"), read_json(find_file(folder, "metadata/labels.json"))
    if not isinstance(sets, dict) or not isinstance(valid, dict):
        raise DataError(f"{folder / 'metadata'} is damaged: pmsets.json and labels.json should be objects")
    entries = []
    for anchor, neighbours in sorted(sets.items()):
        where = f"{folder / 'metadata' / 'pmsets.json'}, {anchor!r:.80}"
        if not isinstance(neighbours, list) or not all(isinstance(frame, str) for frame in neighbours):
            raise DataError(f"{where}: the neighbours should be a list of frames")
        frames = {_frame_number(frame, where) - _frame_number(anchor, where): frame for frame in neighbours}
        if len(frames) < len(neighbours) or 0 in frames:
            raise DataError(f"{where}: a frame stands there twice")
        labels = {frame: _labels(name, field(valid, frame, list, where), where) for frame in (anchor, *neighbours)}
        entries += _entries("", anchor, frames, labels)
    return _source(folder, entries)


def _annotated(folder: Path, split: str) -> Source:
    """YTBB-Robust as its annotators left it: which anchors are good, which neighbours are similar to them.

    Source: modestyachts/imagenet-testbed at 0170eec, src/eval_settings/ytbb_robust.py.
    """
    choose_split("Youtube-BB", split, {"test": "all"})
    path = find_file(folder, "metadata/anchor_labels.json", "ytbb-robust_metadata/anchor_labels.json")
    found, bad = _good_anchors(path), set()
    similar: dict[str, set[str]] = {}
    for key, marks in _annotations(path.parent / "pmk_labels.json"):
        anchor, _, neighbour = key.partition(",")
        if "bad-anchor" in marks:
            bad.add(_short(anchor, key))
        elif "similar" in marks and not marks & _BAD_NEIGHBOUR:
            similar.setdefault(_short(anchor, key), set()).add(_short(neighbour, key))
    entries, unknown = [], 0
    for anchor, valid in sorted(found.items()):
        labels = _labels("Youtube-BB", sorted(valid), str(path))
        unknown += anchor not in bad and not labels
        if anchor in bad or not labels:
            continue
        place = _frame_number(anchor, anchor)
        near = {_frame_number(frame, anchor) - place: frame for frame in similar.get(anchor, ())}
        frames = {offset: frame for offset, frame in near.items() if 0 < abs(offset) <= _REACH}
        entries += _entries("ytbb_videos/", anchor, frames, dict.fromkeys((anchor, *frames.values()), labels))
    if unknown:
        logger.warning("%s: %d anchors show none of the 19 classes that ImageNet knows; left out", path, unknown)
    return _source(folder, entries)


def _good_anchors(path: Path) -> dict[str, set[int]]:
    """From each anchor that is good to its classes, by Youtube-BB's numbers: the added ones and the first."""
    # The table counts "car" and "none" the other way round than the index of classes does.
    swapped = {22: 23, 23: 22}
    rows = table(path.parent / "ytbb_robustness_test_anchors_full.csv", ("ytid", "time_ms", "label"))
    first = {f"{row['ytid']}_{row['time_ms']}": field(row, "label", int, where) for where, row in rows}
    classes = read_json(path.parent / "ytbb_class_index.json")
    numbers = {name: int(number) for number, name in classes.items()} if isinstance(classes, dict) else {}
    found: dict[str, set[int]] = {}
    for key, marks in _annotations(path):
        anchor = _short(key, str(path))
        if "good" in marks and not marks & {"bad", "unsure"}:
            label = field(first, anchor.split("/")[0], int, f"ytbb_robustness_test_anchors_full.csv for {anchor}")
            found[anchor] = {numbers[mark] for mark in marks if mark in numbers} | {swapped.get(label, label)}
    return found


def _annotations(path: Path) -> list[tuple[str, set[str]]]:
    """Each key's marks, the last ones where it was marked several times."""
    parsed = read_json(path)
    try:
        names: Sequence[str] = parsed["labels"]
        marks = {row["key"]: {names[number] for number in row["labels"]} for row in parsed["annotations"]}
    except (TypeError, KeyError, IndexError) as error:
        raise DataError(f"{path} is damaged: it should have labels and annotations ({error!r:.80})") from None
    return list(marks.items())


def _short(key: str, where: str) -> str:
    """<video>_<milliseconds>/frame-<number>.jpg, without what stands before it."""
    return "/".join(inside(key.lstrip("/"), where).split("/")[-2:])


def _frame_number(frame: str, where: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})|frame-([0-9]{1,9})", Path(frame).stem)
    if not match:
        raise DataError(f"{where}: {frame!r:.80} has no frame number in its name")
    return int(match[1] or match[2])


def _labels(name: str, valid: Sequence[Any], where: str) -> tuple[int, ...]:
    """Class indices; Youtube-BB's numbers are exchanged for ours, and those that ImageNet does not know left out."""
    known = youtube_ids() if name == "Youtube-BB" else tuple(range(len(shift_classes(name))))
    highest = 23 if name == "Youtube-BB" else len(known) - 1
    if not all(isinstance(number, int) and 0 <= number <= highest for number in valid):
        raise DataError(f"{where}: {str(valid)[:80]} are no labels from 0 to {highest}")
    return tuple(known.index(number) for number in valid if number in known)


def _entries(place: str, anchor: str, frames: Mapping[int, str], labels: Mapping[str, tuple[int, ...]]) -> list[Entry]:
    """The anchor and its neighbours by their offset, under keys like <anchor>-3."""
    entries = []
    for offset, frame in sorted({**frames, 0: anchor}.items(), key=lambda pair: (pair[0] != 0, pair[0])):
        if not labels[frame]:
            raise DataError(f"{frame} has no label")
        metadata = {"anchor": anchor, "offset": offset, "labels": labels[frame]}
        key = f"{anchor}{offset:+d}" if offset else anchor
        entries.append(Entry(place + inside(frame, anchor), labels[frame][0], metadata=metadata, key=key))
    return entries


def _source(folder: Path, entries: list[Entry]) -> ListedSource:
    if not entries:
        raise DataError(f"{folder} lists no frames")
    return ListedSource(folder, tuple(entries))


def _layouts(name: str, inner: str) -> tuple[Layout, ...]:
    return below(functools.partial(_listed, name), ["metadata/pmsets.json"], [inner])


register(
    {
        "ImageNet-Vid": _layouts("ImageNet-Vid", "imagenet-vid-robust"),
        "Youtube-BB": _layouts("Youtube-BB", "ytbb-robust")
        + below(_annotated, ["*metadata/anchor_labels.json"], ["ytbb-robust"]),
    }
)
