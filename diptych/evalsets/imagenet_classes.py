"""The classes of ImageNet and its natural shifts: WordNet ids, and which classes correspond."""

import functools
import json
from pathlib import Path
from typing import Any

from diptych.errors import InputError

_ASSETS = Path(__file__).parents[1] / "assets"


@functools.cache
def wordnet_ids() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1,000 classes ("n01440764", ...), sorted; the position is the class index.

    Source: ILSVRC 2012; the file states where it is published, and its terms.
    """
    text = (_ASSETS / "imagenet_wnids.txt").read_text("ascii")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


@functools.cache
def wordnet_index() -> dict[str, int]:
    """The class index of each WordNet id of ImageNet."""
    return {wordnet_id: index for index, wordnet_id in enumerate(wordnet_ids())}


@functools.cache
def synonyms() -> tuple[str, ...]:
    """The WordNet names of ImageNet's 1,000 classes ("tench, Tinca tinca"), by class index.

    Source: WordNet 3.0; the file contains its license.
    """
    text = (_ASSETS / "imagenet_synonyms.txt").read_text("utf-8")
    return tuple(line.partition("\t")[2] for line in text.splitlines() if not line.startswith("#"))


def shift_classes(name: str) -> tuple[tuple[int, ...], ...]:
    """The ImageNet class indices that belong to each class of a natural shift, by the shift's class index.

    Args:
        name: "ImageNetV2" or "ImageNet-Sketch" (all 1,000 classes, one to one), "ImageNet-A" or "ImageNet-R" (200
            classes, one to one), "ObjectNet" (113), "ImageNet-Vid" (30) or "Youtube-BB" (19).
    Raises:
        InputError: no such shift.
    Source: modestyachts/imagenet-testbed at 0170eec, src/eval_settings; the static classifier of section 3.3.
    """
    if name in ("ImageNetV2", "ImageNet-Sketch"):
        return tuple((index,) for index in range(1000))
    return tuple(map(tuple, _shift(name)["classes"]))


def youtube_ids() -> tuple[int, ...]:
    """Youtube-BB's number of each of the 19 classes that overlap with ImageNet, by class index."""
    return tuple(_shift("Youtube-BB")["ids"])


def object_net_names() -> tuple[str, ...]:
    """The names of ObjectNet's 113 classes that overlap with ImageNet, as its authors spell them, by class index."""
    return tuple(_shift("ObjectNet")["class_names"])


@functools.cache
def _shifts() -> dict[str, dict[str, Any]]:
    with (_ASSETS / "imagenet_shifts.jsonl").open(encoding="utf-8") as file:
        _source, *rows = map(json.loads, file)
    return {row["name"]: row for row in rows}


def _shift(name: str) -> dict[str, Any]:
    try:
        return _shifts()[name]
    except KeyError:
        known = ", ".join(("ImageNetV2", "ImageNet-Sketch", *_shifts()))
        raise InputError(f"{name!r} is no natural shift of ImageNet known here; there are {known}") from None
