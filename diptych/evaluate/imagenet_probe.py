"""Adaptation to ImageNet: a linear probe on ImageNet's training pictures, measured on the natural shifts.

The classifier is fitted once and kept; on each shift its 1,000 class scores are pooled as those of the static zero-shot
classifier are.

Source: CLIP paper, section 3.3 and figure 14.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch

from diptych.data.cards.card import Card
from diptych.data.cards.opening import open_card
from diptych.data.cards.table import get_card
from diptych.embed.encoder import Encoder
from diptych.evaluate.encoded import Encoded, encode_set
from diptych.evaluate.metrics import accuracy
from diptych.evaluate.probe.logistic import Fitted, fit_logistic, make_design
from diptych.evaluate.probe.rows import Chosen
from diptych.evaluate.probe.search import search_penalty, stratified_rows
from diptych.evaluate.robustness import judge, pooling, shift_results, subset_results
from diptych.evaluate.task import Setting, Task
from diptych.records import Result

PROTOCOL = "adapted to ImageNet"
VERSION = 1
"""Raised when the same features would give another classifier."""

HELD_OUT = 0.2
"""Share of each class on which the penalty is chosen."""

_ROWS_PER_BLOCK = 8192
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A linear classifier of ImageNet's classes.

    Attributes:
        weights: float32 (C, D).
        bias: float32 (C,).
        penalty: lambda, on the summed loss.
    """

    weights: np.ndarray
    bias: np.ndarray
    penalty: float

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Class scores, float32 (N, C), of features (N, D)."""
        return np.asarray(features, np.float32) @ self.weights.T + self.bias


Learn = Callable[[np.ndarray, np.ndarray, int], Classifier]
"""From features float32 (N, D), labels int64 (N,) and C to a classifier; it chooses the penalty itself."""


def learn_probe(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Classifier:
    """The linear probe of appendix A.3: the penalty that is best on a held-out fifth of each class, then all rows."""
    fitted_on, held_out = stratified_rows(labels, HELD_OUT, seed=0)
    held = Chosen(features, held_out)

    def judge_fit(fit: Fitted) -> float:
        blocks = range(0, len(held), _ROWS_PER_BLOCK)
        found = [fit.scores(held[start : start + _ROWS_PER_BLOCK]).argmax(axis=1) for start in blocks]
        return accuracy(labels[held_out], np.concatenate(found))

    design = make_design(Chosen(features, fitted_on))
    search, near = search_penalty(design, labels[fitted_on], num_classes, judge_fit)
    del design  # its rows would lie in memory twice
    (found,) = fit_logistic(features, labels, num_classes, [search.best.penalty], starts=[near])
    return Classifier(found.weights.astype(np.float32), found.bias.astype(np.float32), found.penalty)


def adapted_classifier(train: Encoded, num_classes: int, learn: Learn, cache: Path | None = None) -> Classifier:
    """Fit a classifier to a training split, or read what an earlier run kept.

    Args:
        train: features of the training pictures.
        num_classes: C.
        learn: the probe.
        cache: folder of kept classifiers; None keeps none.
    """
    content = json.dumps([VERSION, train.fingerprint, num_classes])
    path = cache / f"{hashlib.sha256(content.encode()).hexdigest()[:32]}.safetensors" if cache else None
    if path is not None and (kept := _read(path, num_classes, train.vectors.shape[1])) is not None:
        return kept
    made = learn(train.vectors, train.labels, num_classes)
    if path is not None:
        _write(made, path)
    return made


def probe_task(learn: Learn) -> Task:
    """The measurement on ImageNet's matching parts and on each shift; Results have the task "linear_probe"."""

    def measure(encoder: Encoder, card: Card, setting: Setting) -> list[Result]:
        train, test = open_card(get_card("ImageNet"), setting.data, "train"), open_card(card, setting.data, "test")
        kind = "features" if hasattr(encoder, "image_features") or hasattr(encoder, "pixel_features") else "embeddings"
        known, asked = (
            encode_set(encoder, one, kind, cache=setting.cache, num_workers=setting.num_workers)
            for one in (train, test)
        )
        cache = setting.cache / "probes" if setting.cache and getattr(encoder, "image_fingerprint", None) else None
        classifier = adapted_classifier(known, len(train.class_names), learn, cache)
        settings = {"lambda": classifier.penalty, "train_examples": len(known.labels)}
        if card.group != "shift":
            found = subset_results(encoder, test, asked, classifier.scores, task="linear_probe")
            return [dataclasses.replace(one, run={**one.run, "settings": settings}) for one in found]
        judged = judge(asked.vectors, classifier.scores, pooling(card.name))
        return shift_results(encoder, test, asked, judged, PROTOCOL, task="linear_probe", settings=settings)

    return Task(
        name="imagenet_probe",
        applies=lambda card: card.group == "shift" or card.name == "ImageNet",
        splits=lambda card: ("test",) if card.group == "shift" else ("train", "test"),
        measure=measure,
        needs_texts=False,
        others=lambda card: (("ImageNet", "train"),) if card.group == "shift" else (),
    )


IMAGENET_PROBE = probe_task(learn_probe)


def _write(made: Classifier, path: Path) -> None:
    """Keep a classifier; one that cannot be kept costs time, not the result."""
    tensors = {"weights": torch.from_numpy(made.weights), "bias": torch.from_numpy(made.bias)}
    unfinished = path.with_name(f".{path.stem}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(safetensors.torch.save(tensors, metadata={"penalty": repr(made.penalty)}))
        unfinished.replace(path)
    except OSError as error:
        _log.warning("the probe on ImageNet is not kept for the next run: %s", error)
        with contextlib.suppress(OSError):
            unfinished.unlink()


def _read(path: Path, num_classes: int, width: int) -> Classifier | None:
    """A kept classifier; None where there is none, or, with a notice, a broken one."""
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "numpy") as file:
            found = Classifier(file.get_tensor("weights"), file.get_tensor("bias"), float(file.metadata()["penalty"]))
        if found.weights.shape != (num_classes, width) or found.bias.shape != (num_classes,):
            raise ValueError(f"weights of shape {found.weights.shape}")
        return found
    except (OSError, KeyError, ValueError, TypeError, safetensors.SafetensorError) as error:
        _log.warning("the kept probe %s is broken (%s); it is fitted again", path, error)
        return None
