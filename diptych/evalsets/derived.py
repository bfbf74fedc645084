"""The rules by which derived sets are drawn from their archives: those of the archives' readers, with any seed.

The paper does not say how it drew its own.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.image_files import PassedOver, walk_images
from diptych.data.samples import read_file
from diptych.errors import DataError
from diptych.evalsets.archive_class_names import EUROSAT_NAMES
from diptych.evalsets.archives import driving, scenes
from diptych.evalsets.archives.reading import ClassIndex, folders_of, inner, inside, shuffled
from diptych.evalsets.prompts import get_prompts

# Pictures of each class.
EUROSAT_SIZES = {"train": 1000, "test": 500}
RESISC45_SIZES = {"train": 70, "test": 560}


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """What is to be written of a set.

    Attributes:
        class_names: by class index.
        splits: of each split the samples as (name in the source, class index), in the order of writing.
        load: from a sample's name to its picture, as encoded bytes or uint8 (height, width, 3).
        remarks: for the manifest: what was left out, and why.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, Sequence[tuple[str, int]]]
    load: Callable[[str], bytes | np.ndarray]
    remarks: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def draw(names: Iterable[str], sizes: Mapping[str, int], seed: int, what: str) -> dict[str, list[str]]:
    """Split names into parts of given sizes, by the seed and the names alone; those that are left are in none.

    Raises:
        DataError: there are too few.
    """
    order = shuffled(names, seed)
    if len(order) < sum(sizes.values()):
        raise DataError(f"{what} has {len(order):,} pictures, and {sum(sizes.values()):,} are needed")
    parts, first = {}, 0
    for split, size in sizes.items():
        parts[split] = sorted(order[first : first + size])
        first += size
    return parts


def eurosat(source: Path, seed: int) -> Draft:
    """1,000 + 500 pictures of each of the 10 classes of EuroSAT's RGB archive (the folder 2750, or above it)."""
    base = inner(source, "2750", "EuroSAT/2750", "EuroSAT_RGB")
    return _class_folders(base, ClassIndex("EuroSAT", EUROSAT_NAMES), EUROSAT_SIZES, seed)


def resisc45(source: Path, seed: int) -> Draft:
    """70 + 560 pictures of each of the 45 classes of NWPU-RESISC45."""
    return _class_folders(inner(source, "NWPU-RESISC45"), ClassIndex("RESISC45"), RESISC45_SIZES, seed)


def _class_folders(base: Path, classes: ClassIndex, sizes: Mapping[str, int], seed: int) -> Draft:
    """As many pictures of each class; DataError where a class has too few, or its folder is missing."""
    folders, passed_over = folders_of(base), PassedOver(images_only=True)
    splits: dict[str, list[tuple[str, int]]] = {split: [] for split in sizes}
    for folder, label in zip(folders, classes.order(folders, str(base)), strict=True):
        files = (f"{folder}/{name}" for name in walk_images(base / folder, passed_over))
        for split, drawn in draw(files, sizes, seed, str(base / folder)).items():
            splits[split] += [(file, label) for file in drawn]
    passed_over.log(base)
    return Draft(_names(classes.row), splits, lambda name: read_file(base / name))


def clevr_counts(source: Path, seed: int) -> Draft:
    """2,000 training and 500 test pictures of CLEVR_v1.0, from its own training and validation scenes.

    Raises:
        DataError: a list of scenes is missing or broken, or a scene has not 3 to 10 objects.
    """
    base, names = inner(source, "CLEVR_v1.0"), _names("CLEVRCounts")
    splits: dict[str, list[tuple[str, int]]] = {}
    for split, theirs in (("train", "train"), ("test", "val")):
        path = base / "scenes" / f"CLEVR_{theirs}_scenes.json"
        counts = scenes.object_counts(path)
        if strange := sorted({count for count in counts.values() if str(count) not in names}):
            raise DataError(f"{path} has scenes of {strange[0]} objects; there should be 3 to 10")
        drawn = draw(counts, {split: scenes.SIZES[split]}, seed, str(path))[split]
        folder = f"images/{theirs}"
        splits[split] = [(f"{folder}/{inside(name, str(path))}", names.index(str(counts[name]))) for name in drawn]
    return Draft(names, splits, lambda name: read_file(base / name))


def kitti(source: Path, seed: int) -> Draft:
    """The labelled pictures of KITTI's object detection set by the distance of the nearest vehicle: 6,770 and 711.

    With the development kit's mapping/ beside training/ the test pictures are those of TensorFlow Datasets, a tenth of
    the drives; without it they are drawn one by one, so that drives have pictures in both.

    Raises:
        DataError: a label file is broken, or there are too few pictures.
    """
    folder = source / "training" / "label_2"
    labels = {path.stem: driving.vehicle_distance(path) for path in sorted(folder.glob("*.txt"))}
    test = driving.test_drives(source, list(labels))
    by = "drives" if test else "pictures"
    test = test or set(draw(labels, {"test": driving.TEST_SIZE}, seed, str(folder))["test"])
    splits = {
        split: [(f"training/image_2/{name}.png", label) for name, label in labels.items() if (name in test) == is_test]
        for split, is_test in (("train", False), ("test", True))
    }
    return Draft(_names("KITTI"), splits, lambda name: read_file(source / name), {"divided by": by})


def _names(row: str) -> tuple[str, ...]:
    return tuple(names[0] for names in get_prompts(row).class_names)
