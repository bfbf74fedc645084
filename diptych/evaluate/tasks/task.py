"""What the suite runs: a task measures an encoder on one set of the paper and yields Results."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from diptych.embed.encoder import Encoder
from diptych.errors import DataError
from diptych.evalsets.benchmark import Benchmark, LabelledSource
from diptych.evalsets.card import Card
from diptych.evalsets.set_sources import RelabelledSource
from diptych.files import expanded
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
        partial: whether sets of which many classes are missing are measured, too; `shown_classes.py` says when.
    """

    data: Path
    cache: Path | None = None
    predictions: Path | None = None
    num_workers: int = 0
    seed: int = 0
    partial: bool = False

    def __post_init__(self) -> None:
        for name in ("data", "cache", "predictions"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, expanded(path))


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a task measured on one set.

    Attributes:
        results: one Result per number; each has the name of the task.
        predictions: the files of per-image Predictions that were written, all below `Setting.predictions`.
    """

    results: list[Result]
    predictions: tuple[Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class Task:
    """One kind of measurement.

    Attributes:
        name: the `task` of its Results, and its name on the command line.
        applies: whether it can measure on a set.
        splits: the splits of a set that it reads.
        measure: Results, and the files that it wrote.
        version: raised whenever the same model on the same data would give another number.
        others: (card, split) pairs of other sets that it reads for a set, such as ImageNet's training pictures for a
            shift.
        folds: into how many published divisions of a set it looks, beside the usual one.
        needs_texts: whether it calls `encode_texts`; an encoder of pictures alone does without.
    """

    name: str
    applies: Callable[[Card], bool]
    splits: Callable[[Card], tuple[str, ...]]
    measure: Callable[[Encoder, Card, Setting], Measurement]
    version: int = 1
    needs_texts: bool = True
    others: Callable[[Card], tuple[tuple[str, str], ...]] = lambda card: ()
    folds: Callable[[Card], int] = lambda card: 0


def with_classes_of(first: Benchmark, second: Benchmark) -> Benchmark:
    """The second split with the first one's classes and labels, matched by their names, wherever these stand.

    Raises:
        DataError: the second has a class that the first has not, or names that do not tell its classes apart.
    """
    if unlearned := [name for name in first.absent if name not in second.absent]:
        raise DataError(
            f"{first.name}: {second.split} has classes that {first.split} lacks: {', '.join(unlearned)[:200]}"
        )
    if first.unsure != second.unsure:
        raise DataError(f"{first.name}: {_not_told_apart(first if first.unsure else second)}")
    one, two = (found.written or found.class_names for found in (first, second))
    if one == two:
        return second
    if len(set(one)) < len(one) or len(set(two)) < len(two) or not set(two) <= set(one):
        place = next((place for place, name in enumerate(two) if name not in one), None)
        what = "" if place is None else f"; class {place} in {second.split} is {two[place]!r}, unknown in {first.split}"
        other = next((name for name in one if name not in two), None)
        what += "" if other is None else f"; class {one.index(other)} in {first.split} is {other!r}"
        raise DataError(
            f"{first.name}: {len(one)} classes in {first.split}, {len(two)} in {second.split}{what}; "
            "all splits need the same classes"
        )
    source = LabelledSource(RelabelledSource(second.source, tuple(one.index(name) for name in two)), len(one))
    digest = hashlib.sha256(f"{second.fingerprint} {list(one)}".encode()).hexdigest()  # a list's text is ASCII
    return dataclasses.replace(
        second,
        source=source,
        fingerprint=digest,
        class_names=first.class_names,
        names=first.names,
        written=first.written,
        differs=first.differs,
    )


def check_classes_of_card(benchmark: Benchmark, needed: Iterable[int] = ()) -> None:
    """What is measured by ImageNet's classes needs a set whose classes are known to be its card's.

    Args:
        needed: classes that must not be taken for one another, although the card calls them by one name.
    Raises:
        DataError: a class of the set could not be told to be one of them.
    """
    if {label for label, _ in benchmark.unsure}.intersection(needed):
        raise DataError(f"{benchmark.name}/{benchmark.split}: {_not_told_apart(benchmark)}")
    if benchmark.differs:
        raise DataError(
            f"{benchmark.name}/{benchmark.split}: {benchmark.differs}. Its classes must be known one by one here: call "
            "them by the paper's names, WordNet's or their WordNet ids"
        )


def _not_told_apart(benchmark: Benchmark) -> str:
    names = ", ".join(dict.fromkeys(repr(benchmark.class_names[label]) for label, _ in benchmark.unsure))
    return (
        f"several of its classes are called {names}; the names do not tell which is which, and the order is the set's "
        "own; call the classes by WordNet's names or their WordNet ids"
    )
