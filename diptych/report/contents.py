"""The contents of a report as plain data: arrays, strings and Results.

Images are uint8 (height, width, 3). Texts may be hostile or very long: the page escapes and truncates them.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from diptych.errors import ShapeError
from diptych.records import Result


@dataclasses.dataclass(frozen=True, eq=False)
class Similarity:
    """The cosine of every image with every caption.

    Attributes:
        images: N images, uint8 (N, height, width, 3) or a sequence of (height, width, 3).
        captions: M texts; if N = M, caption i belongs to image i and the diagonal is marked.
        cosines: float (N, M).
    """

    images: np.ndarray | Sequence[np.ndarray]
    captions: Sequence[str]
    cosines: np.ndarray

    def __post_init__(self) -> None:
        for image in self.images:
            check_image(image, "similarity")
        if np.shape(self.cosines) != (len(self.images), len(self.captions)):
            raise ShapeError(
                f"similarity: cosines have shape {np.shape(self.cosines)}, but there are {len(self.images)} images "
                f"and {len(self.captions)} captions; pass one row per image and one column per caption"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Match:
    """One neighbor: a caption or an image, its cosine, and whether it belongs to the query."""

    item: str | np.ndarray
    score: float
    right: bool

    def __post_init__(self) -> None:
        if not isinstance(self.item, str):
            check_image(self.item, "match")


@dataclasses.dataclass(frozen=True, eq=False)
class Retrieval:
    """A query with its nearest neighbors, best first: captions for an image, or images for a caption."""

    query: str | np.ndarray
    matches: Sequence[Match]

    def __post_init__(self) -> None:
        if not isinstance(self.query, str):
            check_image(self.query, "retrieval query")
        if any(isinstance(match.item, str) == isinstance(self.query, str) for match in self.matches):
            raise ShapeError(
                "retrieval: the matches of a caption must be images, and the matches of an image must be captions"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Confusion:
    """Confusion matrix of one task: `counts` is int (C, C), true classes in rows, predicted classes in columns."""

    task: str
    labels: Sequence[str]
    counts: np.ndarray

    def __post_init__(self) -> None:
        if np.shape(self.counts) != (len(self.labels), len(self.labels)):
            raise ShapeError(f"confusion of {self.task}: {len(self.labels)} labels, counts {np.shape(self.counts)}")


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """An image with its caption."""

    image: np.ndarray
    caption: str

    def __post_init__(self) -> None:
        check_image(self.image, "training pair")


@dataclasses.dataclass(frozen=True, eq=False)
class RunReport:
    """One training run with its measurements. The page omits parts that are empty or None.

    Attributes:
        title: the page's heading, one sentence that says what was done.
        results: rows of metric "accuracy" are shown, one task per `dataset`, protocols "single" and "ensemble".
        chance: accuracy of guessing, by `dataset`.
        gains: by `dataset`, interval of the accuracy of "ensemble" minus that of "single" on the same samples.
        headline: the `dataset` at the top of the page; omitted if no result has it.
        log: rows with the keys step, pairs, loss, lr, pairs_per_second, share_waiting; any may be missing or NaN.
        validation: (pairs seen, loss) on held-out pairs, drawn with the training loss.
        facts: facts about the run, shown as a table in this order. The page formats "command", "cores", "seconds"
            (of training) and "parameters", with numbers as plain text ("252.7"); it shows others unchanged.
        next_steps: (command, what it does) of each step to try next.
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


def check_image(image: np.ndarray, where: str) -> None:
    """Raise ShapeError unless the image is uint8 (height, width, 3) with at least one pixel."""
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ShapeError(
            f"{where}: an image must be uint8 (height, width, 3), not {array.dtype} {array.shape}; "
            "convert it with numpy.asarray(image.convert('RGB'))"
        )
