"""What a report shows, as plain data: arrays, strings and Results.

Pictures are uint8 (height, width, 3). Every text may be hostile or absurdly long: the page escapes and cuts it.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from diptych.errors import ShapeError
from diptych.records import Result


@dataclasses.dataclass(frozen=True, eq=False)
class Similarity:
    """The cosine of every picture with every caption.

    Attributes:
        images: N pictures, uint8 (N, height, width, 3) or a sequence of (height, width, 3).
        captions: M texts; where N = M, caption i belongs to picture i and the diagonal is marked.
        cosines: float (N, M).
    """

    images: np.ndarray | Sequence[np.ndarray]
    captions: Sequence[str]
    cosines: np.ndarray

    def __post_init__(self) -> None:
        for image in self.images:
            check_picture(image, "similarity")
        if np.shape(self.cosines) != (len(self.images), len(self.captions)):
            raise ShapeError(
                f"similarity: cosines have shape {np.shape(self.cosines)}, but there are {len(self.images)} pictures "
                f"and {len(self.captions)} captions; pass one row per picture and one column per caption"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Match:
    """One neighbour: a caption or a picture, its cosine, and whether it belongs to the query."""

    item: str | np.ndarray
    score: float
    right: bool

    def __post_init__(self) -> None:
        if not isinstance(self.item, str):
            check_picture(self.item, "match")


@dataclasses.dataclass(frozen=True, eq=False)
class Retrieval:
    """A query with its nearest neighbours, best first: captions for a picture, or pictures for a caption."""

    query: str | np.ndarray
    matches: Sequence[Match]

    def __post_init__(self) -> None:
        if not isinstance(self.query, str):
            check_picture(self.query, "retrieval query")
        if any(isinstance(match.item, str) == isinstance(self.query, str) for match in self.matches):
            raise ShapeError("retrieval: a caption is answered by pictures and a picture by captions, not by its kind")


@dataclasses.dataclass(frozen=True, eq=False)
class Confusion:
    """How often each true class (row) was given each name (column) in one task: counts is int (C, C)."""

    task: str
    labels: Sequence[str]
    counts: np.ndarray

    def __post_init__(self) -> None:
        if np.shape(self.counts) != (len(self.labels), len(self.labels)):
            raise ShapeError(f"confusion of {self.task}: {len(self.labels)} labels, counts {np.shape(self.counts)}")


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """A picture with its caption."""

    image: np.ndarray
    caption: str

    def __post_init__(self) -> None:
        check_picture(self.image, "training pair")


@dataclasses.dataclass(frozen=True, eq=False)
class RunReport:
    """One training run with its measurements. A part that is empty or None is left out of the page.

    Attributes:
        title: one sentence that says what was done; the page's heading.
        results: rows of metric "accuracy" are shown, one task per `dataset`, protocols "single" and "ensemble".
        chance: accuracy of guessing, by `dataset`.
        gains: low and high of the accuracy of "ensemble" less that of "single" on the same samples, by `dataset`.
        headline: the `dataset` that leads the page; left out where no result has it.
        log: rows with the keys step, pairs, loss, lr, pairs_per_second, share_waiting; any may be missing or NaN.
        validation: (pairs seen, loss) on held-out pairs, drawn beside the training loss.
        facts: what the run was, shown as a table in this order. The keys "command", "cores", "seconds" (of training)
            and "parameters" are understood, with numbers as plain text ("252.7"); any other is shown as it is.
        next_steps: (command, what it does) of what to try next.
    """

    title: str
    results: Sequence[Result] = ()
    chance: Mapping[str, float] = dataclasses.field(default_factory=dict)
    gains: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    headline: str = ""
    log: Sequence[Mapping[str, float]] = ()
    validation: Sequence[tuple[float, float]] = ()
    similarity: Similarity | None = None
    captions_of_pictures: Sequence[Retrieval] = ()
    pictures_of_captions: Sequence[Retrieval] = ()
    confusion: Confusion | None = None
    training_pairs: Sequence[Pair] = ()
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    next_steps: Sequence[tuple[str, str]] = ()


def check_picture(image: np.ndarray, where: str) -> None:
    """Raise ShapeError unless image is uint8 (height, width, 3) with at least one pixel."""
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ShapeError(
            f"{where}: a picture must be uint8 (height, width, 3), not {array.dtype} {array.shape}; "
            "convert it with numpy.asarray(picture.convert('RGB'))"
        )
