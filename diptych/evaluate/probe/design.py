"""The rows of a probe: read in chunks, centered, and transformed to the eigenbasis of their covariance."""

import functools

import numpy as np
import torch

from diptych.errors import InputError
from diptych.evaluate.probe.feature_tables import Rows

BASIS_ROWS = 8192  # rows that determine the basis, which only guides the descent; the objective uses all rows
_KEPT_BYTES = 2 << 30  # largest float32 copy to keep in memory; larger tables are read again in each pass
CHUNK_VALUES = {"cpu": 1 << 18, "cuda": 1 << 26}  # logits per chunk; on a CPU they fit into its cache
READ_ROWS = 1 << 14


class Design:
    """N rows of features, as a linear model sees them.

    With the mean row m and an orthonormal basis U, weights W (C, D) and bias b become theta = [W U, b + W m],
    (C, r + 1), and the logits are (x - m) U theta[:, :r]' + theta[:, r]. U holds the eigenvectors of the covariance. In
    these coordinates a diagonal matrix approximates the Hessian well, and float32 suffices for directions of any
    variance. The rows are transformed once and kept, if memory allows. If N <= D, then r <= N; weights outside the span
    of the rows do not change the logits. Without an intercept, m is 0 and U is the eigenbasis of the second moments.

    Attributes:
        num_rows, width, rank: N, D, r.
        intercept: whether there is a bias.
        mean: float64 (D,), m.
        basis: float64 (D, r), U.
        variances: float64 (r + 1,), variances of the coordinates; the last one, for the bias, is 1.
    """

    def __init__(self, features: Rows, device: torch.device, intercept: bool = True, keep: bool | None = None) -> None:
        """Read all rows once.

        Args:
            features: (N, D) of any number type; may be memory-mapped.
            device: where the products are computed.
            intercept: whether there is a bias.
            keep: whether to keep a copy of the rows; None keeps one if memory allows.
        Raises:
            InputError: a feature is not finite.
        """
        self.features, self.device, self.intercept = features, device, intercept
        self.num_rows: int = features.shape[0]
        self.width: int = features.shape[1]
        self.mean = self._mean()
        if not bool(self.mean.isfinite().all()):
            raise InputError("the features hold NaN or infinity; check the model's weights")
        self.mean *= intercept
        num_seen = min(self.num_rows, max(BASIS_ROWS, self.width + 1))
        rows = np.unique(np.linspace(0, self.num_rows - 1, num_seen).astype(np.int64))
        sampled = self._centered(rows, torch.float64)
        self.basis, variances = _eigenbasis(sampled)
        self.variances = torch.cat([variances, variances.new_ones(1)])
        self.rank = self.basis.shape[1]
        self._kept: dict[torch.dtype, torch.Tensor] = {}
        if self.num_rows <= self.width:
            inside = sampled @ self.basis
            self._kept = {torch.float64: inside, torch.float32: inside.float()}
        elif self.num_rows * self.width * 4 <= kept_bytes(device) if keep is None else keep:
            self._kept = {torch.float32: self._all_transformed()}

    @functools.cached_property
    def longest(self) -> float:
        """The largest distance of a row from the mean row (from 0 without an intercept)."""
        largest = 0.0
        for start in range(0, self.num_rows, READ_ROWS):
            part = self.rows(start, min(start + READ_ROWS, self.num_rows), torch.float64)
            largest = max(largest, float(torch.linalg.vector_norm(part, dim=1).max()))
        return largest

    def chunks(self, num_outputs: int) -> list[tuple[int, int]]:
        """Ranges [start, stop) of rows for each chunk, if `num_outputs` numbers are computed per row."""
        size = max(256, min(CHUNK_VALUES[self.device.type] // num_outputs, READ_ROWS))
        return [(start, min(start + size, self.num_rows)) for start in range(0, self.num_rows, size)]

    def rows(self, start: int, stop: int, dtype: torch.dtype) -> torch.Tensor:
        """Rows for the products: (n, r) in the basis if a copy is kept, otherwise centered, (n, D)."""
        if dtype in self._kept:
            return self._kept[dtype][start:stop]
        return self._centered(slice(start, stop), dtype)

    def to_products(self, coordinates: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Coordinates (..., r) as weights for the output of `rows`."""
        return (coordinates if dtype in self._kept else coordinates @ self.basis.T).to(dtype)

    def from_products(self, gradient: torch.Tensor) -> torch.Tensor:
        """The float64 gradient for coordinates (..., r), from the gradient for such weights."""
        return gradient.double() if gradient.dtype in self._kept else gradient.double() @ self.basis

    def coordinates(self, weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """W (C, D) and b (C,) as theta, float64 (C, r + 1)."""
        weights, bias = weights.to(self.mean), bias.to(self.mean)
        moved = (bias + weights @ self.mean) * self.intercept
        return torch.cat([weights @ self.basis, moved[:, None]], dim=1)

    def _centered(self, rows: slice | np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        chunk = torch.from_numpy(_native(self.features[rows])).to(self.device)
        return chunk.to(dtype).sub_(self.mean.to(dtype)) if chunk.dtype != dtype else chunk - self.mean.to(dtype)

    def _all_transformed(self) -> torch.Tensor:
        kept = torch.empty(self.num_rows, self.rank, device=self.device)
        for start in range(0, self.num_rows, READ_ROWS):
            rows = slice(start, start + READ_ROWS)
            kept[rows] = self._centered(rows, torch.float64) @ self.basis
        return kept

    def _mean(self) -> torch.Tensor:
        total = torch.zeros(self.width, dtype=torch.float64, device=self.device)
        for start in range(0, self.num_rows, READ_ROWS):
            chunk = torch.from_numpy(_native(self.features[start : start + READ_ROWS])).to(self.device)
            total += chunk.sum(dim=0, dtype=torch.float64)
        return total / self.num_rows


def kept_bytes(device: torch.device) -> int:
    """The largest size of a copy of the rows: half of a GPU's free memory, or a fixed size in main memory."""
    return torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else _KEPT_BYTES


def _native(rows: np.ndarray) -> np.ndarray:
    """A writable, contiguous copy, in a float type that torch supports."""
    kind = rows.dtype if rows.dtype in (np.float16, np.float32, np.float64) else np.float64
    return np.array(rows, dtype=kind, order="C")


def _eigenbasis(centered: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """An orthonormal basis (D, r) of float64 rows (n, D), largest variance first, and the r variances."""
    num_rows, width = centered.shape
    if num_rows > width:
        values, vectors = torch.linalg.eigh(centered.T @ centered)
        return vectors.flip(1), values.flip(0).clamp(min=0) / num_rows
    _, lengths, vectors = torch.linalg.svd(centered, full_matrices=False)
    return vectors.T, lengths.square() / num_rows
