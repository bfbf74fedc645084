"""Measure few-shot learning on a set: the mean over several draws, and their range.

Examples are drawn from the training split together with the set's own validation split, if it has one: the training
sizes of table 9, on which the paper's probes learned, count both.

A natural shift of ImageNet has no training split of its own. For it, examples are drawn from ImageNet, and the
classifier of 1,000 classes is measured on the shift like the static zero-shot classifier (figure 15).

Source: CLIP paper, sections 3.1.5 and 3.3, figures 6, 7 and 15.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from diptych.embed.about import about, required_logit_scale
from diptych.embed.encoder import Encoder
from diptych.errors import InputError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.card import Card
from diptych.evalsets.cards import has_shifts, home_of
from diptych.evaluate.class_coverage import classes_shown, joined, note_tested, open_tested
from diptych.evaluate.encoded_set import Encoded, encode_set
from diptych.evaluate.metrics.classification import accuracy, accuracy_top_k, mean_per_class_accuracy
from diptych.evaluate.metrics.ranking import roc_auc
from diptych.evaluate.metrics.score import Score, of_repeats
from diptych.evaluate.probe.few_shot import CLASSIFIERS, Fit, draw_ranks, drawn_rows, fit_few_shot, possible_shots
from diptych.evaluate.probe.training_set import deviations, note_learned, open_training_set
from diptych.evaluate.scored_results import make_result
from diptych.evaluate.tasks.robustness import check_learned_by_card, judge, pooling, shift_results, subset_results
from diptych.evaluate.tasks.task import Measurement, Setting, Task, with_classes_of
from diptych.evaluate.tasks.zero_shot import words
from diptych.evaluate.zero_shot.class_embeddings import class_embeddings
from diptych.files import write_whole
from diptych.records import Result

DRAWS = "draws"
"""The protocol: each number is the mean over several draws of the examples."""
NUM_SEEDS = 3
VERSION = 3
"""Version of draws and choices; increased whenever the same vectors would give other classifiers."""

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Pool:
    """The examples to draw from.

    Attributes:
        train: vectors of the training split and of the set's own validation split.
        num_classes: C.
        zero_shot: float32 (C, E), class embeddings times logit_scale; None for classifiers that do not need them.
        cache: folder of cached classifiers; None caches none.
        splits: the splits in `train`, in words.
        deviations: descriptions of differences from the paper's examples.
        classes: the note for Results about classes without images; see `shown_classes.py`.
    """

    train: Encoded
    num_classes: int
    zero_shot: np.ndarray | None = None
    cache: Path | None = None
    splits: str = "train"
    deviations: tuple[str, ...] = ()
    classes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def learn(self, classifier: str, shots: int, seed: int, ranks: np.ndarray) -> Fit:
        """Learn one of the CLASSIFIERS from the k-shot draw of a seed, or read it from the cache.

        Args:
            ranks: int64 (N,), from `draw_ranks` with this seed.
        """
        path = self._path(classifier, shots, seed)
        if path is not None and (kept := _read(path)) is not None:
            return kept
        labels = self.train.labels
        rows = drawn_rows(ranks, labels, shots)
        vectors = np.array(self.train.vectors[np.sort(rows)])[np.argsort(np.argsort(rows))]  # reads a file sequentially
        fit = fit_few_shot(classifier, vectors, labels[rows], self.num_classes, shots, zero_shot=self.zero_shot)
        if path is not None:
            _write(fit, path)
        return fit

    def _path(self, classifier: str, shots: int, seed: int) -> Path | None:
        if self.cache is None:
            return None
        start = None if self.zero_shot is None else hashlib.sha256(self.zero_shot.tobytes()).hexdigest()
        content = [VERSION, self.train.fingerprint, self.num_classes, start, classifier, shots, seed]
        return self.cache / f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]}.safetensors"


def few_shot_results(
    encoder: Encoder,
    pool: Pool,
    benchmark: Benchmark,
    test: Encoded,
    classifiers: Sequence[str],
    seed: int = 0,
    *,
    task: str = "few_shot",
) -> list[Result]:
    """Learn from NUM_SEEDS draws of each possible size, and measure the classifiers on a test split.

    Args:
        encoder: the encoder of the vectors.
        pool: training examples.
        benchmark: the test split; may be a natural shift if the pool is ImageNet's.
        test: its vectors, of the same kind as the pool's.
        classifiers: some of CLASSIFIERS, all for vectors of this kind.
        seed: seed of the first draw; the others count up from it.
    Returns:
        For each metric and condition ({"classifier": "probe", "shots": 16}), the mean over the draws; low and high are
        their range.
    """
    sizes = np.bincount(pool.train.labels)
    seeds = [seed + draw for draw in range(NUM_SEEDS)]
    ranks = {draw_seed: draw_ranks(pool.train.keys, pool.train.labels, draw_seed) for draw_seed in seeds}
    results = []
    for shots in possible_shots(pool.train.labels):
        for classifier in classifiers:
            fits = [pool.learn(classifier, shots, draw_seed, ranks[draw_seed]) for draw_seed in seeds]
            settings: dict[str, Any] = {
                "shots": shots,
                "seeds": seeds,
                "lambda": [fit.penalty for fit in fits],
                "choice": fits[0].choice,
                "train_examples": len(pool.train.labels),
                "examples_per_class": float(sizes[sizes > 0].mean()),
                "width": int(pool.train.vectors.shape[1]),
                "drawn_from": pool.splits,
                **pool.classes,
            }
            if pool.deviations:
                settings["deviations"] = list(pool.deviations)
            if fits[0].share is not None:
                settings["share"] = [fit.share for fit in fits]
            how = {"task": task, "protocol": DRAWS, "condition": {"classifier": classifier, "shots": shots}}
            measured = [_measured(encoder, benchmark, test, fit, how) for fit in fits]
            results += [over_draws(of_draws, settings) for of_draws in zip(*measured, strict=True)]
    return results


def over_draws(results: Sequence[Result], settings: dict[str, Any]) -> Result:
    """Combine the Results of several draws: their mean, with their range as the interval."""
    values = [result.value for result in results]
    run = {**results[0].run, "settings": {**results[0].run.get("settings", {}), **settings, "values": values}}
    mean = of_repeats(values, results[0].n, f"range of {len(values)} seeds")
    return dataclasses.replace(
        results[0], value=mean.value, low=mean.low, high=mean.high, interval=mean.interval, run=run
    )


def _measured(
    encoder: Encoder, benchmark: Benchmark, test: Encoded, fit: Fit, how: Mapping[str, Any]
) -> Iterator[Result]:
    """The Results of one classifier: the card's metric; on ImageNet, also on the parts that match its shifts."""
    card = benchmark.card
    if card is not None and card.shift_of is not None:
        judged = judge(test, fit.scores, pooling(card))
        yield from shift_results(encoder, benchmark, test, judged, **how)
        return
    metric = card.metric if card else "accuracy"
    value = Score(point(metric, test.labels, fit.scores(test.vectors)), len(test.labels))
    yield make_result(
        dataset=benchmark.name,
        split=benchmark.split,
        metric=metric,
        score=value,
        encoder=encoder,
        fingerprint=benchmark.fingerprint,
        settings={"broken": test.num_broken} if test.num_broken else None,
        **how,
    )
    if card is not None and has_shifts(card) and not benchmark.differs:  # otherwise its parts are not known
        yield from subset_results(encoder, benchmark, test, fit.scores, **how)


def point(metric: str, labels: np.ndarray, scores: np.ndarray) -> float:
    """A metric without interval, since the range of the draws serves as one; top 5 of fewer classes means all of them.

    Raises:
        InputError: the metric is not one for classification, or a score is not finite.
    """
    if not np.isfinite(scores).all():
        raise InputError("scores of a few-shot classifier hold NaN or infinity; check the vectors")
    if metric == "accuracy":
        return accuracy(labels, scores)
    if metric == "mean_per_class_accuracy":
        return mean_per_class_accuracy(labels, scores)
    if metric == "mean_of_top_1_and_5":
        return (accuracy(labels, scores) + accuracy_top_k(labels, scores, min(5, scores.shape[1]))) / 2
    if metric == "roc_auc" and scores.shape[1] == 2:
        return roc_auc(labels == 1, scores[:, 1] - scores[:, 0])
    raise InputError(f"few-shot learning of {scores.shape[1]} classes is not measured by {metric}")


def _measure(task: str, encoder: Encoder, card: Card, setting: Setting, classifiers: Sequence[str]) -> Measurement:
    home = home_of(card)
    train, test = open_tested(home, setting, "train"), open_tested(card, setting)
    if card.shift_of is not None:
        check_learned_by_card(train, test)
    else:
        test = with_classes_of(train, test)
    cache = setting.cache if about(encoder).image_fingerprint else None
    zero_shot = None
    if classifiers != ("probe",):
        prompts = words(train, "ensemble")
        folder = setting.classifiers
        embeddings = class_embeddings(encoder, prompts.names, prompts.ensembles[0], cache_folder=folder)
        zero_shot = embeddings.numpy() * np.float32(required_logit_scale(encoder))
    kind = about(encoder).probe_vectors if zero_shot is None else "embeddings"
    images = open_training_set(encoder, home, setting, kind)
    tested = encode_set(encoder, test, kind, cache=setting.cache, num_workers=setting.num_workers)
    classes = joined(note_tested(test, tested, setting), note_learned(images, test, classes_shown(tested), setting))
    pool = Pool(
        images.joined(),
        images.num_classes,
        zero_shot,
        cache / "few_shot" if cache else None,
        splits="train" if images.val is None else "train and validation",
        deviations=tuple(deviations(home, len(images), has_validation=True)),
        classes=classes,
    )
    for deviation in pool.deviations:
        _log.warning("%s: draws %s", home.title, deviation)
    return Measurement(few_shot_results(encoder, pool, test, tested, classifiers, setting.seed, task=task))


def _applies(card: Card) -> bool:
    if card.shift_of is not None:
        return True
    return card.task in ("classification", "video") and card.num_classes > 1 and "train" in card.splits


def _splits(card: Card) -> tuple[str, ...]:
    return ("test",) if card.shift_of is not None else ("train", "val", "test")


def _others(card: Card) -> tuple[tuple[str, str], ...]:
    return ((card.shift_of, "train"),) if card.shift_of is not None else ()


FEW_SHOT = Task(
    name="few_shot",
    applies=_applies,
    splits=_splits,
    measure=lambda encoder, card, setting: _measure("few_shot", encoder, card, setting, CLASSIFIERS[:1]),
    version=3,  # 2 was wrong if classes have no example
    needs_texts=False,
    others=_others,
)
"""The probe on features (on embeddings if an encoder has no features); an image-only encoder suffices."""

FEW_SHOT_FROM_TEXTS = Task(
    name="few_shot_from_texts",
    applies=_applies,
    splits=_splits,
    measure=lambda encoder, card, setting: _measure("few_shot_from_texts", encoder, card, setting, CLASSIFIERS[1:]),
    version=3,  # 2 was wrong if classes have no example
    others=_others,
)
"""The two classifiers that start from zero-shot, on embeddings."""


def _write(fit: Fit, path: Path) -> None:
    """Cache a classifier; a failed write is only logged, since the result does not depend on it."""
    about = {"penalty": repr(fit.penalty), "share": json.dumps(fit.share), "choice": fit.choice}
    tensors = {"weights": torch.from_numpy(fit.weights), "bias": torch.from_numpy(fit.bias)}
    try:
        write_whole(path, safetensors.torch.save(tensors, metadata=about))
    except OSError as error:
        _log.warning("a few-shot classifier cannot be cached: %s", error)


def _read(path: Path) -> Fit | None:
    if not path.exists():
        return None
    try:
        with safetensors.safe_open(path, "numpy") as file:
            about = file.metadata()
            weights, bias = file.get_tensor("weights"), file.get_tensor("bias")
        if weights.ndim != 2 or bias.shape != weights.shape[:1]:
            raise ValueError(f"shapes {weights.shape} and {bias.shape}")
        return Fit(weights, bias, float(about["penalty"]), json.loads(about["share"]), about["choice"])
    except (OSError, KeyError, ValueError, TypeError, safetensors.SafetensorError) as error:
        _log.warning("the kept few-shot classifier %s is broken (%s); it is learned again", path, error)
        return None
