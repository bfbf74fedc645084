"""Ranking metrics: average precision, ROC AUC and recall at k.

All metrics return fractions in [0, 1]. They raise ShapeError if arrays do not fit together, and InputError if a score
is NaN or there are no relevant or no other samples.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import InputError, ShapeError

_RECALLS = np.linspace(0, 1, 11)
_DRAWS_AT_ONCE = 100


def average_precision_11_point(relevant: ArrayLike, scores: ArrayLike, counted: ArrayLike | None = None) -> float:
    """VOC2007's average precision of a class: the mean over recalls 0, 0.1, ..., 1 of the best precision from there on.

    Samples with equal scores enter together, so their order does not matter.

    Args:
        relevant: bool (N,), whether the image shows the class.
        scores: float (N,), higher is more certain.
        counted: bool (N,), False for images that are left out (VOC's "difficult"); all count by default.
    Source: Everingham et al. (2010), section 4.2; CLIP paper, table 9.
    """
    right, surety = _two_sides(relevant, scores, counted, wrong_needed=False)
    order = np.argsort(-surety, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(surety[order])), len(surety) - 1)
    return _average_precision(np.cumsum(right[order])[ends], ends + 1)


def mean_average_precision(relevant: ArrayLike, scores: ArrayLike, counted: ArrayLike | None = None) -> float:
    """The mean over classes of `average_precision_11_point`.

    Args:
        relevant: bool (N, C). scores: float (N, C). counted: bool (N, C).
    """
    right, surety = np.asarray(relevant), np.asarray(scores)
    kept = np.ones(right.shape, bool) if counted is None else np.asarray(counted)
    if right.ndim != 2 or right.shape != surety.shape or right.shape != kept.shape or not right.size:
        shapes = f"{right.shape}, {surety.shape} and {kept.shape}"
        raise ShapeError(f"relevant, scores and counted must share one shape (N, C); got {shapes}")
    return float(
        np.mean([average_precision_11_point(*columns) for columns in zip(right.T, surety.T, kept.T, strict=True)])
    )


def resampled_mean_average_precision(
    relevant: np.ndarray, scores: np.ndarray, counted: np.ndarray | None = None, *, resamples: int, seed: int = 0
) -> np.ndarray:
    """`mean_average_precision` of samples drawn with replacement, float (resamples,), for a bootstrap.

    A class without a relevant sample in a draw does not count in that draw; a draw without any such class is left out.
    Each class is sorted once: a draw is a weight per sample, not another array of scores.

    Args:
        relevant: bool (N, C). scores: float (N, C). counted: bool (N, C).
        resamples: number of draws.
        seed: the same seed draws the same samples.
    """
    rng, num = np.random.default_rng(seed), len(scores)
    kept = np.ones(scores.shape, bool) if counted is None else counted
    precisions = np.full((resamples, scores.shape[1]), np.nan)
    sorted_rows = [rows[np.argsort(-scores[rows, place], kind="stable")] for place, rows in _rows(kept)]
    for first in range(0, resamples, _DRAWS_AT_ONCE):
        draws = range(first, min(first + _DRAWS_AT_ONCE, resamples))
        weights = np.stack([np.bincount(rng.integers(num, size=num), minlength=num).astype(np.int32) for _ in draws])
        for place, rows in enumerate(sorted_rows):
            ends = np.append(np.flatnonzero(np.diff(scores[rows, place])), len(rows) - 1)
            drawn = weights[:, rows]
            hits = np.cumsum(drawn * relevant[rows, place], axis=1, dtype=np.int32)[:, ends]
            seen = np.cumsum(drawn, axis=1, dtype=np.int32)[:, ends]
            precisions[draws, place] = [_average_precision(*counts) for counts in zip(hits, seen, strict=True)]
    return np.nanmean(precisions[~np.isnan(precisions).all(axis=1)], axis=1)


def _rows(kept: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for place in range(kept.shape[1]):
        yield place, np.flatnonzero(kept[:, place])


def _average_precision(hits: np.ndarray, seen: np.ndarray) -> float:
    """Average precision from cumulative counts of relevant and of all samples, best first; NaN if none is relevant."""
    if not hits[-1]:
        return float("nan")
    precision = hits / np.maximum(seen, 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    # The tolerance makes 3 of 10 reach a recall of 0.3 despite rounding.
    return float(best_from_here[np.searchsorted(hits / hits[-1], _RECALLS - 1e-9)].mean())


def roc_auc(relevant: ArrayLike, scores: ArrayLike) -> float:
    """The probability that a relevant sample has a higher score than another sample; ties count half.

    Args:
        relevant: bool (N,), both values present.
        scores: float (N,).
    """
    from sklearn.metrics import roc_auc_score  # imported here: loading takes longer than most calls

    return float(roc_auc_score(*_two_sides(relevant, scores, None, wrong_needed=True)))


def recall_at_k(scores: ArrayLike, query_owner: ArrayLike, item_owner: ArrayLike, k: int) -> float:
    """Share of queries with a correct item among the k best; on ties the lower index is better.

    It serves both directions of image-text retrieval: the owner of an image or caption is the index of the image.

    Args:
        scores: float (Q, G), of each query with each item.
        query_owner: int (Q,). item_owner: int (G,): an item is correct for a query with the same owner.
        k: at least 1.
    Raises:
        InputError: also if a query has no correct item.
    Source: CLIP paper, section E.1 and table 13.
    """
    table, queries, items = np.asarray(scores), np.asarray(query_owner), np.asarray(item_owner)
    if table.ndim != 2 or table.shape != (*queries.shape, *items.shape) or not table.size:
        raise ShapeError(f"scores of shape {table.shape} do not fit {queries.shape} queries and {items.shape} items")
    if k < 1:
        raise InputError(f"k must be at least 1; got {k}")
    _check_scores(table)
    if missing := np.setdiff1d(queries, items).tolist():
        raise InputError(f"{len(missing)} owners of queries have no item, the first one {missing[0]}")
    right = queries[:, None] == items[None, :]
    best = np.where(right, table, -np.inf).max(axis=1)
    place = np.argmax(right & (table == best[:, None]), axis=1)
    before = np.arange(len(items)) < place[:, None]
    rank = ((table > best[:, None]) | ((table == best[:, None]) & before)).sum(axis=1)
    return float(np.mean(rank < k))


def _two_sides(
    relevant: ArrayLike, scores: ArrayLike, counted: ArrayLike | None, *, wrong_needed: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Check both arrays, and drop samples that do not count."""
    right, surety = np.asarray(relevant), np.asarray(scores, dtype=np.float64)
    if right.ndim != 1 or right.shape != surety.shape:
        raise ShapeError(f"relevant and scores must both have the shape (N,); got {right.shape} and {surety.shape}")
    if not np.isin(right, (0, 1)).all():
        raise InputError("relevant must hold True and False, or 1 and 0")
    right = right.astype(bool)
    if counted is not None:
        kept = np.asarray(counted)
        if kept.shape != right.shape or kept.dtype != bool:
            raise ShapeError(f"counted must be bool of shape {right.shape}; got {kept.dtype} {kept.shape}")
        right, surety = right[kept], surety[kept]
    _check_scores(surety)
    if not right.any() or (wrong_needed and right.all()):
        raise InputError(f"{int(right.sum())} of {len(right)} samples are relevant: there is nothing to rank")
    return right, surety


def _check_scores(scores: np.ndarray) -> None:
    if num_broken := int(np.isnan(scores).sum()):
        raise InputError(f"{num_broken} scores are NaN")
