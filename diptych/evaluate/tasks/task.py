"""What the suite runs: a task measures an encoder on one set of the paper and yields Results."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from diptych.data.benchmarks import Benchmark
from diptych.data.cards.card import Card
from diptych.embed.encoder import Encoder
from diptych.errors import DataError
from diptych.records import Result


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where the sets are, and where what was computed is kept.

    Attributes:
        data: folder of evaluation sets, one folder each.
        cache: encoded pictures and classifiers are kept there; None keeps nothing.
        predictions: per-sample Predictions are written there; None writes none.
        num_workers: processes that decode pictures; it changes no number.
        seed: of every draw (few-shot samples, splits, resamples).
    """

    data: Path
    cache: Path | None = None
    predictions: Path | None = None
    num_workers: int = 0
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Task:
    """One kind of measurement.

    Attributes:
        name: the `task` of its Results, and its name on the command line.
        applies: whether it can measure on a set.
        splits: the splits of a set that it reads.
        measure: one Result per number.
        version: raised whenever the same model on the same data would give another number.
        others: (card, split) pairs of other sets that it reads for a set, such as ImageNet's training pictures for a
            shift.
        folds: into how many published divisions of a set it looks, beside the usual one.
        needs_texts: whether it calls `encode_texts`; an encoder of pictures alone does without.
    """

    name: str
    applies: Callable[[Card], bool]
    splits: Callable[[Card], tuple[str, ...]]
    measure: Callable[[Encoder, Card, Setting], list[Result]]
    version: int = 1
    needs_texts: bool = True
    others: Callable[[Card], tuple[tuple[str, str], ...]] = lambda card: ()
    folds: Callable[[Card], int] = lambda card: 0


def check_same_classes(first: Benchmark, second: Benchmark) -> None:
    """Labels of one split say nothing about another whose classes are others, or the same in another order.

    Raises:
        DataError: with the first class that differs.
    """
    one, two = first.class_names, second.class_names
    if one != two:
        place = next((place for place, pair in enumerate(zip(one, two, strict=False)) if len(set(pair)) > 1), None)
        what = "" if place is None else f"; class {place} is {one[place]!r} in one and {two[place]!r} in the other"
        raise DataError(
            f"{first.name}: {len(one)} classes in {first.split}, {len(two)} in {second.split}{what}; "
            "all splits need the same classes in the same order"
        )
