"""The folder of an overlap analysis, as a review reads it: pairs from duplicates.parquet, images from the data."""

import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from diptych.data.open_source import open_source
from diptych.data.source import Source
from diptych.errors import DataError
from diptych.files import expanded
from diptych.overlap.choices_file import Choices, read_choices
from diptych.overlap.detection_error import PART_LEVEL, Rate
from diptych.overlap.duplicates_file import EXACT_CHECK, SetNearest, read_duplicates
from diptych.overlap.evaluation_images import open_evaluation_images
from diptych.overlap.find import OPTIONS_FILE, read_options
from diptych.overlap.judgements import Decision, Identity, Pair, merge_judgements, read_judgements
from diptych.overlap.review_plan import Side, choose_threshold
from diptych.overlap.thresholds import GIVEN, JUDGED, Threshold

ENOUGH = 20
"""Judged pairs of a set from which on they choose its threshold; fewer leave the provisional one."""
_IMAGES_KEPT = 512
_log = logging.getLogger(__name__)


class ReviewFolder:
    """The pairs and images of an analysis; implements ReviewData.

    Attributes:
        folder: for the judgements.
        datasets: names of the searched sets.
    """

    def __init__(self, folder: str | Path) -> None:
        """Open the folder.

        Raises:
            DataError: no analysis is there, or a file is damaged.
        """
        self._out = expanded(folder)
        if not (self._out / OPTIONS_FILE).is_file():
            raise DataError(f"{self._out} holds no overlap analysis: run diptych overlap first, with this --out")
        self._options = read_options(self._out)
        duplicates = read_duplicates(self._out / "duplicates.parquet")
        self.folder = folder_of_judgements(self._out, duplicates.scored_by)
        self._sets = {nearest.dataset: nearest for nearest in duplicates.sets}
        self.datasets: Sequence[str] = tuple(self._sets)
        self._image = functools.lru_cache(_IMAGES_KEPT)(self._read)  # a shard is read for each image

    def pairs(self, dataset: str) -> Sequence[Pair]:
        """Each evaluation image of the set with its nearest training image."""
        return pairs_of(self._sets[dataset])

    def image(self, side: Side, dataset: str, key: str) -> bytes | np.ndarray | None:
        """The encoded image, or its pixels; None if it is missing."""
        return self._image(side, dataset, key)

    def _read(self, side: Side, dataset: str, key: str) -> bytes | np.ndarray | None:
        source = self._training if side == "training" else self._evaluation(dataset)
        sample = source.get(key)
        return None if sample is None else sample.image

    @functools.cached_property
    def _training(self) -> Source:
        return open_source(self._options.train)

    @functools.cache  # noqa: B019  (a review has one folder)
    def _evaluation(self, dataset: str) -> Source:
        if dataset not in self._options.sets:
            raise DataError(f"{self._out / OPTIONS_FILE} names no folder of the set {dataset}: search it again")
        return open_evaluation_images(self._options.sets[dataset], self._options.split).source


def folder_of_judgements(out: Path, scored_by: str) -> Path:
    """Where the judgements of an analysis lie: in `judgements/` of OUT, or of OUT/checks after an exact check.

    Pairs to judge are drawn by score. Among other scores they are no random sample, so each kind has its own.
    """
    return out / "checks" if scored_by == EXACT_CHECK else out


def pairs_of(nearest: SetNearest) -> list[Pair]:
    """A set's images with their nearest training images."""
    rows = zip(nearest.keys, nearest.nearest_keys, nearest.scores.tolist(), strict=True)
    return [Pair(nearest.dataset, key, nearest_key, score) for key, nearest_key, score in rows]


def judged_thresholds(
    out: Path, sets: Sequence[SetNearest], scored_by: str, choices: str | Path | None = None
) -> dict[str, Threshold]:
    """The thresholds that reviewers chose, by set; sets of which too few pairs were judged are left out.

    Args:
        out: folder of the analysis; several reviewers' decisions are merged.
        sets: the searched sets.
        scored_by: what gave their scores, COSINE or EXACT_CHECK.
        choices: a file of decisions or thresholds that were made elsewhere (choices_file.py). Its decisions replace
            those of the folder about the same pairs.
    Raises:
        DataError: a file is damaged.
    """
    decisions: dict[Identity, Decision] = merge_judgements(read_judgements(folder_of_judgements(out, scored_by)))
    given: Mapping[str, float] = {}
    if choices is not None:
        read = read_choices(choices)
        decisions, given = {**decisions, **read.decisions}, read.thresholds
        _warn_of_unknown(choices, read, sets)
    thresholds = {}
    for nearest in sets:
        pairs = pairs_of(nearest)
        num_judged = sum(pair.identity in decisions for pair in pairs)
        if nearest.dataset in given:
            thresholds[nearest.dataset] = Threshold(given[nearest.dataset], GIVEN)
        elif 0 < num_judged < (least := min(ENOUGH, len(pairs))):
            _log.warning("%s: %d pairs were judged; a threshold needs %d", nearest.dataset, num_judged, least)
        elif num_judged:
            choice = choose_threshold(pairs, decisions, level=PART_LEVEL)
            precision = Rate(choice.precision, choice.precision_low, choice.precision_high)
            recall = Rate(choice.recall, choice.recall_low, choice.recall_high)
            thresholds[nearest.dataset] = Threshold(choice.threshold, JUDGED, precision, recall, choice.num_judged)
    return thresholds


def _warn_of_unknown(path: str | Path, choices: Choices, sets: Sequence[SetNearest]) -> None:
    names = {nearest.dataset for nearest in sets}
    identities = {pair.identity for nearest in sets for pair in pairs_of(nearest)}
    if unknown := sorted({*choices.thresholds} - names):
        _log.warning("%s: a threshold is for %s, which is none of the sets %s", path, unknown[0], sorted(names))
    if missing := [identity for identity in choices.decisions if identity not in identities]:
        words = "%s: %d decisions are about other pairs than those found, the first about %s and %s"
        _log.warning(words, path, len(missing), *missing[0][1:])
