"""HDF5 files: read in a process of their own, since their library crashes over some damaged ones."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.parquet_process import FREE_MEMORY, MAX_SECONDS, ParquetError, call
from diptych.errors import DataError

_DIGITS_SECONDS = 1800.0  # of processor time: each of 200,000 pictures has objects of its own


def array_type(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array of whole numbers.

    Raises:
        DataError: h5py is not installed, the file is damaged, or it has no such array of its own.
    """
    (shape, kind), _ = _call(describe, path, name)
    return tuple(shape), np.dtype(kind)


def read_array(path: Path, name: str, first: int = 0, last: int | None = None) -> np.ndarray:
    """The numbers of an array, or a slice of it.

    Raises:
        DataError: as for `array_type`.
    """
    (shape, kind), data = _call(read, path, name, first, last)
    return np.frombuffer(bytearray(data), np.dtype(kind)).reshape(shape)


def read_digit_struct(path: Path) -> list[tuple[str, str]]:
    """SVHN's digitStruct.mat: the name and the number of each picture.

    Raises:
        DataError: h5py is not installed, or the file is damaged.
    """
    return [tuple(pair) for pair in _call(digit_struct, path, seconds=_DIGITS_SECONDS)[0]]


def _call(function: Any, path: Path, *arguments: Any, seconds: float = MAX_SECONDS) -> tuple[Any, bytes]:
    if importlib.util.find_spec("h5py") is None:
        raise DataError(f"{path} is HDF5, read with h5py, which is not installed: pip install 'diptych[hdf5]'")
    try:
        return call(function, path, *arguments, num_bytes=FREE_MEMORY, seconds=seconds)
    except ParquetError as error:
        raise DataError(f"{path} is damaged, or no HDF5 file of this set: {error}") from None


# ---- in the other process


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
        found = values[first:last] if values.shape else values[...]
        return (found.shape, found.dtype.str), found.tobytes()


def digit_struct(path: str) -> tuple[list[tuple[str, str]], bytes]:
    """Names and numbers, which the file keeps behind references."""
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
    """The array; not one whose numbers lie in another file: that could be any file of this machine."""
    import h5py

    values = file.get(name)
    if not isinstance(values, h5py.Dataset) or values.dtype.kind not in "iu":
        raise ValueError(f'it has no array of numbers "{name}"')
    if values.is_virtual or values.external or values.file.filename != file.filename:
        raise ValueError(f'"{name}" keeps its numbers in another file')
    return values


def _number(file: Any, labels: Any) -> str:
    """The digits of a house number: one of them is there itself, several by references; ten means zero."""
    values = labels[()].ravel()
    digits = [int(file[one][()].item()) for one in values] if labels.shape[0] > 1 else [int(values.item())]
    if not all(0 <= digit <= 10 for digit in digits):
        raise ValueError(f"a digit is {digits}")
    return "".join(str(digit % 10) for digit in digits)
