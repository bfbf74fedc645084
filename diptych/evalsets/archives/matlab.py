"""Archives with lists in MATLAB files: StanfordCars, Flowers102."""

from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import register
from diptych.evalsets.archives.reading import (
    ClassIndex,
    check_split,
    either,
    find_file,
    inner,
    inside,
    load_mat,
    number,
)
from diptych.evalsets.prompts import get_prompts
from diptych.evalsets.set_sources import Entry, ListedSource


def read_stanford_cars(folder: Path, split: str) -> Source:
    """The devkit with cars_train and cars_test: cars_train_annos.mat and cars_test_annos_withlabels.mat.

    The classes are numbered from 1 in the order of cars_meta.mat, whose names are matched to the prompts table. The
    devkit's own test list has no classes; the labels are in a separate file, next to the devkit or inside it.
    """
    check_split("Stanford Cars", split, "train", "test")
    folder = inner(folder, "stanford_cars", "stanford-cars")
    meta = find_file(folder, "devkit/cars_meta.mat", "car_devkit/devkit/cars_meta.mat", "cars_meta.mat")
    [names] = load_mat(meta, "class_names")
    order = ClassIndex("StanfordCars").order([str(name) for name in np.atleast_1d(names)], str(meta))
    name = {"train": "cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}[split]
    listed = find_file(folder, name, f"devkit/{name}", f"car_devkit/devkit/{name}")
    [annotations] = load_mat(listed, "annotations")
    entries = []
    for count, row in enumerate([annotations] if isinstance(annotations, dict) else annotations, 1):
        where = f"{listed}, annotation {count}"
        if not isinstance(row, dict) or not {"fname", "class"} <= set(row):
            raise DataError(f"{where} has no file name and class")
        position = number(_integer(row["class"]), where, 1, len(order))
        entries.append(Entry(f"cars_{split}/{inside(str(row['fname']), where)}", order[position - 1]))
    return ListedSource(folder, entries)


def read_flowers102(folder: Path, split: str) -> Source:
    """jpg, imagelabels.mat and setid.mat: 1,020 images in trnid and in valid, 6,149 in tstid.

    The paper's 2,040 training images are trnid and valid together. Some users train on tstid, since it is larger; here
    it is the test set. The archive has only class numbers, from 1; the prompts table names the classes in that order.
    """
    check_split("Oxford Flowers 102", split, "train", "val", "test")
    folder = inner(folder, "flowers-102", "102flowers")
    [labels] = load_mat(find_file(folder, "imagelabels.mat"), "labels")
    name = {"train": "trnid", "val": "valid", "test": "tstid"}[split]
    [chosen] = load_mat(find_file(folder, "setid.mat"), name)
    labels, classes = np.atleast_1d(labels), len(get_prompts("Flowers102").class_names)
    entries = []
    for value in np.atleast_1d(chosen):
        image = number(_integer(value), f"{name} of {folder / 'setid.mat'}", 1, len(labels))
        where = f"{folder / 'imagelabels.mat'}, image {image}"
        label = number(_integer(labels[image - 1]), where, 1, classes) - 1
        entries.append(Entry(f"jpg/image_{image:05}.jpg", label))
    return ListedSource(folder, entries)


def _integer(value: Any) -> str:
    """A number of a MATLAB file as text. Anything but an integer is left unchanged, so `number` rejects it."""
    whole = isinstance(value, int | float | np.integer | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)


register(
    {
        "StanfordCars": either(
            read_stanford_cars, "devkit", "car_devkit/devkit", "cars_meta.mat", "stanford_cars", "stanford-cars"
        ),
        "Flowers102": either(
            read_flowers102, "imagelabels.mat", "setid.mat", "flowers-102/setid.mat", "102flowers/setid.mat"
        ),
    }
)
