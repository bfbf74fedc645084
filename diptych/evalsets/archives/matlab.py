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

    The classes are numbered from 1, as cars_meta.mat names them; its names are mapped to the prompts table's. The test
    list inside the devkit has no classes: the one with labels is a file of its own, beside the devkit or in it.
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
        place = number(_integer(row["class"]), where, 1, len(order))
        entries.append(Entry(f"cars_{split}/{inside(str(row['fname']), where)}", order[place - 1]))
    return ListedSource(folder, entries)


def read_flowers102(folder: Path, split: str) -> Source:
    """jpg, imagelabels.mat and setid.mat: 1,020 pictures in trnid and in valid, 6,149 in tstid.

    The paper's 2,040 for training are trnid and valid together. Some use tstid for training, since it is larger; here
    it is the test set. The classes have numbers from 1 alone; the prompts table's authors named them in that order.
    """
    check_split("Oxford Flowers 102", split, "train", "val", "test")
    folder = inner(folder, "flowers-102", "102flowers")
    [labels] = load_mat(find_file(folder, "imagelabels.mat"), "labels")
    name = {"train": "trnid", "val": "valid", "test": "tstid"}[split]
    [chosen] = load_mat(find_file(folder, "setid.mat"), name)
    labels, classes = np.atleast_1d(labels), len(get_prompts("Flowers102").class_names)
    entries = []
    for given in np.atleast_1d(chosen):
        picture = number(_integer(given), f"{name} of {folder / 'setid.mat'}", 1, len(labels))
        where = f"{folder / 'imagelabels.mat'}, picture {picture}"
        label = number(_integer(labels[picture - 1]), where, 1, classes) - 1
        entries.append(Entry(f"jpg/image_{picture:05}.jpg", label))
    return ListedSource(folder, entries)


def _integer(value: Any) -> str:
    """A number of a MATLAB file as text; what is not a whole number stays what it is, to be refused."""
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
