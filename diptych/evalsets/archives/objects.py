"""ObjectNet: the 113 of its 313 classes that overlap with ImageNet; the images' red border is cut off."""

from pathlib import Path

import numpy as np

from diptych.data.decoding import decode_image
from diptych.data.samples import read_file
from diptych.data.source import Source
from diptych.errors import DataError, ImageError
from diptych.evalsets.archive_registry import register
from diptych.evalsets.archives.reading import below, choose_split, find_file, folders_of, read_json, walk_classes
from diptych.evalsets.borders import BORDER, cut
from diptych.evalsets.imagenet_classes import object_net_names
from diptych.evalsets.set_sources import Entry, ListedSource

_MAPPING = "folder_to_objectnet_label.json"


def _read(folder: Path, split: str) -> Source:
    choose_split("ObjectNet", split, {"test": "images"})
    path = find_file(folder, f"mappings/{_MAPPING}", _MAPPING)
    mapping = read_json(path)
    names = object_net_names()
    known = list(mapping.values()) if isinstance(mapping, dict) else []
    if absent := [name for name in names if name not in known]:
        raise DataError(f"{path} is damaged: it should name ObjectNet's classes by folder, {absent[:3]} among them")
    labels = {class_folder: names.index(name) for class_folder, name in mapping.items() if name in names}
    base = folder / "images"
    if unknown := [name for name in folders_of(base) if name not in mapping]:
        raise DataError(f"{base} has folders that {path.name} does not list: {', '.join(unknown)[:200]}")
    present = [name for name in folders_of(base) if name in labels]
    files = sorted(walk_classes(base, present))
    if not files:
        raise DataError(f"{base} has no images of the {len(names)} classes that overlap with ImageNet")
    return ListedSource(base, tuple(Entry(file, labels[file.split("/")[0]]) for file in files), without_border)


def without_border(path: Path) -> np.ndarray:
    """An image without its outermost 2 pixels, which the authors colored red to mark images not to be trained on.

    Returns:
        uint8 (height - 4, width - 4, 3).
    Raises:
        DataError: the file is missing, damaged, or smaller than its border.
    """
    try:
        pixels = np.asarray(decode_image(read_file(path)))
    except ImageError as error:
        raise DataError(f"{path}: {error}") from None
    if min(pixels.shape[:2]) <= 2 * BORDER:
        raise DataError(f"{path} is smaller than its border")
    return cut(pixels)


register({"ObjectNet": below(_read, ["images/*/*"], ["objectnet-1.0*"])})
