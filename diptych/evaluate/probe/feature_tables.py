"""Select rows of a feature table, or join two tables, without a copy; a table may be memory-mapped."""

from typing import Any

import numpy as np


class Chosen:
    """Selected rows of a table (N, D), in ascending order."""

    def __init__(self, table: "Rows", rows: np.ndarray) -> None:
        """`rows`: int64 (n,), ascending, so a file is read sequentially."""
        self._table, self._rows = table, np.asarray(rows)
        self.shape: tuple[int, ...] = (len(self._rows), table.shape[1])
        self.dtype: np.dtype[Any] = table.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """Rows as an array (k, D)."""
        return np.asarray(self._table[self._rows[rows]])


class Joined:
    """The rows of one table, followed by those of another table of the same width."""

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
        joined_rows = np.empty((len(rows), self.shape[1]), self.dtype)
        in_first = rows < border
        joined_rows[in_first], joined_rows[~in_first] = (
            self._first[rows[in_first]],
            self._second[rows[~in_first] - border],
        )
        return joined_rows


Rows = np.ndarray | Chosen | Joined
"""A table of features (N, D); slices and arrays of row indices give arrays."""
