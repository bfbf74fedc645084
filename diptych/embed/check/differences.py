"""Compare two lists of arrays, item by item: one row of a check."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diptych.embed.check.tolerances import Limit

Arrays = np.ndarray | Sequence[np.ndarray | None]
"""One array for each item: a list, or the rows of one array; None where a model could not make it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Items:
    """What the items of a stage are: their names, and their traits ("" for an ordinary one)."""

    names: Sequence[str]
    traits: Sequence[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """The comparison of one stage.

    Attributes:
        stage: its name, one of STAGES.
        limit: how much an item may differ.
        num_compared: items that both models have; those whose input differs already are not among them.
        largest: largest absolute difference of an item; for tokens the number of ids. Infinite where shapes differ.
            This and the next two leave out the explained items.
        relative: `largest` as a share of the largest absolute value of the reference.
        worst_cosine: smallest cosine between an item and its counterpart; None where nothing was compared.
        differing: names of the items beyond the limit.
        explained: names of the items beyond the limit that differ on purpose, by their trait.
        not_compared: why nothing was compared; "" otherwise.
    """

    stage: str
    limit: Limit
    num_compared: int = 0
    largest: float = 0.0
    relative: float = 0.0
    worst_cosine: float | None = None
    differing: tuple[str, ...] = ()
    explained: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    not_compared: str = ""

    @property
    def is_equal(self) -> bool:
        """Whether no item differs without an explanation. True for a stage that was not compared."""
        return not self.differing

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can represent; null for an infinite difference."""
        values = dataclasses.asdict(self)
        values = {key: None if _is_infinite(value) else value for key, value in values.items()}
        return values | {"equal": self.is_equal}


def _is_infinite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def compare(
    stage: str,
    limit: Limit,
    items: Items,
    mine: Arrays,
    theirs: Arrays,
    *,
    explains: Sequence[str] = (),
    mask: Sequence[bool] | None = None,
    ids: bool = False,
) -> Row:
    """Compare the arrays of a stage.

    Args:
        mine, theirs: one array for each item. None, where a model could not make it, is a difference.
        explains: traits whose items may differ at this stage.
        mask: False for items that are not compared, because their input differs already.
        ids: the arrays are token ids: what counts is how many differ.
    Returns:
        The row. An item differs if its difference is above limit.relative times the largest absolute value in `theirs`,
        or its cosine is below limit.cosine. NaN differs from everything.
    """
    chosen = [place for place in range(len(items.names)) if mask is None or mask[place]]
    if not chosen:
        return Row(stage=stage, limit=limit, not_compared="the input of every item differs already")
    scale = 1.0 if ids else max((_magnitude(theirs[place]) for place in chosen), default=0.0) or 1.0
    differing, explained = [], dict[str, list[str]]()
    largest, cosines = 0.0, [1.0]
    for place in chosen:
        difference, cosine = _difference(mine[place], theirs[place], ids)
        is_beyond = not difference <= limit.relative * scale or (limit.cosine is not None and cosine < limit.cosine)
        if is_beyond and items.traits[place] in explains:
            explained.setdefault(items.traits[place], []).append(items.names[place])
            continue
        largest = max(largest, difference)
        cosines.append(cosine)
        if is_beyond:
            differing.append(items.names[place])
    return Row(
        stage=stage,
        limit=limit,
        num_compared=len(chosen),
        largest=largest,
        relative=largest / scale,
        worst_cosine=None if ids else min(cosines),
        differing=tuple(differing),
        explained={trait: tuple(names) for trait, names in explained.items()},
    )


def are_equal(row: Row, items: Items) -> list[bool]:
    """For each item, whether it is equal within the limit in that row. All are, if nothing was compared."""
    beyond = {*row.differing, *(name for names in row.explained.values() for name in names)}
    return [name not in beyond for name in items.names]


def _magnitude(array: np.ndarray | None) -> float:
    return 0.0 if array is None or not array.size else float(np.abs(array.astype(np.float64)).max())


def _difference(mine: np.ndarray | None, theirs: np.ndarray | None, ids: bool) -> tuple[float, float]:
    """The largest absolute difference, and the cosine, of two arrays; (inf, -1) if they cannot be compared."""
    if mine is None or theirs is None or (mine.shape != theirs.shape and not ids):
        return math.inf, -1.0
    if ids:
        shared = min(len(mine), len(theirs))
        num_different = int((mine[:shared] != theirs[:shared]).sum()) + max(len(mine), len(theirs)) - shared
        return float(num_different), 1.0
    first, second = mine.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return math.inf, -1.0
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    cosine = float(first @ second) / norms if norms else float(np.array_equal(first, second))
    return float(np.abs(first - second).max()), min(1.0, cosine)
