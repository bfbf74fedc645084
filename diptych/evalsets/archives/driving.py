"""KITTI's object detection set as a classification of distance."""

import math
from pathlib import Path

import numpy as np

from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import register
from diptych.evalsets.archives.reading import below, choose_split, find_folder, lines, shuffled
from diptych.evalsets.set_sources import Entry, ListedSource

TEST_SIZE, _SIZE = 711, 7481
_VEHICLES = ("Car", "Van", "Truck")
_KINDS = (*_VEHICLES, "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", "DontCare")


def _read(folder: Path, split: str) -> Source:
    """The labeled images. The test set is a tenth of the drives, or 711 of 7,481 images sampled by name."""
    choose_split("KITTI", split, {"train": "training", "test": "training"})
    labels = folder / "training" / "label_2"
    images = find_folder(folder, "training/image_2")
    names = sorted(path.stem for path in labels.glob("*.txt"))
    if not any(images.glob("*.png")):
        raise DataError(f"{images} has no images; unpack data_object_image_2.zip there")
    test = test_drives(folder, names) or set(shuffled(names)[: round(len(names) * TEST_SIZE / _SIZE)])
    chosen = [name for name in names if (name in test) == (split == "test")]
    return ListedSource(
        folder,
        tuple(Entry(f"training/image_2/{name}.png", vehicle_distance(labels / f"{name}.txt")) for name in chosen),
    )


def vehicle_distance(path: Path) -> int:
    """The class of a label file, in the order of the prompts: up to 8 m, up to 20 m, further, no vehicle.

    The distance is the smallest z (along the camera's axis) of a car, van or truck.

    Source: the closest-vehicle task of VTAB, which the paper adapts.
    """
    nearest = math.inf
    for where, line in lines(path):
        kind, *values = line.split()
        try:
            depth = float(values[12])
        except (IndexError, ValueError):
            raise DataError(f"{where} is no label of an object: {line[:80]!r}") from None
        if kind not in _KINDS or not math.isfinite(depth):
            raise DataError(f"{where} is no label of an object: {line[:80]!r}")
        if kind in _VEHICLES:
            nearest = min(nearest, depth)
    return 3 if nearest == math.inf else 0 if nearest <= 8 else 1 if nearest <= 20 else 2


def test_drives(folder: Path, names: list[str]) -> set[str]:
    """The test images of TensorFlow Datasets' split by whole drives; empty without the devkit's mapping.

    That test set has 711 images, as many as the paper's.
    """
    permutation, drives = folder / "mapping" / "train_rand.txt", folder / "mapping" / "train_mapping.txt"
    if not (permutation.exists() and drives.exists()):
        return set()
    try:
        numbers = ",".join(line for _, line in lines(permutation)).split(",")
        line_indices = [int(text) - 1 for text in numbers if text.strip()]
        drive_of_line = [line.split()[1] for _, line in lines(drives)]
        drive_of_image = {f"{image:06d}": drive_of_line[at] for image, at in enumerate(line_indices) if at >= 0}
        drive_of = {name: drive_of_image[name] for name in names}
    except (ValueError, IndexError, KeyError) as error:
        raise DataError(f"{folder / 'mapping'} does not belong to the images: {error!r}") from None
    all_drives = sorted(set(drive_of_image.values()))
    # NumPy guarantees the numbers of this legacy generator in all versions.
    test = set(np.random.RandomState(123).choice(all_drives, max(1, len(all_drives) // 10), replace=False))
    return {name for name in names if drive_of[name] in test}


register({"KITTI": below(_read, ["training/label_2"], ["kitti*", "KITTI*"])})
