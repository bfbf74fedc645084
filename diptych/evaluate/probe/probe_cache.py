"""Learn a probe on a set's training and validation images, and cache it on disk."""

import dataclasses
import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from diptych.embed.about import about
from diptych.embed.encoder import Encoder
from diptych.errors import InputError
from diptych.evalsets.card import Card
from diptych.evaluate.encoded_set import Encoded
from diptych.evaluate.metrics.score import relevance
from diptych.evaluate.probe.linear_probe import LinearProbe
from diptych.evaluate.probe.logistic import Fitted
from diptych.evaluate.probe.training_set import HELD_OUT, TrainingSet, open_training_set
from diptych.evaluate.tasks.few_shot_tasks import point
from diptych.evaluate.tasks.task import Setting
from diptych.files import read_or_none, write_whole

VERSION = 3
"""Increased whenever the same vectors would give another classifier."""

_MOST_BESIDE = 1 << 20  # largest number of bytes in a cache file apart from the tensors
_NEVER = -1e9  # the score of a class without a training image
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Learned:
    """A linear classifier of all classes of a set, and how it was made.

    Attributes:
        fitted: weights (C, D) and bias (C,) in the order of the set's classes.
        settings: {"lambda", "validation", "train", "fits", "objective", "steps"}, for the Results.
        images: the images that it was learned from.
    """

    fitted: Fitted
    settings: dict[str, Any]
    images: TrainingSet | None = None


def learn_probe(encoder: Encoder, card: Card, setting: Setting, kind: str, fold: int | None = None) -> Learned:
    """Search the penalty on the validation split, or on a fifth of train if there is none; then fit both together.

    Args:
        encoder: encodes the images.
        card: the card of the set; its metric on validation images selects the penalty.
        setting: the folders of the sets and of the cache; its seed decides which images are held out.
        kind: "features" or "embeddings".
        fold: number of the fold, for sets with several folds.
    Raises:
        DataError: the set is missing.
        InputError: a probe cannot be learned, for example from one class only.
    """
    images = open_training_set(encoder, card, setting, kind, fold)
    for deviation in images.deviations():
        _log.warning("%s: %s", card.title, deviation)
    path = _path(encoder, images, setting)
    shape = (images.num_classes, images.train.vectors.shape[1])
    learned = None if path is None else read_or_none(path, lambda kept: _read(kept, shape), "the kept probe")
    if learned is None:
        learned = _learn(images, setting.seed)
        if path is not None:
            _write(learned, path)
    return dataclasses.replace(learned, images=images)


def _learn(images: TrainingSet, seed: int) -> Learned:
    card, num_classes = images.card, images.num_classes
    if num_classes < 2:
        raise InputError(f"{card.title} has {num_classes} class; a probe needs two or more")
    is_multi_label = card.task == "multi_label"

    def labels(images_of_split: Encoded) -> np.ndarray:
        if not is_multi_label:
            return images_of_split.labels
        relevant, counted = relevance(images_of_split.metadata, num_classes)
        return np.ma.masked_array(relevant, ~counted)

    def measure(truth: np.ndarray, scores: np.ndarray) -> float:
        return point(card.metric, truth, scores)

    probe = LinearProbe(metric="default" if is_multi_label or card.metric == "accuracy" else measure, seed=seed)
    validation = None if images.val is None else (images.val.vectors, labels(images.val))
    probe.fit(images.train.vectors, labels(images.train), validation)
    weights = np.zeros((num_classes, probe.n_features_in_))
    bias = np.full(num_classes, _NEVER)
    if len(probe.coef_) == 1 and not is_multi_label:  # two classes: each gets half of the difference
        weights[probe.classes_], bias[probe.classes_] = (
            np.concatenate([-parameters, parameters]) / 2 for parameters in (probe.coef_, probe.intercept_)
        )
    else:
        weights[probe.classes_], bias[probe.classes_] = probe.coef_, probe.intercept_
    settings = {
        "lambda": probe.lambda_,
        "validation": HELD_OUT if images.val is None else "val",
        "train": len(images),
        "fits": len(probe.search_.trials) + 1 if probe.search_ else 1,
        "objective": probe.fitted_.objective,
        "steps": probe.fitted_.iterations,
        "excess": probe.fitted_.excess,
        "converged": probe.fitted_.converged,
    }
    if probe.search_ is not None and probe.search_.edge is not None:
        settings["search ends at"] = f"the {probe.search_.edge} penalty"
    if texts := images.deviations():
        settings["deviations"] = texts
    return Learned(dataclasses.replace(probe.fitted_, weights=weights, bias=bias), settings)


def _path(encoder: Any, images: TrainingSet, setting: Setting) -> Path | None:
    if setting.cache is None or not about(encoder).image_fingerprint:
        return None
    card, split_fingerprints = images.card, [images.train.fingerprint, images.val.fingerprint if images.val else None]
    content = [VERSION, *split_fingerprints, images.num_classes, card.metric, card.task, setting.seed]
    return (
        Path(setting.cache) / "probes" / f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]}.safetensors"
    )


def _write(learned: Learned, path: Path) -> None:
    """Cache a classifier; a failed write is only logged, since the result does not depend on it."""
    about = {name: json.dumps(value) for name, value in learned.settings.items()}
    tensors = {"weights": learned.fitted.weights, "bias": learned.fitted.bias}
    try:
        write_whole(path, safetensors.numpy.save(tensors, metadata=about))
    except OSError as error:
        _log.warning("the probe cannot be cached: %s", error)


def _read(path: Path, shape: tuple[int, int]) -> Learned:
    """Read a cached probe with weights of this shape; may raise any error if the file is broken."""
    num_numbers = shape[0] * (shape[1] + 1)
    if path.stat().st_size > 8 * num_numbers + _MOST_BESIDE:
        raise ValueError(f"it is larger than {shape[0]} classes of {shape[1]} numbers")
    with safetensors.safe_open(path, "numpy") as file:
        about = {name: json.loads(value) for name, value in file.metadata().items()}
        weights, bias = file.get_tensor("weights"), file.get_tensor("bias")
    if weights.shape != shape or bias.shape != shape[:1] or {weights.dtype, bias.dtype} != {np.dtype(np.float64)}:
        raise ValueError(f"{weights.dtype} and {bias.dtype} of the shapes {weights.shape} and {bias.shape}")
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise ValueError("it holds NaN or infinity")
    ends = (float(about["objective"]), float(about["excess"]), int(about["steps"]), bool(about["converged"]))
    return Learned(Fitted(weights, bias, float(about["lambda"]), *ends), about)
