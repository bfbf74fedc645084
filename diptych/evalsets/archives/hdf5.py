"""Reads HDF5 files in a separate process, because the HDF5 library crashes on some damaged files."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.parquet_process import FREE_MEMORY, MAX_SECONDS, ParquetError, call
from diptych.errors import DataError

_DIGITS_SECONDS = 1800.0  # of processor time: each of 200,000 images has its own HDF5 objects


def array_type(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an integer array.

    Raises:
        DataError: h5py is not installed, the file is damaged, or it does not contain such an array.
    """
    (shape, kind), _ = _call(describe, path, name)
    return tuple(shape), np.dtype(kind)


def read_array(path: Path, name: str, first: int = 0, last: int | None = None) -> np.ndarray:
    """The values of an array, or of a slice of it.

    Raises:
        DataError: as for `array_type`.
    """
    (shape, kind), data = _call(read, path, name, first, last)
    return np.frombuffer(bytearray(data), np.dtype(kind)).reshape(shape)


def read_digit_struct(path: Path) -> list[tuple[str, str]]:
    """SVHN's digitStruct.mat: the file name and the house number of each image.

    Raises:
        DataError: h5py is not installed, or the file is damaged.
    """
    return [tuple(pair) for pair in _call(digit_struct, path, seconds=_DIGITS_SECONDS)[0]]


def _call(function: Any, path: Path, *arguments: Any, seconds: float = MAX_SECONDS) -> tuple[Any, bytes]:
    if importlib.util.find_spec("h5py") is None:
        raise DataError(f"{path} is HDF5 and needs h5py, which is not installed: pip install 'diptych[hdf5]'")
    try:
        return call(function, path, *arguments, num_bytes=FREE_MEMORY, seconds=seconds)
    except ParquetError as error:
        raise DataError(f"{path} is damaged, or no HDF5 file of this set: {error}") from None


# ---- the functions below run in the other process


def describe(path: str, name: str) -> tuple[tuple[tuple[int, ...], str], bytes]:
    """Shape and dtype of an array."""
    import h5py

    with h5py.File(path, "r") as file:
        values = _values(file, name)
        return (values.shape, values.dtype.str), b""


def read(path: str, name: str, first: int, last: int | None) -> tuple[tuple[tuple[int, ...], str], bytes]:
    """Shape, dtype and bytes of a slice."""
    import h5py

    with h5py.File(path, "r") as file:
        values = _values(file, name)
        rows = range(values.shape[0])[first:last] if values.shape else range(1)
        size = len(rows) * math.prod(values.shape[1:]) * values.dtype.itemsize
        if size > FREE_MEMORY // 4:
            raise ValueError(f'"{name}" has {size:,} bytes, too many')
        part = values[first:last] if values.shape else values[...]
        return (part.shape, part.dtype.str), part.tobytes()


def digit_struct(path: str) -> tuple[list[tuple[str, str]], bytes]:
    """File names and house numbers, which the file stores as references."""
    import h5py

    with h5py.File(path, "r") as file:
        names, boxes = file["digitStruct/name"], file["digitStruct/bbox"]
        if len(names) != len(boxes):
            raise ValueError(f"{len(names)} names, {len(boxes)} boxes")
        return [
            ("".join(map(chr, file[name][()].ravel())), _number(file, file[box]["label"]))
            for [name], [box] in zip(names[()], boxes[()], strict=True)
        ], b""


def _values(file: Any, name: str) -> Any:
    """The array. An array that is stored in another file is rejected, since it could be any file of this machine."""
    import h5py

    values = file.get(name)
    if not isinstance(values, h5py.Dataset) or values.dtype.kind not in "iu":
        raise ValueError(f'it has no array of numbers "{name}"')
    if values.is_virtual or values.external or values.file.filename != file.filename:
        raise ValueError(f'"{name}" stores its numbers in another file')
    return values


def _number(file: Any, labels: Any) -> str:
    """The digits of a house number. A single digit is stored directly, several as references; 10 means zero."""
    values = labels[()].ravel()
    digits = [int(file[value][()].item()) for value in values] if labels.shape[0] > 1 else [int(values.item())]
    if not all(0 <= digit <= 10 for digit in digits):
        raise ValueError(f"a digit is out of range: {digits}")
    return "".join(str(digit % 10) for digit in digits)
