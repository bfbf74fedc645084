"""Columns of a shard as .npy files, written in pieces with a digest and mapped without parsing the header.

The shard's manifest states type and shape, which determine the header. A file with another header is refused.
"""

from pathlib import Path
from typing import IO

import numpy as np

from diptych.errors import DataError
from diptych.files import new_digest

HEADER_BYTES = 128
_BLOCK = 1 << 20


def npy_header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """The 128 bytes in front of the numbers, as `numpy.load` reads them (format 1.0)."""
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
    return (
        b"\x93NUMPY\x01\x00"
        + (HEADER_BYTES - 10).to_bytes(2, "little")
        + text.ljust(HEADER_BYTES - 11).encode()
        + b"\n"
    )


class ColumnWriter:
    """Appends rows to a column.

    Args:
        path: the new file.
        dtype: type of the numbers.
        width: numbers per row of a matrix; None for a one-dimensional column.
    Attributes:
        num_rows: rows written so far.
    Raises (all methods):
        OSError: the disk is full.
    """

    def __init__(self, path: Path, dtype: type | np.dtype, width: int | None = None) -> None:
        self._dtype, self._tail = np.dtype(dtype).newbyteorder("<"), () if width is None else (width,)
        self._file: IO[bytes] = path.open("wb")
        self._file.write(bytes(HEADER_BYTES))
        self._digest, self.num_rows = new_digest(), 0

    def append(self, rows: np.ndarray) -> None:
        """Add rows of the column's width."""
        if rows.shape[1:] != self._tail:
            raise DataError(f"rows of shape {rows.shape} do not fit a column of width {self._tail}")
        content = np.ascontiguousarray(rows, self._dtype).tobytes()
        self._digest.update(content)
        self._file.write(content)
        self.num_rows += len(rows)

    def finish(self) -> str:
        """Write the header and close the file; returns the digest of the numbers, in hexadecimal."""
        self._file.seek(0)
        self._file.write(npy_header(self._dtype, (self.num_rows, *self._tail)))
        self._file.close()
        return self._digest.hexdigest()

    def close(self) -> None:
        """Close the file without a header; no effect after `finish`."""
        self._file.close()


def map_column(path: Path, dtype: type | np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of a column, mapped from disk and read-only.

    Raises:
        DataError: the file is missing or has another type or shape.
    """
    kind = np.dtype(dtype).newbyteorder("<")
    num_bytes = kind.itemsize * int(np.prod(shape, dtype=object))
    try:
        size = path.stat().st_size
        if size != HEADER_BYTES + num_bytes:
            raise DataError(f"{path} has {size} bytes, not {HEADER_BYTES + num_bytes}: it was cut short or changed")
        with path.open("rb") as file:
            if file.read(HEADER_BYTES) != npy_header(kind, shape):
                raise DataError(f"{path} is not a column of {kind.str} {shape}: it was changed")
        if not num_bytes:  # an empty range cannot be mapped
            return np.empty(shape, kind)
        return np.memmap(path, kind, "r", offset=HEADER_BYTES, shape=shape)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def column_digest(path: Path) -> str:
    """The digest of a column's numbers, in hexadecimal.

    Raises:
        DataError: the file cannot be read.
    """
    digest = new_digest()
    try:
        with path.open("rb") as file:
            file.seek(HEADER_BYTES)
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()
