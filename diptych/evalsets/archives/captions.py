"""Retrieval sets: Flickr30k and MSCOCO, with five captions per image."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diptych.data.samples import clean_texts
from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import register
from diptych.evalsets.archives.reading import (
    below,
    choose_split,
    field,
    find_file,
    find_folder,
    inside,
    lines,
    read_json,
    shuffled,
)
from diptych.evalsets.set_sources import Entry, ListedSource

logger = logging.getLogger(__name__)

_CAPTIONS = 5
_COCO_TEST = 5000
_FLICKR_FOLDERS = ("flickr30k-images", "flickr30k_images", "images", "Images")
# Image, number of the caption, caption. One published row lacks the second bar: "2199200615.jpg| 4   A dog".
_CSV_ROW = re.compile(r"([^|]+)\|\s*\d+\s*[|\s]\s*([^\s|].*)")
_SPLITS = {"train": "train", "val": "val", "test": "test"}


def _flickr(folder: Path, split: str) -> Source:
    """Flickr30k with Karpathy's split (dataset_flickr30k.json), or with lists of image numbers ({split}.txt)."""
    part = choose_split("Flickr30k", split, _SPLITS)
    image_folder = find_folder(folder, *_FLICKR_FOLDERS).name
    if (table := folder / "dataset_flickr30k.json").exists():
        captions = {f"{image_folder}/{file}": texts for _, file, texts in _karpathy(table, {part})}
    else:
        tokens = find_file(folder, "results_20130124.token", "results.token", "results.csv")
        all_captions = _tokens(tokens)
        listed = find_file(folder, f"{part}.txt", f"flickr30k_{part}.txt", "dataset_flickr30k.json")
        names = [name if name.endswith(".jpg") else f"{name}.jpg" for _, name in lines(listed)]
        if absent := [name for name in names if name not in all_captions]:
            raise DataError(f"{tokens} has no captions of {len(absent)} images in {listed.name}: {absent[:3]}")
        captions = {f"{image_folder}/{inside(name, str(listed))}": all_captions[name] for name in names}
    return _source(folder, captions)


def _tokens(path: Path) -> dict[str, list[str]]:
    """Captions by image: "1000092795.jpg#0<tab>Two young guys ...", or "1000092795.jpg| 0| Two young guys ..."."""
    captions: dict[str, list[str]] = {}
    for where, line in lines(path):
        if path.suffix == ".csv":
            if line.startswith("image_name"):
                continue
            row = _CSV_ROW.match(line)
            name, text = row.groups() if row else ("", "")
        else:
            head, _, text = line.partition("\t")
            name = head.partition("#")[0]
        if not name.strip() or not text.strip():
            raise DataError(f"{where} is not an image with a caption: {line[:80]!r}")
        captions.setdefault(name.strip(), []).append(text)
    return captions


def _coco(folder: Path, split: str) -> Source:
    """MSCOCO with Karpathy's split, whose test set has 5,000 images of val2014 (dataset_coco.json).

    Without that file, the test set is the 5,000 images of val2017, or 5,000 images of val2014 sampled by name. Both are
    reported in the log.
    """
    part = choose_split("MSCOCO", split, _SPLITS)
    if (table := folder / "dataset_coco.json").exists():
        rows = _karpathy(table, {"train", "restval"} if part == "train" else {part})
        return _source(folder, {f"{place}/{file}": texts for place, file, texts in rows})
    if part == "val":
        raise DataError(f"{folder} lacks dataset_coco.json, which lists the validation images")
    if (table := folder / "annotations" / f"captions_{'val' if part == 'test' else part}2017.json").exists():
        logger.warning("MSCOCO: no dataset_coco.json; %s is used, which is not the usual split", table.name)
        return _source(folder, _coco_captions(table, folder))
    table = find_file(folder, f"annotations/captions_{'val' if part == 'test' else part}2014.json")
    captions = _coco_captions(table, folder)
    if part == "test" and len(captions) > _COCO_TEST:
        logger.warning("MSCOCO: no dataset_coco.json; 5,000 images of val2014 are sampled, not the usual ones")
        captions = {file: captions[file] for file in shuffled(captions)[:_COCO_TEST]}
    return _source(folder, captions)


def _coco_captions(path: Path, folder: Path) -> dict[str, list[str]]:
    """Captions by image, from images [{id, file_name}] and annotations [{id, image_id, caption}]."""
    parsed = read_json(path)
    images = field(parsed, "images", list, str(path))
    image_folder = path.stem.rpartition("_")[2]
    find_folder(folder, image_folder)
    files = {
        field(row, "id", int, str(path)): f"{image_folder}/{inside(field(row, 'file_name', str, str(path)), str(path))}"
        for row in images
    }
    captions: dict[str, list[str]] = {file: [] for file in files.values()}
    rows = field(parsed, "annotations", list, str(path))
    for row in sorted(rows, key=lambda row: field(row, "id", int, str(path))):
        file = files.get(field(row, "image_id", int, str(path)))
        if file is None:
            raise DataError(f"{path}: a caption belongs to image {row['image_id']}, which it does not list")
        captions[file].append(field(row, "caption", str, str(path)))
    return captions


def _karpathy(path: Path, parts: set[str]) -> Iterable[tuple[str, str, list[str]]]:
    """Folder, file and captions of the images in these parts of Karpathy's split."""
    for number, row in enumerate(field(read_json(path, _without_tokens), "images", list, str(path))):
        where = f"{path}, image {number}"
        if field(row, "split", str, where) in parts:
            texts = [field(sentence, "raw", str, where) for sentence in field(row, "sentences", list, where)]
            image_folder = inside(row.get("filepath") or "images", where)
            yield image_folder, inside(field(row, "filename", str, where), where), texts


def _without_tokens(value: dict[str, Any]) -> dict[str, Any]:
    """Drop each sentence's list of words while the file is parsed: it is large and unused."""
    value.pop("tokens", None)
    return value


def _source(folder: Path, captions: dict[str, list[str]]) -> ListedSource:
    """Images by name, with their first five captions; a few of MSCOCO's images have more."""
    entries = []
    for file, texts in sorted(captions.items()):
        kept = clean_texts(texts)[:_CAPTIONS]
        if not kept:
            raise DataError(f"{folder / file} has no captions")
        entries.append(Entry(file, texts=kept))
    if not entries:
        raise DataError(f"{folder} has no images in this split")
    return ListedSource(folder, tuple(entries))


register(
    {
        "Flickr30k": below(_flickr, ["dataset_flickr30k.json"], ["flickr30k"])
        + below(_flickr, ["results*"], ["flickr30k"]),
        "MSCOCO": below(_coco, ["dataset_coco.json"], ["coco"]) + below(_coco, ["annotations/captions_*"], ["coco"]),
    }
)
