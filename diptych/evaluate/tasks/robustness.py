"""The natural shifts of ImageNet: one static classifier of 1,000 classes, or each set's own class names.

Source: CLIP paper, section 3.3 and appendix E.5; pm-k and the class mappings after Taori et al. (2020).
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
from diptych.evaluate.metrics.score import COUNTED, Score
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.evaluate.predictions import has_probabilities, predictions_path_of, top_predictions, write_predictions
from diptych.evaluate.scored_results import make_result
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
    """Pool ImageNet's class scores into a shift's classes: the maximum over the classes that belong to each.

    Args:
        scores: float (N, 1000).
        classes: for each of C classes, the indices of ImageNet's classes that belong to it.
    Returns:
        float (N, C).
    Raises:
        ShapeError: a class has no index, or an index outside the scores.
    """
    scores = np.asarray(scores)
    if scores.ndim != 2 or any(
        not indices or min(indices) < 0 or max(indices) >= scores.shape[1] for indices in classes
    ):
        raise ShapeError(f"scores {scores.shape} do not have all the classes that are pooled, or a class is empty")
    return np.stack([scores[:, list(indices)].max(axis=1) for indices in classes], axis=1)


def limited(labels: np.ndarray, classes: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Select the ImageNet samples that belong to a shift's classes.

    Args:
        labels: int64 (N,), ImageNet's labels.
        classes: for each of C classes, the indices of ImageNet's classes that belong to it.
    Returns:
        The rows of the selected samples, int64 (M,), and their labels among the C classes, int64 (M,).
    """
    class_of_label = {index: number for number, indices in enumerate(classes) for index in indices}
    shift_labels = np.array([class_of_label.get(label, -1) for label in np.asarray(labels).tolist()], np.int64)
    rows = np.flatnonzero(shift_labels >= 0)
    return rows, shift_labels[rows]


def accuracy_pm_k(right: np.ndarray, anchors: Sequence[Any], offsets: Sequence[int], k: int) -> Score:
    """The share of anchor frames for which all frames up to k away are classified correctly.

    Args:
        right: bool (N,), whether each frame is classified correctly.
        anchors: N anchors, one per frame.
        offsets: N offsets of the frames from their anchors; 0 for the anchor itself.
        k: largest distance from the anchor; 0 counts only the anchors.
    Returns:
        The share of anchors, with its Clopper-Pearson interval. An anchor whose own frame is missing does not count; a
        missing neighbor, as at the ends of a clip, is ignored.
    Raises:
        ShapeError: the arguments differ in length, or there is no anchor.
    """
    right = np.asarray(right, bool)
    if not len(right) == len(anchors) == len(offsets):
        raise ShapeError(f"{len(right)} frames, {len(anchors)} anchors and {len(offsets)} offsets")
    all_right: dict[Any, bool] = {}
    present = {anchor for anchor, offset in zip(anchors, offsets, strict=True) if offset == 0}
    for is_right, anchor, offset in zip(right.tolist(), anchors, offsets, strict=True):
        if anchor in present and abs(offset) <= k:
            all_right[anchor] = all_right.get(anchor, True) and is_right
    if not all_right:
        raise ShapeError("none of the frames is an anchor (offset 0)")
    return _counted(sum(all_right.values()), len(all_right))


def judge(encoded: Encoded, scorer: Scorer, classes: Sequence[Sequence[int]] | None = None) -> Predictions:
    """Classify encoded images block by block.

    Args:
        encoded: their vectors, which may be memory-mapped, and labels.
        scorer: computes class scores.
        classes: pool the scores into these classes; None does not pool.
    """
    scores_of_blocks = map(scorer, _blocks(encoded.vectors))
    pooled = scores_of_blocks if classes is None else (max_pooled(scores, classes) for scores in scores_of_blocks)
    return top_predictions(encoded.keys, encoded.labels, pooled)


def text_scorer(encoder: Encoder, names: Sequence[Sequence[str]], templates: Sequence[str], setting: Setting) -> Scorer:
    """Zero-shot scores from class names in all templates."""
    cache = setting.classifiers
    embeddings = class_embeddings(encoder, names, templates, cache_folder=cache)
    return vector_scorer(encoder, embeddings)


def vector_scorer(encoder: Encoder, classes: torch.Tensor) -> Scorer:
    """Scaled cosine scores with one vector of unit norm per class, (C, E)."""
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
    """Accuracy on a shift's images; for videos, accuracy_pm_0 and accuracy_pm_10.

    A video frame may have several valid classes: any of metadata["labels"] is correct. A frame without an anchor in its
    metadata is its own anchor.
    """
    first = judged.classes[:, 0].tolist()
    frames = benchmark.card is not None and benchmark.card.has_frames
    valid = [
        (frames and facts.get("labels")) or (label,)
        for facts, label in zip(encoded.metadata, encoded.labels.tolist(), strict=True)
    ]
    right = np.array([predicted in labels for predicted, labels in zip(first, valid, strict=True)], bool)
    if frames:
        anchors = [facts.get("anchor", key) for facts, key in zip(encoded.metadata, encoded.keys, strict=True)]
        offsets = [int(facts.get("offset", 0)) for facts in encoded.metadata]
        ks = NEIGHBOURS if any(offsets) else NEIGHBOURS[:1]
        accuracies = {f"accuracy_pm_{k}": accuracy_pm_k(right, anchors, offsets, k) for k in ks}
    else:
        accuracies = {"accuracy": _counted(int(right.sum()), len(right))}
    if encoded.num_broken:
        settings = {**(settings or {}), "broken": encoded.num_broken}
    return [
        make_result(
            *(task, benchmark.name, benchmark.split, name, accuracy),
            protocol=protocol,
            condition=condition,
            encoder=encoder,
            fingerprint=benchmark.fingerprint,
            settings=settings,
        )
        for name, accuracy in accuracies.items()
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
    """Accuracy on the images of ImageNet that match the classes of each shift with fewer classes.

    A shift is left out if the set's class names do not identify one of its classes.

    Args:
        benchmark: ImageNet, with its card.
        scorer: computes scores of ImageNet's 1,000 classes.
    Returns:
        Results with the shift as "subset" in their condition.
    """
    ambiguous = {label for label, _ in benchmark.ambiguous}
    subsets = subsets_of(benchmark.card) if benchmark.card else ()
    pooled = {name: shift_classes(name) for name in subsets if ambiguous.isdisjoint(chain(*shift_classes(name)))}
    if left_out := [name for name in subsets if name not in pooled]:
        names = ", ".join(dict.fromkeys(repr(benchmark.class_names[label]) for label in sorted(ambiguous)))
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
    for classifier, predictions in judged.items():
        measured = shift_results(encoder, benchmark, encoded, predictions, condition={"classifier": classifier}, **how)
        results += measured
        if setting.predictions is not None and has_probabilities(encoder):
            paths.append(predictions_path_of(setting.predictions, measured[0]))
            write_predictions(predictions, paths[-1])
    return Measurement(results, tuple(paths))


def check_learned_by_card(train: Benchmark, test: Benchmark) -> None:
    """Check that the classes of both sets are known to be ImageNet's, as a classifier learned on ImageNet requires.

    ImageNet classes with the same name must be distinguishable if the shift has one of them. Two splits of one copy are
    accepted if they confuse them in the same way.

    Raises:
        DataError: the classes are not known.
    """
    pooled = pooling(test.card)
    together = train.ambiguous == test.ambiguous and train.name == test.name
    needed = () if together else range(1000) if pooled is None else tuple(chain(*pooled))
    check_classes_of_card(train, needed)
    check_classes_of_card(test, needed)


def pooling(card: Card | None) -> tuple[tuple[int, ...], ...] | None:
    """The classes to pool ImageNet's 1,000 scores into; None for a set with all 1,000 classes, or no shift."""
    return shift_classes(card.name) if card is not None and card.is_subset else None


def is_shift_or_home(card: Card) -> bool:
    """Whether a set is a natural shift, or has natural shifts."""
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
"""Zero-shot on the shifts, and on the matching parts of ImageNet. condition["classifier"] is "static" for the 1,000
classes of ImageNet, or "adaptive" for the shift's own class names; if these are ImageNet's, only "static" is measured.
"""
