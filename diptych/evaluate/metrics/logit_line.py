"""Effective robustness: how far a model lies above a line fitted to logit-scaled accuracies.

Source: CLIP paper, section 3.3 and figure 13, after Taori et al. (2020). The paper does not say what its bands
resample, or how often: here, models are resampled a thousand times. An accuracy of exactly 0 or 1 has no finite logit:
its model is left out of the fit and counted.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from diptych.errors import InputError, ShapeError

LEVEL = 0.95
RESAMPLES = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class LogitLine:
    """logit(y) = a * logit(x) + b, by least squares.

    Attributes:
        a, b: its coefficients.
        draws: float64 (D, 2), coefficients of lines through resampled models.
        num_models: number of fitted models.
        left_out: indices of the models that have no logit, because an accuracy is exactly 0 or 1.
    """

    a: float
    b: float
    draws: np.ndarray
    num_models: int
    left_out: tuple[int, ...] = ()

    def __call__(self, x: ArrayLike) -> np.ndarray:
        """Accuracy under shift that the line predicts at accuracy x; fractions, in the shape of x."""
        return np.asarray(expit(self.a * logit(np.asarray(x, float)) + self.b))

    def band(self, x: ArrayLike, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
        """Percentile interval of the line at each x: (low, high), fractions, in the shape of x."""
        at = logit(np.asarray(x, float))
        heights = self.draws[:, 0].reshape(-1, *[1] * at.ndim) * at + self.draws[:, 1].reshape(-1, *[1] * at.ndim)
        low, high = np.quantile(heights, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return np.asarray(expit(low)), np.asarray(expit(high))


@dataclasses.dataclass(frozen=True)
class Effective:
    """Models compared with a line; arrays (N,), fractions.

    Attributes:
        predicted: accuracy under shift that the line predicts for each model.
        effective: effective robustness, y - predicted.
        low, high: interval of `effective` from the line's band; the uncertainty of the models is not included.
        gap_closed: the share of the line's distance to y = x that the model closes.
    """

    predicted: np.ndarray
    effective: np.ndarray
    low: np.ndarray
    high: np.ndarray
    gap_closed: np.ndarray


def fit_logit_line(x: ArrayLike, y: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> LogitLine:
    """Fit a line through models.

    Args:
        x: (N,) accuracies of the models without shift, fractions. Models with an accuracy of exactly 0 or 1 are left
            out; `left_out` lists them.
        y: (N,) their accuracies under shift, likewise.
        resamples: number of lines through N models drawn with replacement, for the band.
        seed: seed of the draws.
    Raises:
        ShapeError: x and y are not arrays of one length.
        InputError: there are fewer than two different x with a logit, or an accuracy is not a fraction.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or x.ndim != 1:
        raise ShapeError(f"a line needs two rows of one length; got {x.shape} and {y.shape}")
    _check(np.concatenate([x, y]))
    fits = has_logit(x) & has_logit(y)
    left_out = tuple(np.flatnonzero(~fits).tolist())
    if len(np.unique(x[fits])) < 2:
        without = f", {len(left_out)} of them with exactly 0 or 1, which has no logit" if left_out else ""
        raise InputError(f"a line needs models of at least two different accuracies; got {len(x)} models{without}")
    u, v = logit(x[fits]), logit(y[fits])
    a, b = (float(coefficient[0]) for coefficient in _lines(u, v, np.arange(len(u))[None]))
    rows = np.random.default_rng(seed).integers(len(u), size=(resamples, len(u)))
    draws = np.stack(_lines(u, v, rows), axis=1)
    return LogitLine(a, b, draws[np.isfinite(draws).all(axis=1)], len(u), left_out)


def has_logit(values: ArrayLike) -> np.ndarray:
    """Which fractions lie between 0 and 1, both excluded; bool, in the shape of values."""
    values = np.asarray(values, float)
    return (values > 0) & (values < 1)


def _lines(u: np.ndarray, v: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and intercept of the line through each row's points, (D,) each; NaN if all its points are equal."""
    u, v = u[rows], v[rows]
    du = u - u.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = (du * v).sum(axis=1) / (du * du).sum(axis=1)
    return slope, v.mean(axis=1) - slope * u.mean(axis=1)


def effective_robustness(
    x: ArrayLike,
    y: ArrayLike,
    baseline_x: ArrayLike,
    baseline_y: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Effective:
    """Effective robustness of models: accuracy under shift beyond that of standard models of the same accuracy.

    Args:
        x, y: (N,) accuracies of the models without and under shift, fractions.
        baseline_x, baseline_y: (M,) those of the standard models.
        resamples, seed: for the line's band, as for `fit_logit_line`.
    Raises:
        ShapeError, InputError: as `fit_logit_line`.
    """
    return above_line(fit_logit_line(baseline_x, baseline_y, resamples=resamples, seed=seed), x, y)


def above_line(line: LogitLine, x: ArrayLike, y: ArrayLike) -> Effective:
    """`effective_robustness` with a given line.

    For a model whose x is exactly 0 or 1, all values are NaN; y needs no logit.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape:
        raise ShapeError(f"models need one accuracy each of both kinds; got {x.shape} and {y.shape}")
    _check(np.concatenate([x.ravel(), y.ravel()]))
    x = np.where(has_logit(x), x, np.nan)
    predicted, (low, high) = line(x), line.band(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        closed = 1 - (x - y) / (x - predicted)
    return Effective(predicted, y - predicted, y - high, y - low, closed)


def relative_robustness(after: ArrayLike, before: ArrayLike) -> np.ndarray:
    """The gain of a modified model under shift, after - before, regardless of its accuracy without shift."""
    return np.asarray(after, float) - np.asarray(before, float)


def _check(values: np.ndarray) -> None:
    if bad := [value for value in values.tolist() if not 0 <= value <= 1]:
        raise InputError(f"accuracies are fractions from 0 to 1; {len(bad)} are not, such as {bad[0]}")
