"""PatchCamelyon: pictures and labels in HDF5 files, read slice by slice."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.cards.archives.reading import below, choose_split
from diptych.data.cards.layouts import register
from diptych.data.cards.sources import ArraySource
from diptych.data.sources import Source
from diptych.errors import DataError

_SPLITS = {"train": "train", "val": "valid", "test": "test"}


def _read(folder: Path, split: str) -> Source:
    name = f"camelyonpatch_level_2_split_{choose_split('PatchCamelyon', split, _SPLITS)}"
    pictures, answers = folder / f"{name}_x.h5", folder / f"{name}_y.h5"
    for path in (pictures, answers):
        if not path.exists():
            if path.with_name(path.name + ".gz").exists():
                raise DataError(f"{path}.gz is still compressed; run: gunzip {path}.gz")
            raise DataError(f"{path} is missing; PatchCamelyon's {split} split is that file and its fellow")
    with _open(answers) as file:
        labels = _values(file, "y", answers)[...].reshape(-1).astype(np.int64)
    with _open(pictures) as file:
        values = _values(file, "x", pictures)
        shape, kind = values.shape, values.dtype
    if kind != np.uint8 or len(shape) != 4 or shape[3] != 3 or shape[0] != len(labels):
        raise DataError(
            f"{pictures} holds {kind} {shape}, which are no RGB pictures for the {len(labels)} labels of {answers.name}"
        )
    if not len(labels) or labels.min() < 0 or labels.max() > 1:
        raise DataError(f"{answers} should hold labels 0 and 1")
    sizes = f"{pictures.name} {pictures.stat().st_size} {answers.stat().st_size}"
    return ArraySource(pictures.name, functools.partial(_slice, pictures), labels, sizes, (pictures, answers))


def _slice(path: Path, first: int, last: int) -> np.ndarray:
    with _open(path) as file:
        try:
            return _values(file, "x", path)[first:last]
        except OSError as error:
            raise DataError(f"{path} is damaged in its pictures {first} to {last}: {error}") from None


def _open(path: Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise DataError(f"{path.name} is read with h5py, which is not installed: pip install 'diptych[hdf5]'") from None
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} is damaged, or no HDF5 file: {error}") from None


def _values(file: Any, name: str, path: Path) -> Any:
    import h5py

    values = file.get(name)
    if not isinstance(values, h5py.Dataset) or values.dtype.kind not in "iu":
        raise DataError(f'{path} has no array of numbers "{name}"')
    return values


register({"PCam": below(_read, ["camelyonpatch_level_2_split_*"], ["pcam*", "PCam*"])})
