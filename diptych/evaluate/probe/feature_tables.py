"""Parts of a table of features, and several put together, without a copy: the table may be mapped from disk."""

from typing import Any

import numpy as np


class Chosen:
    """Some rows of a table (N, D), in ascending order."""

    def __init__(self, table: "Rows", rows: np.ndarray) -> None:
        """`rows`: int64 (n,), ascending, so that a file is read forwards."""
        self._table, self._rows = table, np.asarray(rows)
        self.shape: tuple[int, ...] = (len(self._rows), table.shape[1])
        self.dtype: np.dtype[Any] = table.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Rows as an array (k, D)."""
        return np.asarray(self._table[self._rows[rows]])


class Joined:
    """The rows of one table, then those of another of the same width."""

    def __init__(self, first: "Rows", second: "Rows") -> None:
        """Both (N, D); their number types may differ."""
        self._first, self._second = first, second
        self.shape: tuple[int, ...] = (first.shape[0] + second.shape[0], first.shape[1])
        self.dtype: np.dtype[Any] = np.result_type(first.dtype, second.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Rows as an array (k, D)."""
        border = self._first.shape[0]
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            parts = [
                self._first[start : min(stop, border)],
                self._second[max(start - border, 0) : max(stop - border, 0)],
            ]
            return np.concatenate([np.asarray(part, self.dtype) for part in parts])
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        early = rows < border
        found[early], found[~early] = self._first[rows[early]], self._second[rows[~early] - border]
        return found


Rows = np.ndarray | Chosen | Joined
"""A table of features (N, D): slices and arrays of row numbers give arrays."""
