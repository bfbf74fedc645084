"""The rules that sample derived sets from their archives: those of the archive readers, with any seed.

The paper does not state its own rules.
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

# Images per class.
EUROSAT_SIZES = {"train": 1000, "test": 500}
RESISC45_SIZES = {"train": 70, "test": 560}


@dataclasses.dataclass(frozen=True, slots=True)
class Draft:
    """The planned content of a derived set.

    Attributes:
        class_names: by class index.
        splits: for each split the samples as (name in the source, class index), in the order of writing.
        load: maps a sample's name to its image: encoded bytes or uint8 (height, width, 3).
        remarks: entries for the manifest: what was left out, and why.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, Sequence[tuple[str, int]]]
    load: Callable[[str], bytes | np.ndarray]
    remarks: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def draw(names: Iterable[str], sizes: Mapping[str, int], seed: int, what: str) -> dict[str, list[str]]:
    """Split names at random into parts of the given sizes; the rest is unused. Depends on seed and names only.

    Args:
        names: the names, in any order.
        sizes: the size of each part.
        seed: of the sampling.
        what: the source of the names, for the error message.
    Raises:
        DataError: there are too few names.
    """
    order = shuffled(names, seed)
    if len(order) < sum(sizes.values()):
        raise DataError(f"{what} has {len(order):,} images, and {sum(sizes.values()):,} are needed")
    parts, first = {}, 0
    for split, size in sizes.items():
        parts[split] = sorted(order[first : first + size])
        first += size
    return parts


def eurosat(source: Path, seed: int) -> Draft:
    """1,000 + 500 images of each of the 10 classes of EuroSAT's RGB archive (the folder 2750, or above it)."""
    base = inner(source, "2750", "EuroSAT/2750", "EuroSAT_RGB")
    return _class_folders(base, ClassIndex("EuroSAT", EUROSAT_NAMES), EUROSAT_SIZES, seed)


def resisc45(source: Path, seed: int) -> Draft:
    """70 + 560 images of each of the 45 classes of NWPU-RESISC45."""
    return _class_folders(inner(source, "NWPU-RESISC45"), ClassIndex("RESISC45"), RESISC45_SIZES, seed)


def _class_folders(base: Path, classes: ClassIndex, sizes: Mapping[str, int], seed: int) -> Draft:
    """The same number of images of each class. DataError if a class has too few images or no folder."""
    folders, passed_over = folders_of(base), PassedOver(images_only=True)
    splits: dict[str, list[tuple[str, int]]] = {split: [] for split in sizes}
    for folder, label in zip(folders, classes.order(folders, str(base)), strict=True):
        files = (f"{folder}/{name}" for name in walk_images(base / folder, passed_over))
        for split, drawn in draw(files, sizes, seed, str(base / folder)).items():
            splits[split] += [(file, label) for file in drawn]
    passed_over.log(base)
    return Draft(_names(classes.row), splits, lambda name: read_file(base / name))


def clevr_counts(source: Path, seed: int) -> Draft:
    """2,000 training and 500 test images of CLEVR_v1.0, from its training and validation scenes.

    Raises:
        DataError: a list of scenes is missing or broken, or a scene has fewer than 3 or more than 10 objects.
    """
    base, names = inner(source, "CLEVR_v1.0"), _names("CLEVRCounts")
    splits: dict[str, list[tuple[str, int]]] = {}
    for split, clevr_split in (("train", "train"), ("test", "val")):
        path = base / "scenes" / f"CLEVR_{clevr_split}_scenes.json"
        counts = scenes.object_counts(path)
        if invalid := sorted({count for count in counts.values() if str(count) not in names}):
            raise DataError(f"{path} has scenes of {invalid[0]} objects; there should be 3 to 10")
        drawn = draw(counts, {split: scenes.SIZES[split]}, seed, str(path))[split]
        folder = f"images/{clevr_split}"
        splits[split] = [(f"{folder}/{inside(name, str(path))}", names.index(str(counts[name]))) for name in drawn]
    return Draft(names, splits, lambda name: read_file(base / name))


def kitti(source: Path, seed: int) -> Draft:
    """The labeled images of KITTI's object detection set, classified by the nearest vehicle: 6,770 train, 711 test.

    If the development kit's mapping/ lies next to training/, the test images are those of TensorFlow Datasets, a tenth
    of the drives. Without it, images are sampled individually, so one drive may have images in both splits.

    Raises:
        DataError: a label file is broken, or there are too few images.
    """
    folder = source / "training" / "label_2"
    labels = {path.stem: driving.vehicle_distance(path) for path in sorted(folder.glob("*.txt"))}
    test = driving.test_drives(source, list(labels))
    divided_by = "drives" if test else "pictures"  # "pictures" is what manifests of earlier versions say
    test = test or set(draw(labels, {"test": driving.TEST_SIZE}, seed, str(folder))["test"])
    splits = {
        split: [(f"training/image_2/{name}.png", label) for name, label in labels.items() if (name in test) == is_test]
        for split, is_test in (("train", False), ("test", True))
    }
    return Draft(_names("KITTI"), splits, lambda name: read_file(source / name), {"divided by": divided_by})


def _names(row: str) -> tuple[str, ...]:
    return tuple(names[0] for names in get_prompts(row).class_names)
