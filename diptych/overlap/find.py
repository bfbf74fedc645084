"""Find the training image that is most similar to each evaluation image: embed both sides, and search.

    OUT/overlap.json            the options, and what was searched
    OUT/train/                  the index of the training images (training_index.py)
    OUT/sets/NAME/VIEW/         the embeddings of an evaluation set in each view of the detector
    OUT/search/NAME/GENERATION/ the finished parts of its search (search_parts.py)
    OUT/checks/NAME.jsonl       its checked pairs (checked_pairs.py)

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
from diptych.overlap.approximate import Approximate, ApproximateIndex, approximate_neighbours, build_index
from diptych.overlap.checked_pairs import LEAST_COSINES, check_neighbours
from diptych.overlap.detector import DEFAULT, Detector, load_detector
from diptych.overlap.duplicates_file import SetNearest, check_unique
from diptych.overlap.evaluation_images import EvaluationImages, Views, embed_views, open_evaluation_images
from diptych.overlap.image_views import USUAL_VIEWS
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
        sets: evaluation sets: folders, as `diptych evaluate` takes them, or any images that training takes. Without
            one, the training data is only embedded, which suffices to remove its inner duplicates.
        out: folder of the index, the search and the report.
        detector: as `load_detector` takes it.
        views: views in which each evaluation image is searched (image_views.py).
        neighbours: training images kept per evaluation image.
        approximate: search in an approximate index (approximate.py), whose recall is measured; it stays in memory.
        exact_check: check these neighbours exactly; the score of an image is then that of the check.
        split: the split of the evaluation sets.
        num_workers: processes that decode images. num_processes: processes that embed and search, on the CPU.
        same_data: the training data may hold the files of an evaluation set.
    """

    train: tuple[str, ...]
    sets: tuple[str, ...]
    out: str
    detector: str = DEFAULT
    views: tuple[str, ...] = USUAL_VIEWS
    neighbours: int = 5
    approximate: bool = False
    exact_check: bool = False
    split: str = "test"
    num_workers: int = 1
    num_processes: int = 1
    same_data: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.train, str) or isinstance(self.sets, str):
            raise ConfigError("train and sets are sequences of paths: write (path,) for one")
        if not self.train:
            raise ConfigError("name the training data (--train)")
        if self.neighbours < 1:
            raise ConfigError(f"neighbours is {self.neighbours}; it must be at least 1")

    @property
    def folder(self) -> Path:
        """`out`, with a leading ~ expanded."""
        return expanded(self.out)


@dataclasses.dataclass(frozen=True)
class FolderOptions:
    """What a folder's overlap.json contains.

    Attributes:
        options: those that every run in the folder must have.
        train: the training data, as `open_source` takes it.
        sets: by name of an evaluation set, its folder.
    """

    options: Mapping[str, Any]
    train: tuple[str, ...]
    sets: Mapping[str, str]

    @property
    def split(self) -> str:
        """The split of the evaluation sets."""
        return str(self.options["split"])


def read_options(folder: Path) -> FolderOptions:
    """Read a folder's overlap.json.

    Raises:
        DataError: it is missing or damaged, or another version of Diptych wrote it.
    """
    path = folder / OPTIONS_FILE
    content = read_object(path)
    if (written := content.get("format")) != _FORMAT:
        raise DataError(
            f"{path} has the format {written!r:.40}, and this version reads {_FORMAT}: choose another --out"
        )
    options, train, sets = (content.get(name) for name in ("options", "train", "sets"))
    if (
        not isinstance(options, dict)
        or not isinstance(train, list)
        or not isinstance(sets, dict)
        or not all(isinstance(text, str) for text in (options.get("split"), *train, *sets.values()))
    ):
        raise DataError(
            f"{path} is damaged: options, train and sets must be an object with the split, a list of paths and an "
            "object of paths; restore a copy, or start again in another folder"
        )
    return FolderOptions(options, tuple(train), sets)


@dataclasses.dataclass(frozen=True, eq=False)
class FoundSet:
    """One evaluation set, searched.

    Attributes:
        images: the set.
        nearest: the most similar training image of each of its images, by the exact check if there was one.
        nearest_rows: int64 (N,), its rows in the index.
        neighbours: the rows in the index and the cosines of the `neighbours` best.
        labels: int64 (N,), the class of each image; NO_LABEL if it has none.
        num_broken: images that could not be embedded.
        broken: the reasons of the first of them, by key.
        approximate: the approximate search with its measured recall; None after an exact one.
    """

    images: EvaluationImages
    nearest: SetNearest
    nearest_rows: np.ndarray
    neighbours: Neighbours
    labels: np.ndarray
    num_broken: int
    broken: Mapping[str, str]
    approximate: Approximate | None = None


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
    detector = detector or load_detector(config.detector, views=config.views)
    options = _claim(config, detector, sets)
    index = update_index(
        source,
        detector.encoder,
        config.folder / "train",
        num_workers=config.num_workers,
        num_processes=config.num_processes,
    )
    if not len(index):
        raise DataError(f"no image of {', '.join(config.train)} could be read; the log names the first broken ones")
    lists = build_index(index.store) if config.approximate and sets else None
    found = tuple(_find(images, index, lists, detector, config) for images in sets)
    _write_options(config.folder, options)  # only now: a refused set must not stay in the folder's list
    return Found(config, detector, index, found)


def _find(
    images: EvaluationImages,
    index: TrainingIndex,
    lists: ApproximateIndex | None,
    detector: Detector,
    config: OverlapConfig,
) -> FoundSet:
    views = embed_views(images, detector, config.folder / "sets" / images.name, num_workers=config.num_workers)
    if not views.keys:
        raise DataError(f"no image of {images.path} could be read; the log names the first broken ones")
    approximate = None
    if lists is not None:
        approximate = approximate_neighbours(views.vectors, index.store, config.neighbours, index=lists)
    best = approximate.neighbours if approximate else _search(images.name, views, index, config)
    decided = best
    if config.exact_check:
        least = LEAST_COSINES.get(config.detector, -1.0)
        decided = check_neighbours(
            images, views.keys, index, best, config.folder, least=least, num_processes=config.num_processes
        )
    rows, store = decided.rows[:, 0], views.stores[0]
    nearest = SetNearest(images.name, views.keys, tuple(index.store.keys(rows)), decided.scores[:, 0])
    labels, broken = store.labels(np.arange(len(store))), broken_samples([store], BROKEN_NAMED)
    return FoundSet(images, nearest, rows, best, labels, store.num_broken, broken, approximate)


def _search(name: str, views: Views, index: TrainingIndex, config: OverlapConfig) -> Neighbours:
    """The exact search, generation by generation of the index."""
    parts = []
    for number, (store, start) in enumerate(zip(index.stores, index.starts.tolist(), strict=False)):
        folder = config.folder / "search" / name / f"{number:03d}"
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        found = search_store(views.vectors, store, folder, k=config.neighbours, num_processes=config.num_processes)
        parts.append(Neighbours(found.rows + start, found.scores))
    return best_of([part for part in parts if part.rows.shape[1]], config.neighbours)


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


def _claim(config: OverlapConfig, detector: Detector, sets: Sequence[EvaluationImages]) -> dict[str, Any]:
    """Write the options into a new folder, or compare them with those of its earlier run.

    Returns:
        The content of the file for when the search is done.
    Raises:
        ConfigError: an option differs; each is named with both values.
        DataError: the folder holds something else.
    """
    path = config.folder / OPTIONS_FILE
    options = {
        "detector": f"{detector.name} {(about(detector.encoder).image_fingerprint or '')[:16]}".strip(),
        "views": list(detector.views),
        "neighbours": config.neighbours,
        "split": config.split,
    }
    earlier: Mapping[str, str] = {}
    is_new = not path.exists()
    if not is_new:
        before = read_options(config.folder)
        _compare(before.options, options, config)
        earlier = before.sets
    elif config.folder.is_dir() and any(config.folder.iterdir()):
        raise DataError(f"{config.folder} holds something else; choose a new folder (--out)")
    named = {**earlier, **{images.name: str(expanded(images.path).resolve()) for images in sets}}
    train = [str(expanded(path).absolute()) for path in config.train]
    content = {"format": _FORMAT, "options": options, "train": train, "sets": named, "detector": config.detector}
    if is_new:
        _write_options(config.folder, content)
    return content


def _write_options(folder: Path, content: Mapping[str, Any]) -> None:
    path = folder / OPTIONS_FILE
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
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
