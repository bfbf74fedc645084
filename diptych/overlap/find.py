"""Find the training image that is most similar to each evaluation image: embed both sides, and search.

    OUT/overlap.json            the options, and what was searched
    OUT/train/                  the index of the training images (training_index.py)
    OUT/sets/NAME/VIEW/         the embeddings of an evaluation set in each view of the detector
    OUT/search/NAME/GENERATION/ the finished parts of its search (search_parts.py)

Every part is restartable: after a kill, the same command goes on, and nothing is searched twice.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych.data.content import content_fingerprint
from diptych.data.open_source import open_source
from diptych.data.source import Source
from diptych.embed.about import about
from diptych.embed.broken_samples import broken_samples
from diptych.embed.neighbours import Neighbours
from diptych.errors import ConfigError, DataError, InputError
from diptych.files import expanded, new_file, read_object, writing
from diptych.overlap.detector import DEFAULT, Detector, load_detector
from diptych.overlap.duplicates_file import SetNearest, check_unique
from diptych.overlap.evaluation_images import EvaluationImages, embed_views, open_evaluation_images
from diptych.overlap.search import best_of, search_store
from diptych.overlap.training_index import TrainingIndex, update_index

OPTIONS_FILE = "overlap.json"
BROKEN_NAMED = 20  # broken images of a set that are named
_FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverlapConfig:
    """What is searched in what.

    Attributes:
        train: the training data, as `diptych train` takes it.
        sets: evaluation sets: folders, as `diptych evaluate` takes them, or any images that training takes.
        out: folder of the index, the search and the report.
        detector: as `load_detector` takes it.
        mirrored: also search the mirror image of each evaluation image.
        neighbours: training images kept per evaluation image.
        split: the split of the evaluation sets.
        num_workers: processes that decode images. num_processes: processes that embed and search, on the CPU.
        same_data: the training data may hold the files of an evaluation set.
    """

    train: tuple[str, ...]
    sets: tuple[str, ...]
    out: str
    detector: str = DEFAULT
    mirrored: bool = True
    neighbours: int = 5
    split: str = "test"
    num_workers: int = 1
    num_processes: int = 1
    same_data: bool = False

    def __post_init__(self) -> None:
        if not self.train or not self.sets:
            raise ConfigError("name the training data (--train) and at least one evaluation set (--eval)")
        if self.neighbours < 1:
            raise ConfigError(f"neighbours is {self.neighbours}; it must be at least 1")

    @property
    def folder(self) -> Path:
        """`out`, with a leading ~ expanded."""
        return expanded(self.out)


@dataclasses.dataclass(frozen=True, eq=False)
class FoundSet:
    """One evaluation set, searched.

    Attributes:
        images: the set.
        nearest: the most similar training image of each of its images.
        neighbours: the rows in the index and the scores of the `neighbours` best.
        labels: int64 (N,), the class of each image; NO_LABEL if it has none.
        num_broken: images that could not be embedded.
        broken: the reasons of the first of them, by key.
    """

    images: EvaluationImages
    nearest: SetNearest
    neighbours: Neighbours
    labels: np.ndarray
    num_broken: int
    broken: Mapping[str, str]


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """All evaluation sets, searched in the training data."""

    config: OverlapConfig
    detector: Detector
    index: TrainingIndex
    sets: tuple[FoundSet, ...]

    @property
    def training_data(self) -> str:
        """Fingerprint of the training source."""
        return self.index.source.fingerprint


def find_overlap(config: OverlapConfig, detector: Detector | None = None) -> Found:
    """Embed the training data and the evaluation sets, and search each evaluation image in the training data.

    Call it again to resume. Sets and shards may be added; only what is new is embedded and searched.

    Args:
        detector: instead of the one that the configuration names.
    Raises:
        InputError: two sets have the same name, or a set is part of the training data.
        ConfigError: an option differs from the folder's earlier run.
        DataError: data cannot be read, changed since it was embedded, or the disk is full.
    """
    source = open_source(config.train)
    sets = [open_evaluation_images(path, config.split) for path in config.sets]
    check_unique(images.name for images in sets)
    if not config.same_data:
        _check_apart(source, sets)
    detector = detector or load_detector(config.detector, mirrored=config.mirrored)
    _claim(config, detector, sets)
    index = update_index(
        source,
        detector.encoder,
        config.folder / "train",
        num_workers=config.num_workers,
        num_processes=config.num_processes,
    )
    if not len(index):
        raise DataError(f"no image of {', '.join(config.train)} could be read; the log names the first broken ones")
    return Found(config, detector, index, tuple(_find(images, index, detector, config) for images in sets))


def _find(images: EvaluationImages, index: TrainingIndex, detector: Detector, config: OverlapConfig) -> FoundSet:
    views = embed_views(images, detector, config.folder / "sets" / images.name, num_workers=config.num_workers)
    if not views.keys:
        raise DataError(f"no image of {images.path} could be read; the log names the first broken ones")
    parts = []
    for number, (store, start) in enumerate(zip(index.stores, index.starts.tolist(), strict=False)):
        folder = config.folder / "search" / images.name / f"{number:03d}"
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        found = search_store(views.vectors, store, folder, k=config.neighbours, num_processes=config.num_processes)
        parts.append(Neighbours(found.rows + start, found.scores))
    best = best_of([part for part in parts if part.rows.shape[1]], config.neighbours)
    nearest = SetNearest(images.name, views.keys, tuple(index.store.keys(best.rows[:, 0])), best.scores[:, 0])
    store = views.stores[0]
    labels, broken = store.labels(np.arange(len(store))), broken_samples([store], BROKEN_NAMED)
    return FoundSet(images, nearest, best, labels, store.num_broken, broken)


def _check_apart(source: Source, sets: Sequence[EvaluationImages]) -> None:
    """Refuse an evaluation set whose files are training files.

    Raises:
        InputError: names the set and what to do.
    """
    training = {path.resolve() for path in source.files()}
    content = content_fingerprint(source)
    for images in sets:
        shared = next((path for path in images.source.files() if path.resolve() in training), None)
        if shared is not None or (content and content_fingerprint(images.source) == content):
            raise InputError(
                f"{images.name} is part of the training data ({shared or images.path}), so every image overlaps with "
                "itself: name other files, or say that this is meant (--same-data)"
            )


def _claim(config: OverlapConfig, detector: Detector, sets: Sequence[EvaluationImages]) -> None:
    """Write the options into the folder, or compare them with those of its earlier run.

    Raises:
        ConfigError: an option differs; each is named with both values.
        DataError: the folder holds something else.
    """
    path = config.folder / OPTIONS_FILE
    options = {
        "detector": f"{detector.name} {(about(detector.encoder).image_fingerprint or '')[:16]}".strip(),
        "mirrored": detector.mirrored,
        "neighbours": config.neighbours,
        "split": config.split,
    }
    before: Mapping[str, Any] = {}
    if path.exists():
        before = read_object(path)
        _compare(before.get("options", {}), options, config)
    elif config.folder.is_dir() and any(config.folder.iterdir()):
        raise DataError(f"{config.folder} holds something else; choose a new folder (--out)")
    named = {**before.get("sets", {}), **{images.name: str(expanded(images.path).resolve()) for images in sets}}
    train = [str(expanded(path).absolute()) for path in config.train]
    content = {"format": _FORMAT, "options": options, "train": train, "sets": named, "detector": config.detector}
    with writing(path):
        config.folder.mkdir(parents=True, exist_ok=True)
        with new_file(path) as unfinished:
            unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _compare(before: Mapping[str, Any], options: Mapping[str, Any], config: OverlapConfig) -> None:
    differing = [
        f"{name} was {before.get(name)!r} and is now {value!r}"
        for name, value in options.items()
        if before.get(name) != value
    ]
    if differing:
        raise ConfigError(f"cannot continue in {config.out}: {'; '.join(differing)}. Choose another folder (--out).")
