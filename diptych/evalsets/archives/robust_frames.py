"""ImageNet-Vid-Robust and YTBB-Robust: video frames and their neighbors, each with one or more valid labels.

Every sample's metadata has {"anchor": key of the anchor's sample, "offset": distance from the anchor in frames, 0 for
the anchor itself, "labels": all valid classes}. The sample's label is the first of "labels". Under pm-k, an anchor is
correct if the predictions for it and for all its neighbors within k frames are valid labels.
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
_BAD_NEIGHBOR = {
    *("dissimilar", "problematic", "incorrect", "dont know", "deformation", "background-change"),
    *("occlusion-increased", "blur-increase", "bad-anchor"),
}


def _listed(name: str, folder: Path, split: str) -> Source:
    """metadata/pmsets.json maps each anchor to its neighbors, metadata/labels.json each frame to its labels."""
    choose_split(name, split, {"test": "all"})
    sets, valid = read_json(folder / "metadata" / "pmsets.json"), read_json(find_file(folder, "metadata/labels.json"))
    if not isinstance(sets, dict) or not isinstance(valid, dict):
        raise DataError(f"{folder / 'metadata'} is damaged: pmsets.json and labels.json should be objects")
    entries = []
    for anchor, neighbors in sorted(sets.items()):
        where = f"{folder / 'metadata' / 'pmsets.json'}, {anchor!r:.80}"
        if not isinstance(neighbors, list) or not all(isinstance(frame, str) for frame in neighbors):
            raise DataError(f"{where}: the neighbors should be a list of frames")
        frames = {_frame_number(frame, where) - _frame_number(anchor, where): frame for frame in neighbors}
        if len(frames) < len(neighbors) or 0 in frames:
            raise DataError(f"{where}: a frame is listed twice")
        labels = {frame: _labels(name, field(valid, frame, list, where), where) for frame in (anchor, *neighbors)}
        entries += _entries("", anchor, frames, labels)
    return _source(folder, entries)


def _annotated(folder: Path, split: str) -> Source:
    """YTBB-Robust with its original annotations: the good anchors, and the neighbors that are similar to them.

    Source: modestyachts/imagenet-testbed at 0170eec, src/eval_settings/ytbb_robust.py.
    """
    choose_split("Youtube-BB", split, {"test": "all"})
    path = find_file(folder, "metadata/anchor_labels.json", "ytbb-robust_metadata/anchor_labels.json")
    anchors, bad = _good_anchors(path), set()
    similar: dict[str, set[str]] = {}
    for key, marks in _annotations(path.parent / "pmk_labels.json"):
        anchor, _, neighbor = key.partition(",")
        if "bad-anchor" in marks:
            bad.add(_short(anchor, key))
        elif "similar" in marks and not marks & _BAD_NEIGHBOR:
            similar.setdefault(_short(anchor, key), set()).add(_short(neighbor, key))
    entries, unknown = [], 0
    for anchor, valid in sorted(anchors.items()):
        labels = _labels("Youtube-BB", sorted(valid), str(path))
        unknown += anchor not in bad and not labels
        if anchor in bad or not labels:
            continue
        position = _frame_number(anchor, anchor)
        near = {_frame_number(frame, anchor) - position: frame for frame in similar.get(anchor, ())}
        frames = {offset: frame for offset, frame in near.items() if 0 < abs(offset) <= _REACH}
        entries += _entries("ytbb_videos/", anchor, frames, dict.fromkeys((anchor, *frames.values()), labels))
    if unknown:
        logger.warning("%s: %d anchors show none of the 19 classes shared with ImageNet; left out", path, unknown)
    return _source(folder, entries)


def _good_anchors(path: Path) -> dict[str, set[int]]:
    """Good anchor -> its classes in Youtube-BB's numbering: the original one and those that annotators added."""
    # The table and the class index swap the numbers of "car" and "none".
    swapped = {22: 23, 23: 22}
    rows = table(path.parent / "ytbb_robustness_test_anchors_full.csv", ("ytid", "time_ms", "label"))
    original = {f"{row['ytid']}_{row['time_ms']}": field(row, "label", int, where) for where, row in rows}
    classes = read_json(path.parent / "ytbb_class_index.json")
    numbers = {name: int(number) for number, name in classes.items()} if isinstance(classes, dict) else {}
    anchors: dict[str, set[int]] = {}
    for key, labels in _annotations(path):
        anchor = _short(key, str(path))
        if "good" in labels and not labels & {"bad", "unsure"}:
            label = field(original, anchor.split("/")[0], int, f"ytbb_robustness_test_anchors_full.csv for {anchor}")
            anchors[anchor] = {numbers[name] for name in labels if name in numbers} | {swapped.get(label, label)}
    return anchors


def _annotations(path: Path) -> list[tuple[str, set[str]]]:
    """The annotations of each key. If a key was annotated several times, the last time counts."""
    parsed = read_json(path)
    try:
        names: Sequence[str] = parsed["labels"]
        by_key = {row["key"]: {names[number] for number in row["labels"]} for row in parsed["annotations"]}
    except (TypeError, KeyError, IndexError) as error:
        raise DataError(f"{path} is damaged: it should have labels and annotations ({error!r:.80})") from None
    return list(by_key.items())


def _short(key: str, where: str) -> str:
    """The last two parts of a path: <video>_<milliseconds>/frame-<number>.jpg."""
    return "/".join(inside(key.lstrip("/"), where).split("/")[-2:])


def _frame_number(frame: str, where: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})|frame-([0-9]{1,9})", Path(frame).stem)
    if not match:
        raise DataError(f"{where}: {frame!r:.80} has no frame number in its name")
    return int(match[1] or match[2])


def _labels(name: str, valid: Sequence[Any], where: str) -> tuple[int, ...]:
    """Class indices. Youtube-BB's numbers are mapped to class indices; classes not shared with ImageNet are dropped."""
    known = youtube_ids() if name == "Youtube-BB" else tuple(range(len(shift_classes(name))))
    highest = 23 if name == "Youtube-BB" else len(known) - 1
    if not all(isinstance(number, int) and 0 <= number <= highest for number in valid):
        raise DataError(f"{where}: {str(valid)[:80]} are not labels from 0 to {highest}")
    return tuple(known.index(number) for number in valid if number in known)


def _entries(prefix: str, anchor: str, frames: Mapping[int, str], labels: Mapping[str, tuple[int, ...]]) -> list[Entry]:
    """The anchor and its neighbors, sorted by offset; the key of a neighbor is like <anchor>-3."""
    entries = []
    for offset, frame in sorted({**frames, 0: anchor}.items(), key=lambda pair: (pair[0] != 0, pair[0])):
        if not labels[frame]:
            raise DataError(f"{frame} has no label")
        metadata = {"anchor": anchor, "offset": offset, "labels": labels[frame]}
        key = f"{anchor}{offset:+d}" if offset else anchor
        entries.append(Entry(prefix + inside(frame, anchor), labels[frame][0], metadata=metadata, key=key))
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
