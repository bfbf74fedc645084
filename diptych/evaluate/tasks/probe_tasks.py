"""Measure the linear probe on a set, and ImageNet's probe on the natural shifts of ImageNet.

Source: CLIP paper, section 3.2 and appendix A.3; sections 3.3 for the shifts.
"""

import logging
from collections.abc import Sequence, Set
from typing import Any

import numpy as np

from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.errors import DataError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.card import Card
from diptych.evalsets.cards import has_shifts, home_of, is_paper_set
from diptych.evaluate.class_coverage import classes_shown, joined, note_tested, open_tested
from diptych.evaluate.encoded_set import Encoded, encode_set
from diptych.evaluate.metrics.score import Score, of_repeats, relevance, score
from diptych.evaluate.predictions import predictions_path_of, top_predictions, write_predictions
from diptych.evaluate.probe.probe_cache import Learned, learn_probe
from diptych.evaluate.probe.training_set import note_learned
from diptych.evaluate.scored_results import make_result
from diptych.evaluate.tasks.robustness import (
    check_learned_by_card,
    is_shift_or_home,
    judge,
    pooling,
    shift_results,
    subset_results,
)
from diptych.evaluate.tasks.task import Measurement, Setting, Task, with_classes_of

ADAPTED = "adapted"

_PROTOCOLS = {"features": "features", "embeddings": "projected"}
_log = logging.getLogger(__name__)


def _measure(task: str, encoder: Encoder, card: Card, setting: Setting, kind: str) -> Measurement:
    folds: Sequence[int | None] = _folds(card, setting)
    scores_of_folds, learned, notes = [], [], []
    for fold in folds:
        train = setting.open(card, "train", fold)
        test, images = _test(encoder, train, card, setting, kind, fold)
        notes.append(note_tested(test, images, setting))
        learned.append(learn_probe(encoder, card, setting, kind, fold))
        notes.append(_note_learned(learned[-1], test, classes_shown(images), setting))
        scores = learned[-1].fitted.scores(images.vectors)
        scores_of_folds.append(_score(card, test, images, scores, setting.seed))
    settings = {**learned[0].settings, **joined(*notes)}
    if not is_paper_set(test.name):  # for those, the paper states it
        settings["num_classes"] = len(test.class_names)
    if len(folds) > 1:
        values = [fold_score.value for fold_score in scores_of_folds]
        settings |= {
            name: [probe.settings[name] for probe in learned] for name in ("lambda", "objective", "steps", "excess")
        }
        settings["converged"] = all(probe.settings["converged"] for probe in learned)
        if ends := sorted(
            {probe.settings["search ends at"] for probe in learned if "search ends at" in probe.settings}
        ):
            settings["search ends at"] = ", ".join(ends)
        settings["values"] = values
        scores_of_folds = [of_repeats(values, scores_of_folds[0].n, f"range of {len(values)} folds")]
    if images.num_broken:
        settings["broken"] = images.num_broken
    where = (task, test.name, test.split, card.metric, scores_of_folds[0])
    protocol, fingerprint = _PROTOCOLS[kind], test.fingerprint
    result = make_result(*where, protocol=protocol, encoder=encoder, fingerprint=fingerprint, settings=settings)
    if images.num_broken or setting.predictions is None or card.task == "multi_label":
        return Measurement([result])
    path = predictions_path_of(setting.predictions, result)
    write_predictions(top_predictions(images.keys, images.labels, [scores]), path)
    return Measurement([result], (path,))


def _note_learned(learned: Learned, test: Benchmark, tested: Set[int], setting: Setting) -> dict[str, Any]:
    assert learned.images is not None
    return note_learned(learned.images, test, tested, setting)


def _folds(card: Card, setting: Setting) -> Sequence[int | None]:
    if not card.folds:
        return (None,)
    try:
        setting.open(card, "train", 1)
    except DataError as error:
        _log.warning("%s: the paper's mean over %d folds is not possible: %s", card.title, card.folds, error)
        return (None,)
    return range(1, card.folds + 1)


def _test(
    encoder: Encoder, train: Benchmark, card: Card, setting: Setting, kind: str, fold: int | None = None
) -> tuple[Benchmark, Encoded]:
    """The test split, relabeled with the classes of the training split, and its vectors."""
    test = with_classes_of(train, open_tested(card, setting, fold=fold))
    return test, encode_set(encoder, test, kind, cache=setting.cache, num_workers=setting.num_workers)


def _score(card: Card, test: Benchmark, images: Encoded, scores: np.ndarray, seed: int) -> Score:
    relevant = counted = None
    if card.task == "multi_label":
        relevant, counted = relevance(images.metadata, len(test.class_names))
    return score(card.metric, images.labels, scores, relevant=relevant, counted=counted, seed=seed)


def _measure_imagenet(encoder: Encoder, card: Card, setting: Setting) -> Measurement:
    """Measure ImageNet's probe on a shift, or on the parts of ImageNet that match the shifts."""
    kind = about(encoder).probe_vectors
    train, test = open_tested(home_of(card), setting, "train"), open_tested(card, setting)
    check_learned_by_card(train, test)
    images = encode_set(encoder, test, kind, cache=setting.cache, num_workers=setting.num_workers)
    tested = note_tested(test, images, setting)
    learned = learn_probe(encoder, home_of(card), setting, kind)
    classes = joined(tested, _note_learned(learned, test, classes_shown(images), setting))
    how: dict[str, Any] = {"task": "imagenet_probe", "protocol": ADAPTED}
    if has_shifts(card):
        return Measurement(subset_results(encoder, test, images, learned.fitted.scores, settings=classes, **how))
    judged = judge(images, learned.fitted.scores, pooling(card))
    copied = ("lambda", "train", "validation", "converged", "excess", "search ends at", "deviations")
    settings = {name: learned.settings[name] for name in copied if name in learned.settings} | classes
    return Measurement(shift_results(encoder, test, images, judged, settings=settings, **how))


def _applies(card: Card) -> bool:
    learnable = card.task in ("classification", "multi_label", "video")
    return learnable and card.group != "shift" and card.num_classes > 1 and "train" in card.splits


LINEAR_PROBE = Task(
    name="linear_probe",
    applies=_applies,
    splits=lambda card: ("train", "val", "test"),
    measure=lambda encoder, card, setting: _measure(
        "linear_probe", encoder, card, setting, about(encoder).probe_vectors
    ),
    version=3,  # 2: ties between penalties went to the larger one
    needs_texts=False,
    folds=lambda card: card.folds,
)
"""On features before the projection, protocol "features"; on embeddings if an encoder has no features."""

PROJECTED_PROBE = Task(
    name="projected_probe",
    applies=_applies,
    splits=lambda card: ("train", "val", "test"),
    measure=lambda encoder, card, setting: _measure("projected_probe", encoder, card, setting, "embeddings"),
    version=3,  # 2: ties between penalties went to the larger one
    needs_texts=False,
    folds=lambda card: card.folds,
)
"""The same on embeddings, protocol "projected"."""

IMAGENET_PROBE = Task(
    name="imagenet_probe",
    applies=is_shift_or_home,
    splits=lambda card: ("test",),
    measure=_measure_imagenet,
    version=3,  # 2: ties between penalties went to the larger one
    needs_texts=False,
    others=lambda card: ((home_of(card).name, "train"), (home_of(card).name, "val")),
)
"""ImageNet's probe under natural shifts (figure 14), protocol "adapted"; on ImageNet, "subset" names the shift."""
