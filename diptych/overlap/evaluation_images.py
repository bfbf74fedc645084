"""The images of an evaluation set: opened in any form, and embedded in each view of a detector."""

import dataclasses
from pathlib import Path

import numpy as np

from diptych.data.open_source import open_source
from diptych.data.source import Source
from diptych.data.tables import FolderSource
from diptych.embed.embed_source import embed_source
from diptych.embed.store import Store
from diptych.errors import DataError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.user_sets import open_set
from diptych.files import expanded
from diptych.overlap.detector import Detector
from diptych.overlap.training_index import check_detector


@dataclasses.dataclass(frozen=True)
class EvaluationImages:
    """The images of one evaluation set.

    Attributes:
        name: the set's name.
        path: its folder, or whatever `open_source` takes.
        source: its images.
        benchmark: the set with its classes; None for images without classes, whose accuracy is not measured.
        split: the split that is searched.
    """

    name: str
    path: str
    source: Source
    benchmark: Benchmark | None
    split: str


def open_evaluation_images(path: str, split: str = "test") -> EvaluationImages:
    """Open an evaluation set: one with classes, as `diptych evaluate` takes it, or any images that training takes.

    Raises:
        DataError: it is neither.
    """
    try:
        benchmark = open_set(path, split)
    except DataError as error:
        try:
            source = open_source(path)
        except DataError:
            raise error from None
        if isinstance(source, FolderSource):  # images to search need no captions
            source = dataclasses.replace(source, needs_captions=False)
        return EvaluationImages(expanded(path).resolve().name, path, source, None, split)
    return EvaluationImages(benchmark.name, path, benchmark.source, benchmark, split)


@dataclasses.dataclass(frozen=True, eq=False)
class Views:
    """The embeddings of a set in each view.

    Attributes:
        keys: N keys, without the broken images.
        vectors: one (N, E) float32 for each view.
        stores: the stores of the views.
    """

    keys: tuple[str, ...]
    vectors: tuple[np.ndarray, ...]
    stores: tuple[Store, ...]

    @property
    def num_broken(self) -> int:
        """Images that could not be embedded."""
        return self.stores[0].num_broken


def embed_views(images: EvaluationImages, detector: Detector, folder: Path, *, num_workers: int = 0) -> Views:
    """Embed a set in each view, or read the stores of an earlier call.

    Args:
        folder: a store for each view is kept in it.
    Raises:
        DataError: the set changed since it was embedded, another detector embedded it, or the disk is full.
    """
    stores = []
    for view, encoder in detector.encoders.items():
        check_detector(folder / view, encoder)
        stores.append(embed_source(images.source, encoder, folder / view, num_workers=num_workers))
    rows = np.arange(len(stores[0]))
    keys = tuple(stores[0].keys(rows))
    if (
        any(tuple(store.keys(rows)) != keys for store in stores[1:] if len(store) == len(keys))
        or len({len(store) for store in stores}) > 1
    ):
        raise DataError(f"{folder}: the views hold different images; delete the folder and search {images.name} again")
    return Views(keys, tuple(store.vectors(rows) for store in stores), tuple(stores))
