"""The rows of a probe: read in chunks, centered, and seen in the eigenbasis of their covariance."""

import functools

import numpy as np
import torch

from diptych.errors import InputError
from diptych.evaluate.probe.rows import Rows

BASIS_ROWS = 8192  # rows that the basis is made of; it only steers the descent, the objective takes all rows
_KEPT_BYTES = 2 << 30  # a float32 copy is kept in memory up to this size; beyond, rows are read anew in each pass
CHUNK_VALUES = {"cpu": 1 << 18, "cuda": 1 << 26}  # logits per chunk: on a CPU they stay in its cache
READ_ROWS = 1 << 14


class Design:
    """N rows of features, as a linear model sees them.

    With m the mean row and U an orthonormal basis, weights W (C, D) and bias b become theta = [W U, b + W m],
    (C, r + 1), and the logits are (x - m) U theta[:, :r]' + theta[:, r]. U holds the eigenvectors of the covariance: in
    these coordinates a diagonal matrix comes close to the Hessian, and float32 does for directions of any variance: the
    rows are turned into them once and kept, if there is room. With no more rows than columns r is N or less; weights
    outside of the rows' span change no logit. Without an intercept m is 0 and U belongs to the second moments.

    Attributes:
        num_rows, width, rank: N, D, r.
        intercept: whether there is a bias.
        mean: float64 (D,), m.
        basis: float64 (D, r), U.
        variances: float64 (r + 1,), of the coordinates; the last, of the bias, is 1.
    """

    def __init__(self, features: Rows, device: torch.device, intercept: bool = True, keep: bool | None = None) -> None:
        """Look at every row once.

        Args:
            features: (N, D) of any number type; may be mapped from disk.
            device: where the products are computed.
            intercept: whether there is a bias.
            keep: a copy of the rows; None keeps one where there is room.
        Raises:
            InputError: a feature is not finite.
        """
        self.features, self.device, self.intercept = features, device, intercept
        self.num_rows: int = features.shape[0]
        self.width: int = features.shape[1]
        self.mean = self._mean()
        if not bool(self.mean.isfinite().all()):
            raise InputError("the features hold NaN or infinity; are the model's weights sound?")
        self.mean *= intercept
        num_seen = min(self.num_rows, max(BASIS_ROWS, self.width + 1))
        rows = np.unique(np.linspace(0, self.num_rows - 1, num_seen).astype(np.int64))
        some = self._centred(rows, torch.float64)
        self.basis, variances = _eigenbasis(some)
        self.variances = torch.cat([variances, variances.new_ones(1)])
        self.rank = self.basis.shape[1]
        self._kept: dict[torch.dtype, torch.Tensor] = {}
        if self.num_rows <= self.width:
            inside = some @ self.basis
            self._kept = {torch.float64: inside, torch.float32: inside.float()}
        elif self.num_rows * self.width * 4 <= kept_bytes(device) if keep is None else keep:
            self._kept = {torch.float32: self._all_turned()}

    @functools.cached_property
    def longest(self) -> float:
        """The largest distance of a row from the mean row (from 0 without an intercept)."""
        found = 0.0
        for start in range(0, self.num_rows, READ_ROWS):
            part = self.rows(start, min(start + READ_ROWS, self.num_rows), torch.float64)
            found = max(found, float(torch.linalg.vector_norm(part, dim=1).max()))
        return found

    def chunks(self, num_outputs: int) -> list[tuple[int, int]]:
        """Rows [start, stop) of each chunk when `num_outputs` numbers are computed per row."""
        size = max(256, min(CHUNK_VALUES[self.device.type] // num_outputs, READ_ROWS))
        return [(start, min(start + size, self.num_rows)) for start in range(0, self.num_rows, size)]

    def rows(self, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
        """Rows as the products take them: (n, r) in the basis if kept so, otherwise centered, (n, D)."""
        if dtype in self._kept:
            return self._kept[dtype][start:stop]
        return self._centred(slice(start, stop), dtype)

    def to_products(self, coordinates: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Coordinates (..., r) as weights for what `rows` gives."""
        return (coordinates if dtype in self._kept else coordinates @ self.basis.T).to(dtype)

    def from_products(self, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient with respect to such weights as a float64 one with respect to coordinates (..., r)."""
        return gradient.double() if gradient.dtype in self._kept else gradient.double() @ self.basis

    def coordinates(self, weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """W (C, D) and b (C,) as theta, float64 (C, r + 1)."""
        weights, bias = weights.to(self.mean), bias.to(self.mean)
        moved = (bias + weights @ self.mean) * self.intercept
        return torch.cat([weights @ self.basis, moved[:, None]], dim=1)

    def _centred(self, rows: slice | np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        chunk = torch.from_numpy(_native(self.features[rows])).to(self.device)
        return chunk.to(dtype).sub_(self.mean.to(dtype)) if chunk.dtype != dtype else chunk - self.mean.to(dtype)

    def _all_turned(self) -> torch.Tensor:
        kept = torch.empty(self.num_rows, self.rank, device=self.device)
        for start in range(0, self.num_rows, READ_ROWS):
            rows = slice(start, start + READ_ROWS)
            kept[rows] = self._centred(rows, torch.float64) @ self.basis
        return kept

    def _mean(self) -> torch.Tensor:
        total = torch.zeros(self.width, dtype=torch.float64, device=self.device)
        for start in range(0, self.num_rows, READ_ROWS):
            chunk = torch.from_numpy(_native(self.features[start : start + READ_ROWS])).to(self.device)
            total += chunk.sum(dim=0, dtype=torch.float64)
        return total / self.num_rows


def kept_bytes(device: torch.device) -> int:
    """How large a copy of the rows may be: half of what a GPU has free, or a fixed size in main memory."""
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else _KEPT_BYTES


def _native(rows: np.ndarray) -> np.ndarray:
    """A writable, contiguous copy of floats that torch knows."""
    kind = rows.dtype if rows.dtype in (np.float16, np.float32, np.float64) else np.float64
    return np.array(rows, dtype=kind, order="C")


def _eigenbasis(centred: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of float64 rows (n, D), an orthonormal basis (D, r) of largest variance first and the r variances."""
    num_rows, width = centred.shape
    if num_rows > width:
        values, vectors = torch.linalg.eigh(centred.T @ centred)
        return vectors.flip(1), values.flip(0).clamp(min=0) / num_rows
    _, lengths, vectors = torch.linalg.svd(centred, full_matrices=False)
    return vectors.T, lengths.square() / num_rows
