"""How Overlap and Clean of each evaluation set differ apart from leakage; no model is needed."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from diptych.data.decoding import decode_image
from diptych.embed.engine import NO_LABEL
from diptych.errors import ImageError
from diptych.overlap.appearance import (
    Appearance,
    NamedShare,
    SubsetAppearance,
    compare_appearance,
    measure_appearance,
    named_share,
)
from diptych.overlap.find import Found, FoundSet
from diptych.overlap.reweighting import ClassFrequencies, class_frequencies

CLEAN_MEASURED = 2000
"""Clean images of a set whose appearance is measured; decoding an image takes milliseconds."""
_SEED = 0


@dataclasses.dataclass(frozen=True, eq=False)
class Caveats:
    """Other differences between Overlap and Clean of one set.

    Attributes:
        dataset: the set's name.
        num_images, num_overlapping: images of the set, and of Overlap.
        appearance: of "overlap", "clean" and "all". Of a large set, Clean and All are random samples.
        frequencies: images by class; None for a set without classes.
        named: copies whose training text names the class of the evaluation image; None for a set without classes.
    """

    dataset: str
    num_images: int
    num_overlapping: int
    appearance: Mapping[str, SubsetAppearance]
    frequencies: ClassFrequencies | None
    named: NamedShare | None


def find_caveats(found: Found, thresholds: Mapping[str, float]) -> list[Caveats]:
    """Compare the images of Overlap and Clean of each set.

    Args:
        found: the searched sets.
        thresholds: by set.
    Raises:
        DataError: a file cannot be read.
    """
    caveats = []
    for searched in found.sets:
        overlap = searched.nearest.overlaps(thresholds[searched.nearest.dataset])
        appearance = _appearance(searched, overlap)
        frequencies, named = None, None
        if searched.images.benchmark is not None:
            frequencies, named = class_frequencies(searched.labels, overlap), _named(found, searched, overlap)
        counts = len(overlap), int(overlap.sum())
        caveats.append(Caveats(searched.nearest.dataset, *counts, appearance, frequencies, named))
    return caveats


def _appearance(searched: FoundSet, overlap: np.ndarray) -> dict[str, SubsetAppearance]:
    """All images of Overlap, and the first CLEAN_MEASURED of Clean in a random order.

    The images in front of the last of these, of both subsets, are a random sample of All.
    """
    order = np.random.default_rng(_SEED).permutation(len(overlap))
    clean = np.flatnonzero(~overlap[order])
    end = len(order) if len(clean) <= CLEAN_MEASURED else int(clean[CLEAN_MEASURED - 1]) + 1
    drawn = order[:end]
    wanted = np.concatenate([drawn, order[end:][overlap[order[end:]]]]).tolist()
    measured = _measure(searched, wanted)
    apart = _compare(measured, wanted, overlap)
    return {**apart, "all": _compare(measured, drawn.tolist(), overlap)["all"]}


def _compare(measured: Mapping[int, Appearance], rows: list[int], overlap: np.ndarray) -> dict[str, SubsetAppearance]:
    kept = [row for row in rows if row in measured]
    return compare_appearance([measured[row] for row in kept], overlap[kept])


def _measure(searched: FoundSet, rows: list[int]) -> dict[int, Appearance]:
    """The appearance of some images of a set, by row; those that cannot be decoded are left out."""
    row_of = {searched.nearest.keys[row]: row for row in rows}
    measured = {}
    for sample in searched.images.source.get_all(row_of.keys()):
        try:
            measured[row_of[sample.key]] = measure_appearance(decode_image(sample.image))
        except ImageError:
            continue
    return measured


def _named(found: Found, searched: FoundSet, overlap: np.ndarray) -> NamedShare:
    benchmark = searched.images.benchmark
    assert benchmark is not None  # the caller asks
    rows = np.flatnonzero(overlap & (searched.labels != NO_LABEL))
    names = benchmark.names or tuple((name,) for name in benchmark.class_names)
    texts = found.index.texts(searched.nearest_rows[rows])
    return named_share(texts, [names[label] for label in searched.labels[rows].tolist()])
