"""The exact check as the second step of a search: the detector proposes pairs, the check decides.

    OUT/checks/NAME.jsonl    a row for each checked pair of the set NAME: key, nearest_key, score, check

A cosine says how alike two images look, and strangers may look alike; the check finds out whether one lies over the
other (exact_check.py). It takes about 0.04 s a pair, so only the nearest training images of an evaluation image are
checked, and of these only those whose cosine is not hopeless. Rows are kept: no pair is checked twice.
"""

import dataclasses
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from diptych.data.source import Source
from diptych.embed.executor import map_shards
from diptych.embed.neighbours import Neighbours
from diptych.errors import DataError, ImageError
from diptych.files import locked, writing
from diptych.overlap.evaluation_images import EvaluationImages
from diptych.overlap.exact_check import VERSION, check_gray, gray_image
from diptych.overlap.training_index import TrainingIndex
from diptych.progress import progress_bar
from diptych.records import Sample

UNCHECKED = 0.0
"""The score of an image without a checked pair; different photographs have scores around it, too."""
LEAST_COSINES = {"default": 0.5}
"""Cosine from which on a pair is worth checking, by detector."""
_BLOCK = 8192  # evaluation images in memory at a time, of 37 kB at most
_TASK = 64  # pairs that a process checks before it reports; so many are lost by a kill

Pairs = Mapping[tuple[str, str], int]
"""The shard of the training image, by (key, nearest_key)."""


def check_neighbours(
    images: EvaluationImages,
    keys: Sequence[str],
    index: TrainingIndex,
    found: Neighbours,
    folder: Path,
    *,
    least: float = -1.0,
    num_processes: int = 1,
) -> Neighbours:
    """Check each evaluation image against its nearest training images. Call it again to resume.

    Args:
        images: the set. keys: N keys of its images.
        index: the training images.
        found: rows (N, K) in the index and cosines (N, K), best first.
        folder: of the analysis.
        least: pairs below this cosine are not checked.
        num_processes: processes that check; they do not change the result.
    Returns:
        rows (N, 1) and scores (N, 1): the training image with the highest score of the check, and that score; the
        nearest one and UNCHECKED if no pair was checked.
    Raises:
        ConfigError: OpenCV is not installed.
        DataError: the file of checks is damaged, is used by another process, or cannot be written.
    """
    places, ranks = np.nonzero(found.scores >= np.float32(least))
    rows = found.rows[places, ranks]
    pairs = list(zip([keys[place] for place in places.tolist()], index.store.keys(rows), strict=True))
    shards = index.source_shards(rows).tolist()
    path = checks_of(folder, images.name)
    checked = check_pairs(dict(zip(pairs, shards, strict=True)), images.source, index.source, path, num_processes)
    scores, best = np.full(len(keys), -np.inf, np.float32), found.rows[:, 0].copy()
    for place, row, pair in zip(places, rows, pairs, strict=True):
        if checked[pair] > scores[place]:  # of equal scores that of the nearer image
            scores[place], best[place] = checked[pair], row
    scores[np.isneginf(scores)] = UNCHECKED
    return Neighbours(best[:, None], scores[:, None])


def checks_of(folder: Path, dataset: str) -> Path:
    """The file of a set's checked pairs in the folder of an analysis."""
    return folder / "checks" / f"{dataset}.jsonl"


def check_pairs(
    pairs: Pairs, source: Source, training: Source, path: Path, num_processes: int = 1
) -> dict[tuple[str, str], float]:
    """The check's score of each pair; pairs that an earlier call checked are not checked again.

    Args:
        pairs: pairs of an evaluation image and a training image, with the latter's shard of `training`.
        source: the evaluation images. training: the training images.
        path: file of the checked pairs; created if it is missing.
        num_processes: processes that check.
    Raises:
        ConfigError: OpenCV is not installed.
        DataError: the file of checks is damaged, is used by another process, or cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path, patience=0) as file:
            checked = _read(path, file)
            pending = {pair: shard for pair, shard in pairs.items() if pair not in checked}
            results = _check_all(pending, source, training, num_processes)
            for rows in progress_bar(results, "check (pairs)", len(pending), len):
                _append(file, rows)
                checked.update(rows)
    return {pair: checked[pair] for pair in pairs}


def _check_all(
    pending: Pairs, source: Source, training: Source, num_processes: int
) -> Iterator[dict[tuple[str, str], float]]:
    """The scores of some pairs at a time: block by block of evaluation images, task by task of training images."""
    keys = list(dict.fromkeys(key for key, _ in pending))
    for start in range(0, len(keys), _BLOCK):
        block = set(keys[start : start + _BLOCK])
        by_shard: dict[int, list[tuple[str, str]]] = {}
        for pair, shard in pending.items():
            if pair[0] in block:
                by_shard.setdefault(shard, []).append(pair)
        tasks = [
            (shard, of_shard[first : first + _TASK])
            for shard, of_shard in sorted(by_shard.items())
            for first in range(0, len(of_shard), _TASK)
        ]
        check = _CheckTask(_gray_images(source.get_all(block), block), training)
        for _, rows in map_shards(check, tasks, num_processes=num_processes):
            yield rows


@dataclasses.dataclass(frozen=True, eq=False)
class _CheckTask:
    """Checks pairs whose training images are in one shard. The executor passes it to its processes.

    An image that can no longer be decoded gets UNCHECKED.
    """

    evaluation: Mapping[str, np.ndarray]
    training: Source

    def __call__(self, task: tuple[int, Sequence[tuple[str, str]]]) -> dict[tuple[str, str], float]:
        shard, pairs = task
        wanted = {nearest for _, nearest in pairs}
        of_shard = (item for item in self.training.read(shard) if isinstance(item, Sample))
        references = _gray_images(of_shard, wanted)
        return {
            (key, nearest): check_gray(self.evaluation[key], references[nearest]).score
            if key in self.evaluation and nearest in references
            else UNCHECKED
            for key, nearest in pairs
        }


def _gray_images(samples: Iterator[Sample], keys: Collection[str]) -> dict[str, np.ndarray]:
    """The images of some keys as the check uses them; of two with one key, the first."""
    found: dict[str, np.ndarray] = {}
    for sample in samples:
        if sample.key in keys and sample.key not in found:
            try:
                found[sample.key] = gray_image(sample.image)
            except ImageError:
                continue
            if len(found) == len(keys):
                break
    return found


def _append(file: IO[bytes], rows: Mapping[tuple[str, str], float]) -> None:
    lines = [
        json.dumps({"key": key, "nearest_key": nearest, "score": score, "check": VERSION})
        for (key, nearest), score in rows.items()
    ]
    content = "".join(f"{line}\n" for line in lines).encode()
    if file.write(content) != len(content):
        raise OSError("the disk took only a part of the rows")


def _read(path: Path, file: IO[bytes]) -> dict[tuple[str, str], float]:
    """The scores that this version of the check gave.

    An incomplete last row, which a killed process leaves, is cut off.
    """
    file.seek(0)
    content = file.read()
    end = content.rfind(b"\n") + 1
    if end != len(content):
        file.truncate(end)
    file.seek(0, os.SEEK_END)
    checked: dict[tuple[str, str], float] = {}
    for number, line in enumerate(content[:end].splitlines(), 1):
        try:
            row = json.loads(line)
            if row["check"] == VERSION:
                checked[str(row["key"]), str(row["nearest_key"])] = float(row["score"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{path}, line {number} is no checked pair ({error}); delete the file") from error
    return checked
