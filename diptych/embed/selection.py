"""Approximate scores with a proven error bound, which select the candidates that exact scoring then decides.

    selection = make_selection(queries, "int8", device)
    selection.set_items(tile)
    block = selection.scores(0, 1024)
    every pair with an exact score >= s has block.approximate >= block.limit(s)

"fp32" multiplies float32 numbers. "int8" rounds both sides to 8-bit whole numbers: the product takes a quarter of the
time on processors with instructions for it (AVX-512 VNNI), and more time than fp32 on those without.
"""

import abc
import dataclasses
import functools

import numpy as np
import torch

from diptych.errors import ConfigError, InputError

SELECTIONS = ("fp32", "int8")
GROUPS = 64  # groups of columns of a block; a group whose maximum is too low is not looked at again
_UNIT_ROUNDOFF = 2.0**-24  # of float32
_TINY = 1e-30  # products below float32's range
_LARGEST = 1e37  # above it a float32 sum could overflow
_LEVELS = 127
_INT32 = np.iinfo(np.int32)


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """Approximate scores of B queries with T items; the next call of `scores` overwrites them.

    Attributes:
        approximate: float32 or int32 (B, T).
        unit: float64 (B,), the value of 1 in `approximate`.
        slack: float64 (B,): |approximate * unit - exact score| <= slack.
    """

    approximate: torch.Tensor
    unit: np.ndarray
    slack: np.ndarray

    def limit(self, lowest: np.ndarray) -> torch.Tensor:
        """(B,) of the type of `approximate`: pairs below it have exact scores below `lowest`, float64 (B,)."""
        return self._rounded_down((lowest - self.slack) / self.unit)

    def certain(self, lowest: np.ndarray) -> torch.Tensor:
        """(B,) of the type of `approximate`: pairs at or above it have exact scores of at least `lowest`."""
        return -self._rounded_down(-(lowest + self.slack) / self.unit)

    def _rounded_down(self, values: np.ndarray) -> torch.Tensor:
        if self.approximate.dtype == torch.int32:
            rounded = np.clip(np.floor(values) - 1, -_INT32.max, _INT32.max).astype(np.int32)
        else:
            rounded = np.nextafter(values.astype(np.float32), np.float32(-np.inf))
        return torch.from_numpy(rounded).to(self.approximate.device)

    def group_maxima(self) -> torch.Tensor:
        """(B, G): the maximum of each group of columns; column c belongs to group c % G."""
        return self.in_groups().amax(dim=1)

    def in_groups(self) -> torch.Tensor:
        """`approximate` as (B, T / G, G)."""
        rows, columns = self.approximate.shape
        return self.approximate.view(rows, -1, int(np.gcd(columns, GROUPS)))


class Selection(abc.ABC):
    """Approximate scores of a set of queries with one tile of items after another.

    Attributes:
        queries: float32 (Q, E), on the device. items: float32 (T, E), the current tile, on the device.
    """

    _dtype: torch.dtype

    def __init__(self, queries: torch.Tensor) -> None:
        self.queries, self.items = queries, queries[:0]
        self._norms = _norms(queries).cpu().numpy().astype(np.float64)
        self._largest = float(self._norms.max(initial=0))
        self._buffer = torch.empty(0, dtype=self._dtype, device=queries.device)

    def set_items(self, items: torch.Tensor) -> None:
        """Take the next tile, float32 (T, E), T at least 1, on the queries' device.

        Raises:
            InputError: a vector is not finite, or too large for float32 sums.
        """
        self.items, self._item_norm = items, float(_norms(items).max())
        if not self._largest * self._item_norm < _LARGEST:
            check_finite(items)
            raise InputError("vectors are too large for float32 sums; scale them to unit norm")
        self._prepare(items)

    def scores(self, first: int, end: int) -> Block:
        """Approximate scores of queries `first` to `end` (exclusive) with the current tile."""
        shape = end - first, len(self.items)
        if len(self._buffer) < (cells := shape[0] * shape[1]):
            self._buffer = torch.empty(cells, dtype=self._dtype, device=self.items.device)
        return self._product(slice(first, end), self._buffer[:cells].view(shape))

    def _rounding(self, rows: slice) -> np.ndarray:
        """Bound (B,) of the error of a float32 sum of products."""
        # |float32 sum - exact sum| <= E u |q| |x| in any order of summation; twice that covers all other roundings.
        width = self.items.shape[1] + 8
        return 2 * width * _UNIT_ROUNDOFF * self._norms[rows] * self._item_norm + _TINY

    @abc.abstractmethod
    def _prepare(self, items: torch.Tensor) -> None: ...

    @abc.abstractmethod
    def _product(self, rows: slice, out: torch.Tensor) -> Block: ...


class _Fp32(Selection):
    """float32 products; the bound is that of rounding."""

    _dtype = torch.float32

    def _prepare(self, items: torch.Tensor) -> None:
        pass

    def _product(self, rows: slice, out: torch.Tensor) -> Block:
        torch.mm(self.queries[rows], self.items.T, out=out)
        slack = self._rounding(rows)
        return Block(out, np.ones_like(slack), slack)


class _Int8(Selection):
    """Whole-number products of vectors that are rounded to 127 steps on either side of zero.

    With q' and x' the rounded vectors, |q x - q' x'| <= |q - q'| |x| + |q'| |x - x'|. Each query has its own step, and
    all items of a tile share one.
    """

    _dtype = torch.int32

    def __init__(self, queries: torch.Tensor) -> None:
        super().__init__(queries)
        steps = (queries.abs().amax(dim=1, keepdim=True) / _LEVELS).clamp_min(_TINY)
        self._codes, self._residuals = _round_to(queries, steps)
        self._steps = steps[:, 0].numpy().astype(np.float64)

    def _prepare(self, items: torch.Tensor) -> None:
        step = (items.abs().amax() / _LEVELS).clamp_min(_TINY)
        self._item_codes, residuals = _round_to(items, step)
        self._item_step, self._item_residual = float(step), float(residuals.max())

    def _product(self, rows: slice, out: torch.Tensor) -> Block:
        torch._int_mm(self._codes[rows], self._item_codes.T, out=out)
        slack = self._residuals[rows] * self._item_norm
        slack = slack + (self._norms[rows] + self._residuals[rows]) * self._item_residual
        return Block(out, self._steps[rows] * self._item_step, slack + self._rounding(rows))


def make_selection(queries: torch.Tensor, name: str) -> Selection:
    """Selection for queries, float32 (Q, E), finite, on the device that computes.

    Raises:
        ConfigError: an unknown name, or int8 on a GPU or on a processor whose int8 products are not exact.
    """
    if name not in SELECTIONS:
        raise ConfigError(f"selection must be {' or '.join(SELECTIONS)}, not {name!r:.40}")
    if name == "fp32":
        return _Fp32(queries)
    if queries.device.type != "cpu":
        raise ConfigError("selection='int8' runs on the CPU; leave it out on a GPU")
    if queries.shape[1] > 1 << 16:
        raise ConfigError(f"selection='int8' takes vectors of at most 65,536 numbers, not {queries.shape[1]}")
    if not _int8_products_are_exact():
        raise ConfigError("int8 products are not exact on this processor (they saturate); use selection='fp32'")
    return _Int8(queries)


def check_finite(vectors: torch.Tensor) -> None:
    """Raise InputError if a number is NaN or infinite."""
    if not bool(torch.isfinite(vectors).all()):
        raise InputError("embeddings hold NaN or infinity; the model's weights may be damaged")


@functools.cache
def _int8_products_are_exact() -> bool:
    # Kernels for old processors add two products in 16 bits, which overflows at the largest codes.
    left = torch.tensor([[_LEVELS], [-_LEVELS]], dtype=torch.int8).repeat(32, 64)
    right = torch.cat([left[:1].repeat(64, 1), left[1:2].repeat(64, 1)])
    return bool((torch._int_mm(left, right.T) == left.int() @ right.int().T).all())


def _norms(vectors: torch.Tensor) -> torch.Tensor:
    return torch.linalg.vector_norm(vectors, dim=1)


def _round_to(vectors: torch.Tensor, step: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
    """Codes int8 (n, E), and an upper bound, float64 (n,), of the distance between a vector and its code's value.

    For E = 1 the codes are (n, 2), with a zero.
    """
    codes = (vectors / step).round_().clamp_(-_LEVELS, _LEVELS)
    distance = _norms(torch.addcmul(vectors, codes, step, value=-1)).numpy().astype(np.float64)
    # The distance is computed in float32: each difference has an error of two roundings of at most the largest number.
    largest = float(vectors.abs().amax()) if vectors.numel() else 0.0
    width = vectors.shape[1]
    if width == 1:  # torch's int8 product is wrong for vectors of one number (torch 2.13)
        codes = torch.nn.functional.pad(codes, (0, 1))
    return codes.to(torch.int8), distance * (1 + width * _UNIT_ROUNDOFF) + 4 * _UNIT_ROUNDOFF * largest * width**0.5
