"""The natural shifts of ImageNet: one static classifier of 1,000 classes for all, or each set's own class names.

Source: CLIP paper, section 3.3 and appendix E.5; pm-k and the classes that belong together after Taori et al. (2020).
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diptych.embed.about import ranking_scale
from diptych.embed.encoder import Encoder
from diptych.errors import ShapeError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.card import Card
from diptych.evalsets.cards import has_shifts, home_of, subsets_of
from diptych.evalsets.imagenet_classes import shift_classes
from diptych.evalsets.prompts import get_prompts
from diptych.evaluate.class_coverage import note_tested, open_tested
from diptych.evaluate.encoded_set import Encoded, encode_set
from diptych.evaluate.make_result import make_result
from diptych.evaluate.metrics.score import COUNTED, Score
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.evaluate.predictions import has_probabilities, predictions_path_of, top_predictions, write_predictions
from diptych.evaluate.tasks.task import Measurement, Setting, Task, check_classes_of_card
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.evaluate.zero_shot.classifier import zero_shot_logits
from diptych.records import Predictions, Result

NEIGHBOURS = (0, 10)
"""The k of pm-k."""

Scorer = Callable[[np.ndarray], np.ndarray]
"""From vectors (N, D) to class scores (N, C)."""

_log = logging.getLogger(__name__)
_ROWS_PER_BLOCK = 8192


def max_pooled(scores: np.ndarray, classes: Sequence[Sequence[int]]) -> np.ndarray:
    """Scores of a shift's classes out of ImageNet's: the best of those that belong to each.

    Args:
        scores: float (N, 1000).
        classes: of each of C classes, the indices of those that belong to it.
    Returns:
        float (N, C).
    Raises:
        ShapeError: a class has no index, or one that the scores have not.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or any(not own or min(own) < 0 or max(own) >= scores.shape[1] for own in classes):
        raise ShapeError(f"scores {scores.shape} do not have all the classes that are pooled, or a class is empty")
    return np.stack([scores[:, list(own)].max(axis=1) for own in classes], axis=1)


def limited(labels: np.ndarray, classes: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Samples of ImageNet that belong to a shift's classes.

    Args:
        labels: int64 (N,), of ImageNet.
        classes: of each of C classes, the indices of ImageNet's that belong to it.
    Returns:
        rows int64 (M,) among the samples, and their labels int64 (M,) among the C classes.
    """
    owner = {index: number for number, own in enumerate(classes) for index in own}
    new = np.array([owner.get(label, -1) for label in np.asarray(labels).tolist()], np.int64)
    rows = np.flatnonzero(new >= 0)
    return rows, new[rows]


def accuracy_pm_k(right: np.ndarray, anchors: Sequence[Any], offsets: Sequence[int], k: int) -> Score:
    """The share of anchor frames that are right together with all frames up to k away.

    Args:
        right: bool (N,), of each frame.
        anchors: N, which anchor each frame belongs to.
        offsets: N, how many frames after its anchor it lies; 0 is the anchor itself.
        k: 0 counts anchors alone.
    Returns:
        Over anchors, with their Clopper-Pearson interval. An anchor whose own frame is missing does not count; a
        neighbor that is missing, as at the ends of a clip, asks nothing.
    Raises:
        ShapeError: the rows differ in length, or there is no anchor.
    """
    right = np.asarray(right, bool)
    if not len(right) == len(anchors) == len(offsets):
        raise ShapeError(f"{len(right)} frames, {len(anchors)} anchors and {len(offsets)} offsets")
    whole: dict[Any, bool] = {}
    own = {anchor for anchor, offset in zip(anchors, offsets, strict=True) if offset == 0}
    for good, anchor, offset in zip(right.tolist(), anchors, offsets, strict=True):
        if anchor in own and abs(offset) <= k:
            whole[anchor] = whole.get(anchor, True) and good
    if not whole:
        raise ShapeError("none of the frames is an anchor (offset 0)")
    return _counted(sum(whole.values()), len(whole))


def judge(encoded: Encoded, scorer: Scorer, classes: Sequence[Sequence[int]] | None = None) -> Predictions:
    """Classify encoded images, block by block.

    Args:
        encoded: their vectors, which may be mapped from disk, and labels.
        scorer: gives class scores.
        classes: pool the scores into these; None takes them as they are.
    """
    found = map(scorer, _blocks(encoded.vectors))
    pooled = found if classes is None else (max_pooled(scores, classes) for scores in found)
    return top_predictions(encoded.keys, encoded.labels, pooled)


def text_scorer(encoder: Encoder, names: Sequence[Sequence[str]], templates: Sequence[str], setting: Setting) -> Scorer:
    """Zero-shot scores from class names in all templates."""
    cache = setting.classifiers
    made = class_embeddings(encoder, names, templates, cache_folder=cache)
    return vector_scorer(encoder, made)


def vector_scorer(encoder: Encoder, classes: torch.Tensor) -> Scorer:
    """Scores from a vector per class, (C, E) of unit norm: scaled cosines."""
    scale = ranking_scale(encoder)
    return lambda vectors: zero_shot_logits(torch.from_numpy(np.array(vectors)), classes, scale).numpy()


def shift_results(
    encoder: Any,
    benchmark: Benchmark,
    encoded: Encoded,
    judged: Predictions,
    *,
    task: str,
    protocol: str,
    condition: Mapping[str, str | int | float] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[Result]:
    """Accuracy on a shift's images; of videos accuracy_pm_0 and accuracy_pm_10.

    A video's frame may have several valid classes: any of metadata["labels"] is right. Without an anchor in its
    metadata each frame is one.
    """
    first = judged.classes[:, 0].tolist()
    frames = benchmark.card is not None and benchmark.card.has_frames
    valid = [
        (frames and one.get("labels")) or (label,)
        for one, label in zip(encoded.metadata, encoded.labels.tolist(), strict=True)
    ]
    right = np.array([found in several for found, several in zip(first, valid, strict=True)], bool)
    if frames:
        anchors = [one.get("anchor", key) for one, key in zip(encoded.metadata, encoded.keys, strict=True)]
        offsets = [int(one.get("offset", 0)) for one in encoded.metadata]
        ks = NEIGHBOURS if any(offsets) else NEIGHBOURS[:1]
        found = {f"accuracy_pm_{k}": accuracy_pm_k(right, anchors, offsets, k) for k in ks}
    else:
        found = {"accuracy": _counted(int(right.sum()), len(right))}
    if encoded.num_broken:
        settings = {**(settings or {}), "broken": encoded.num_broken}
    return [
        make_result(
            *(task, benchmark.name, benchmark.split, name, one),
            protocol=protocol,
            condition=condition,
            encoder=encoder,
            fingerprint=benchmark.fingerprint,
            settings=settings,
        )
        for name, one in found.items()
    ]


def subset_results(
    encoder: Any,
    benchmark: Benchmark,
    encoded: Encoded,
    scorer: Scorer,
    *,
    task: str,
    protocol: str,
    condition: Mapping[str, str | int | float] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[Result]:
    """Accuracy on the images of a set that belong to the classes of each of its shifts with some of them.

    A shift with a class that the set's names do not tell from another one is left out.

    Args:
        benchmark: ImageNet, whose card says so.
        scorer: of ImageNet's 1,000 classes.
    Returns:
        Results whose condition has the shift as its "subset".
    """
    unsure = {label for label, _ in benchmark.unsure}
    subsets = subsets_of(benchmark.card) if benchmark.card else ()
    pooled = {name: shift_classes(name) for name in subsets if unsure.isdisjoint(chain(*shift_classes(name)))}
    if left_out := [name for name in subsets if name not in pooled]:
        names = ", ".join(dict.fromkeys(repr(benchmark.class_names[label]) for label in sorted(unsure)))
        _log.warning("%s: no numbers on the classes of %s: %s names several", benchmark.name, left_out, names)
    right, seen = dict.fromkeys(subsets, 0), dict.fromkeys(subsets, 0)
    start = 0
    for block in _blocks(encoded.vectors):
        scores = scorer(block)
        for name, classes in pooled.items():
            rows, labels = limited(encoded.labels[start : start + len(block)], classes)
            if len(rows):
                right[name] += int((max_pooled(scores[rows], classes).argmax(axis=1) == labels).sum())
                seen[name] += len(rows)
        start += len(block)
    where, fingerprint = (benchmark.name, benchmark.split, "accuracy"), benchmark.fingerprint
    return [
        make_result(
            task,
            *where,
            _counted(right[name], seen[name]),
            protocol=protocol,
            condition={**(condition or {}), "subset": name},
            encoder=encoder,
            fingerprint=fingerprint,
            settings=settings,
        )
        for name in subsets
        if seen[name]
    ]


def _measure(encoder: Encoder, card: Card, setting: Setting) -> Measurement:
    benchmark = open_tested(card, setting)
    check_classes_of_card(benchmark)
    encoded = encode_set(encoder, benchmark, cache=setting.cache, num_workers=setting.num_workers)
    settings = note_tested(benchmark, encoded, setting)
    home = home_of(card)
    words = get_prompts(home.prompts or home.name)
    static = text_scorer(encoder, words.class_names, words.templates, setting)
    how: dict[str, Any] = {"task": "robustness", "protocol": "ensemble", "settings": settings}
    if has_shifts(card):
        condition = {"classifier": "static"}
        return Measurement(subset_results(encoder, benchmark, encoded, static, condition=condition, **how))
    judged = {"static": judge(encoded, static, pooling(card))}
    if card.has_own_names:
        names = benchmark.names or tuple((name,) for name in benchmark.class_names)
        judged["adaptive"] = judge(encoded, text_scorer(encoder, names, words.templates, setting))
    results: list[Result] = []
    paths: list[Path] = []
    for classifier, one in judged.items():
        found = shift_results(encoder, benchmark, encoded, one, condition={"classifier": classifier}, **how)
        results += found
        if setting.predictions is not None and has_probabilities(encoder):
            paths.append(predictions_path_of(setting.predictions, found[0]))
            write_predictions(one, paths[-1])
    return Measurement(results, tuple(paths))


def check_learned_by_card(train: Benchmark, test: Benchmark) -> None:
    """What learned on ImageNet is measured by ImageNet's classes: of both sets they must be known.

    Classes of one name must be told apart where a shift has one of them; two splits of one copy may take them for one
    another together.

    Raises:
        DataError: they are not known.
    """
    pooled = pooling(test.card)
    together = train.unsure == test.unsure and train.name == test.name
    needed = () if together else range(1000) if pooled is None else tuple(chain(*pooled))
    check_classes_of_card(train, needed)
    check_classes_of_card(test, needed)


def pooling(card: Card | None) -> tuple[tuple[int, ...], ...] | None:
    """What to pool the scores of ImageNet's 1,000 classes into; None for a set with all of these, or no shift."""
    return shift_classes(card.name) if card is not None and card.is_subset else None


def is_shift_or_home(card: Card) -> bool:
    """Whether a set is a natural shift, or has some."""
    return card.shift_of is not None or has_shifts(card)


def _blocks(vectors: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(vectors), _ROWS_PER_BLOCK):
        yield np.asarray(vectors[start : start + _ROWS_PER_BLOCK])


def _counted(right: int, n: int) -> Score:
    return Score(right / n, n, *clopper_pearson(right, n), COUNTED)


ROBUSTNESS = Task(
    name="robustness",
    applies=is_shift_or_home,
    splits=lambda card: ("test",),
    measure=_measure,
)
"""Zero-shot on the shifts, and on the parts of ImageNet that match them: condition["classifier"] is "static", of
ImageNet's 1,000 classes, or "adaptive", of the shift's own. Where these are ImageNet's own the two are one, "static".
"""
