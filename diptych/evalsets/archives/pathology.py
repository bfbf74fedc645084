"""PatchCamelyon: images and labels in HDF5 files, read slice by slice."""

import functools
from pathlib import Path

import numpy as np

from diptych.data.source import Source
from diptych.errors import DataError
from diptych.evalsets.archive_registry import register
from diptych.evalsets.archives.hdf5 import array_type, read_array
from diptych.evalsets.archives.reading import below, choose_split
from diptych.evalsets.set_sources import ArraySource

_SPLITS = {"train": "train", "val": "valid", "test": "test"}


def _read(folder: Path, split: str) -> Source:
    name = f"camelyonpatch_level_2_split_{choose_split('PatchCamelyon', split, _SPLITS)}"
    images, answers = folder / f"{name}_x.h5", folder / f"{name}_y.h5"
    for path in (images, answers):
        if not path.exists():
            if path.with_name(path.name + ".gz").exists():
                raise DataError(f"{path}.gz is still compressed; run: gunzip {path}.gz")
            raise DataError(f"{path} is missing; PatchCamelyon's {split} split needs {images.name} and {answers.name}")
    labels = read_array(answers, "y").reshape(-1).astype(np.int64)
    shape, kind = array_type(images, "x")
    if kind != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[0] != len(labels):
        raise DataError(
            f"{images} holds {kind} {shape}, which are not RGB images for the {len(labels)} labels of {answers.name}"
        )
    if not len(labels) or labels.min() < 0 or labels.max() > 1:
        raise DataError(f"{answers} should hold labels 0 and 1")
    sizes = f"{images.name} {images.stat().st_size} {answers.stat().st_size}"
    return ArraySource(images.name, functools.partial(read_array, images, "x"), labels, sizes, (images, answers))


register({"PCam": below(_read, ["camelyonpatch_level_2_split_*"], ["pcam*", "PCam*"])})
